"""Read and write the network of a preset, in the names of the original files or in those of released folders.

Original files (``model.diffusion_model.*``) and the folders of ashawkey/mvdream_diffusers (the same names with nothing
before them) are translated by the rules of Stable Diffusion's ``keys.toml``; a folder of a stock U-Net has its own
names, and so has that of a fork (see `safelight.multiview.fork`). What else a whole file holds (autoencoder, text
encoder) must be understood too, but is not read here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from safelight.adapters.ip_adapter.model import PLUS, IpNetwork, Plan, numbered
from safelight.errors import ConfigError, WeightsError
from safelight.families.sd import shape
from safelight.families.sd.model import UNet, UNetConfig
from safelight.multiview import fork
from safelight.multiview.guess import guessing
from safelight.multiview.layouts import Layout, layout
from safelight.multiview.network import ViewNetwork, widened
from safelight.multiview.presets import Preset
from safelight.multiview.second import Second, seconded
from safelight.weights.folder import read_json, weight_files
from safelight.weights.keys import matches
from safelight.weights.load import Unfilled, fill, read
from safelight.weights.moves import to_ours, to_theirs
from safelight.weights.variants import tables_of

ORIGINAL: Final = "model.diffusion_model."
PREFIXES: Final = (ORIGINAL, "diffusion_model.", "")
BESIDE: Final = (
    ("first_stage_model.", "vae"),
    ("vae_model.", "vae"),
    ("cond_stage_model.model.", "openclip"),
    ("clip_model.model.", "openclip"),
    ("cond_stage_model.transformer.", "clip"),
    ("clip_model.transformer.", "clip"),
)
"""Beginnings of names in a whole file that belong to other parts, and the tables that know the rest of them."""
VISION: Final = ("clip_model.model.visual.*", "cond_stage_model.model.visual.*")
"""An image encoder in the names of OpenCLIP, which some of these files bring; here it is a folder of its own."""
IMAGE, PAIRS = "image_embed.", (".attn2.to_k_ip.", ".attn2.to_v_ip.")
WRAPPER = "MultiViewUNetModel"
"""``_class_name`` of the folders of ashawkey/mvdream_diffusers."""
SAMPLE = 32


def load_views(
    path: Path, preset: Preset, *, cameras: Any = None, variant: str = "", pickles: bool = False
) -> ViewNetwork:
    """The network of a preset, in evaluation mode, its tensors mapped, in the dtype of the file, on the CPU.

    Args:
        path: a file, the folder of a U-Net, or a folder that has one in ``unet``.
        cameras: for a preset whose layout reads along their lines.
        variant, pickles: see `safelight.weights.folder.weight_files`.

    Raises:
        WeightsError: a file is missing or unreadable, or a tensor is missing, unexpected or of another shape.
        ConfigError: ``config.json`` says what the preset is not, or describes no U-Net.
    """
    try:
        raw, tensors = _read(path, variant, pickles)
        return build(preset, released(tensors), raw, layout(preset.layout, cameras, preset.slot))
    except (WeightsError, ConfigError) as error:
        raise error if str(path) in str(error) else type(error)(f"{path}: {error}") from error


def build(preset: Preset, tensors: Mapping[str, Tensor], raw: Mapping[str, Any], laid: Layout) -> ViewNetwork:
    """The network of a preset, filled.

    Args:
        tensors: under the names of a stock U-Net, with ``image_embed.*`` and ``attn2.to_k_ip`` beside.
        raw: ``config.json``; empty where there is none.

    Raises:
        WeightsError, ConfigError: see `load_views`.
    """
    own = {name: tensor for name, tensor in tensors.items() if name.startswith(IMAGE) or _pair(name)}
    rest = {name: tensor for name, tensor in tensors.items() if name not in own}
    config = _config(preset, rest, raw)
    with torch.device("meta"), Unfilled():
        unet = UNet(config)
        if preset.shown or preset.maps:  # the channels beside the latents are read apart, trained or not
            extra = config.in_channels - config.out_channels
            unet = widened(UNet(replace(config, in_channels=config.out_channels)), extra)
        second = Second(preset.second["name"], layout(preset.second["layout"])) if preset.second else None
        unet = seconded(unet, second.name) if second else unet
        unet = guessing(unet, preset.guesses, len(preset.domains)) if preset.guesses else unet
    fill(unet, rest)
    picture = _picture(preset, unet, own)
    made = ViewNetwork(
        unet,
        laid,
        picture,
        slot=preset.slot,
        domains=len(preset.domains),
        second=second,
        guesses=preset.guesses > 0,
        embedded=preset.picture == "time",
        picture_scale=float(raw.get("ip_weight", 1.0)),
    )
    return made.eval()


def released(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a file under the names of a stock U-Net, whatever its layout.

    Raises:
        WeightsError: names that belong to nothing; says which.
    """
    keys = tables_of("sd").keys
    table = keys.parts["unet"]
    prefix = next((each for each in PREFIXES if each + table.marker in tensors), None)
    if prefix is None:
        return dict(tensors)
    inside = [name for name in tensors if name.startswith(prefix)]
    beside = [name for name in tensors if not name.startswith(prefix)]
    plan = table.to_ours(name.removeprefix(prefix) for name in inside if not (not prefix and keys.passes(name)))
    left = [prefix + name for name in plan.left] + _strange(beside)
    if left:
        rows = "\n".join(f"  unexpected  {name}" for name in left[:8])
        more = f"\n  … and {len(left) - 8} more" if len(left) > 8 else ""
        raise WeightsError(f"{len(left)} tensors belong to nothing that is known of these networks\n{rows}{more}")
    return to_ours(tensors, plan.moves, prefix)


def original(network: ViewNetwork) -> dict[str, Tensor]:
    """The tensors of a network under the names of an original file.

    Raises:
        WeightsError: one that those files have no name for.
    """
    tensors = stock(network)
    plan = tables_of("sd").keys.parts["unet"].to_theirs(tensors)
    if plan.left:
        raise WeightsError(f"{plan.left[0]} has no name in original files; write a released folder")
    return to_theirs(tensors, plan.moves, ORIGINAL)


def stock(network: ViewNetwork) -> dict[str, Tensor]:
    """The tensors of a network under the names of a stock U-Net, ``image_embed.*`` and ``attn2.to_k_ip`` beside."""
    made = dict(network.unet.state_dict())
    if network.picture is not None:
        layers = numbered(network.unet)
        for name, tensor in network.picture.state_dict().items():
            part, number, rest = (*name.split(".", 2), "", "")[:3]
            made[IMAGE + name.partition(".")[2] if part == "image_proj" else f"{layers[int(number)].name}.{rest}"] = (
                tensor
            )
    return made


def _read(path: Path, variant: str, pickles: bool) -> tuple[dict[str, Any], dict[str, Tensor]]:
    if not path.is_dir():
        return {}, read(path, pickles=pickles)
    folder = path / "unet" if (path / "unet").is_dir() else path
    return read_json(folder / "config.json"), read(weight_files(folder, variant, pickles=pickles), pickles=pickles)


def _strange(names: Iterable[str]) -> list[str]:
    """Those names outside of the U-Net that are of no other part of a whole file either."""
    keys, sd2 = tables_of("sd").keys, tables_of("sd").variant("sd2")
    left = [name for name in names if not keys.passes(name) and not matches(name, VISION)]
    for prefix, table in BESIDE:
        inside = [name.removeprefix(prefix) for name in left if name.startswith(prefix)]
        known = set(inside) - set(keys.parts[table].to_ours(inside).left)
        known |= {name for name in inside if matches(f"cond_stage_model.model.{name}", sd2.unread)}
        left = [name for name in left if not (name.startswith(prefix) and name.removeprefix(prefix) in known)]
    return left


def _config(preset: Preset, tensors: Mapping[str, Tensor], raw: Mapping[str, Any]) -> UNetConfig:
    """The configuration of the U-Net: a stock folder's own, else from the shapes of its tensors."""
    raw = fork.stock(raw, preset) if raw.get("_class_name") == fork.CLASS else raw
    stock_folder = raw and raw.get("_class_name") != WRAPPER
    facts = {"sample_size": SAMPLE, ("heads" if preset.heads_fixed else "width_of_head"): preset.heads}
    try:
        made = dict(raw) if stock_folder else shape.unet({n: tuple(t.shape) for n, t in tensors.items()}, facts)
    except (KeyError, IndexError, ValueError, ZeroDivisionError) as error:
        raise WeightsError(f"the U-Net lacks the tensors that its sizes are read from ({error})") from None
    width = preset.told or None
    told = {"class_embed_type": "projection" if width else None, "projection_class_embeddings_input_dim": width}
    for key, value in told.items():
        if stock_folder and made.get(key) != value:
            raise ConfigError(f"config.json says {key} = {made.get(key)!r}; {preset.title} has {value!r}")
    config = UNetConfig.from_dict({**made, **told})
    count = preset.maps + (1 + len(preset.shown)) * config.out_channels
    if config.in_channels != count:
        what = " and ".join(("latents", *["a map of the camera"] * bool(preset.maps), *preset.shown))
        raise WeightsError(
            f"its first layer reads {config.in_channels} channels; {preset.title} reads {count}, {what}"
            " (to train from a model without them, load that and widen it)"
        )
    _agrees(preset, config, raw)
    return config


def _agrees(preset: Preset, config: UNetConfig, raw: Mapping[str, Any]) -> None:
    """ConfigError where a folder of mvdream_diffusers says otherwise than its tensors, or than the preset."""
    if raw.get("_class_name") != WRAPPER:
        return
    first = config.block_out_channels[0]
    head = -1 if preset.heads_fixed else preset.heads
    said = {
        "model_channels": first,
        "channel_mult": [width // first for width in config.block_out_channels],
        "in_channels": config.in_channels,
        "out_channels": config.out_channels,
        "num_res_blocks": config.layers_per_block,
        "num_head_channels": head,
        "context_dim": config.cross_attention_dim,
        "camera_dim": preset.camera_width or None,
        "ip_dim": preset.tokens,
        "transformer_depth": 1,
        "num_classes": None,
        "n_embed": None,
    }
    for key, value in said.items():
        if key in raw and raw[key] != value:
            raise ConfigError(
                f"config.json says {key} = {str(raw[key])[:60]}; these weights and {preset.title} {value}"
            )


def _picture(preset: Preset, unet: UNet, own: Mapping[str, Tensor]) -> IpNetwork | None:
    """What reads the image encoder, filled; None where the preset has none."""
    if not preset.tokens:
        if own:
            raise WeightsError(
                f"{next(iter(own))} belongs to a model that reads a picture, which {preset.title} is not"
            )
        return None
    layers = {number: layer for number, layer in enumerate(numbered(unet)) if layer.name.endswith("attn2")}
    numbers = {layer.name: number for number, layer in layers.items()}
    inner = own.get(f"{IMAGE}proj_in.weight")
    depth = len({name.split(".")[2] for name in own if name.startswith(f"{IMAGE}layers.")})
    if inner is None or inner.ndim != 2 or not depth:
        raise WeightsError(f"lacks {IMAGE}proj_in.weight or its layers, by which {preset.title} reads a picture")
    text, widths = (
        unet.config.cross_attention_dim,
        {number: layer.to_q.out_features for number, layer in layers.items()},
    )
    told = Plan(PLUS, text, preset.hidden, 0, preset.tokens, len(inner), depth, widths, {}, preset.token_heads)
    with torch.device("meta"), Unfilled():
        network = IpNetwork(told)
    renamed: dict[str, Tensor] = {}
    for name, tensor in own.items():
        layer, _, rest = name.rpartition(".attn2.")
        place = f"ip_adapter.{numbers.get(f'{layer}.attn2', name)}.{rest}"
        renamed[f"image_proj.{name.removeprefix(IMAGE)}" if name.startswith(IMAGE) else place] = tensor
    fill(network, renamed)
    return network


def _pair(name: str) -> bool:
    return any(part in name for part in PAIRS)
