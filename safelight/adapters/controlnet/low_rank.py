"""Control-LoRA: a ControlNet that stands on the weights of a model's own U-Net and holds what differs, at a low rank.

What the file holds in full is its own; every other number is the U-Net's, in the same memory; and where it holds ``up``
and ``down`` the layer's weight is that number and their product. Source: the released files of Stability AI (2023, no
paper), in the names of the original code: R rank, ``down`` [R, I] or [R, I, K, K], ``up`` [O, R] or [O, R, 1, 1].
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path

import torch
from torch import Tensor, nn

from safelight.adapters.controlnet.model import ControlNet, ControlNetConfig
from safelight.adapters.fitting import title
from safelight.adapters.lora.attach import Beside
from safelight.errors import ConfigError, RequestError, WeightsError
from safelight.families.sd.model import UNet, UNetConfig
from safelight.nn import surgery
from safelight.weights.load import ROWS, fill, unfilled
from safelight.weights.variants import tables_of

MARKER = "lora_controlnet"
"""An empty tensor by which these files are known."""
CROSS = ".attn2.to_k.down"
HINT = "input_hint_block."


def stand_on(unet: UNet, tensors: Mapping[str, Tensor], path: Path, name: str) -> ControlNet:
    """The control network of a file, on a U-Net: its layers hold the U-Net's own parameters, not copies.

    Args:
        tensors: of the file. path: for errors. name: of the record of what is attached.

    Raises:
        RequestError: it was made for another model.
        WeightsError: a name of the file belongs to nothing, something is missing, or a shape does not fit.
    """
    given = {key: tensor.to(unet.conv_in.weight) for key, tensor in tensors.items() if key != MARKER}
    width = next((tensor.shape[-1] for key, tensor in given.items() if key.endswith(CROSS)), 0)
    if width and width != unet.config.cross_attention_dim:
        made, here = title(UNetConfig(cross_attention_dim=width)), title(unet.config)
        raise RequestError(f"ControlNet {name} was made for {made}, this model is {here}; use one that was made for it")
    try:
        config = _config(unet.config, given)
        network = unfilled({}, lambda _: ControlNet(config))
        names = _names(network)
        factors = {key: given.pop(key) for key in list(given) if key.endswith((".up", ".down"))}
        own = {names[key]: tensor for key, tensor in given.items() if key in names}
        lost = [key for key in given if key not in names]
        lost += [key for key in factors if f"{key.rpartition('.')[0]}.weight" not in names]
        if lost:
            raise WeightsError(_table(f"{len(lost)} tensors belong to nothing", [f"unexpected  {key}" for key in lost]))
        base = {key: p for key, p in unet.named_parameters() if key in network.state_dict() and key not in own}
        fill(network, {**base, **own})
    except (ConfigError, WeightsError) as error:
        raise WeightsError(f"{path}: {error}") from error
    changes = {}
    for stem in dict.fromkeys(key.rpartition(".")[0] for key in factors):
        layer = names[f"{stem}.weight"].removesuffix(".weight")
        changes[layer] = _beside(path, stem, factors, network.get_submodule(layer), name)
    surgery.attach(network, surgery.Record(name, "control-lora"), changes)
    return network.eval()


def _config(unet: UNetConfig, given: Mapping[str, Tensor]) -> ControlNetConfig:
    """The shape of the U-Net, and of the hint's layers as they are in the file.

    Raises:
        WeightsError: it holds none.
    """
    places = sorted(
        int(key.split(".")[1])
        for key in given
        if key.startswith(HINT) and key.endswith(".weight") and given[key].ndim == 4
    )
    layers = [given[f"{HINT}{place}.weight"] for place in places]
    if len(layers) < 2 or places[0] != 0:
        raise WeightsError(f"has no layers that read a hint ({HINT}0.weight)")
    settings = {each.name: getattr(unet, each.name) for each in fields(UNetConfig)}
    settings |= {"in_channels": min(unet.in_channels, unet.out_channels), "time_cond_proj_dim": None}
    settings["conditioning_channels"] = layers[0].shape[1]
    settings["conditioning_embedding_out_channels"] = (len(layers[0]), *(len(each) for each in layers[2:-1:2]))
    return ControlNetConfig(**settings)


def _names(network: nn.Module) -> dict[str, str]:
    """The name in the file of every parameter -> its own."""
    plan = tables_of("sd").keys.parts["controlnet"].to_theirs(network.state_dict())
    return {move.theirs: move.ours[0] for move in plan.moves}


def _beside(path: Path, stem: str, factors: Mapping[str, Tensor], layer: nn.Module, name: str) -> Beside:
    """What is computed beside one layer.

    Raises:
        WeightsError: half of it is missing, or it is not of the layer's shape.
    """
    up, down = factors.get(f"{stem}.up"), factors.get(f"{stem}.down")
    if up is None or down is None:
        missing = f"{stem}.{'up' if up is None else 'down'}"
        raise WeightsError(f"{path}: {_table('a change without its other half', [f'missing     {missing}'])}")
    weight = layer.weight
    assert isinstance(weight, Tensor)
    convolves = weight.ndim == 4
    wanted = {"down": (down.shape[0], *weight.shape[1:]), "up": (len(weight), down.shape[0], *(1, 1) * convolves)}
    wrong = [
        f"shape       {stem}.{role} is {tuple(found.shape)}, not {wanted[role]}"
        for role, found in (("down", down), ("up", up))
        if tuple(found.shape) != wanted[role]
    ]
    if wrong:
        raise WeightsError(f"{path}: {_table('a change is not of its layer', wrong)}")
    one = torch.ones((), dtype=weight.dtype, device=weight.device)
    return Beside(name, "", {"up": up, "down": down}, one, live=False)


def _table(said: str, rows: list[str]) -> str:
    more = f"\n  … and {len(rows) - ROWS} more" if len(rows) > ROWS else ""
    return said + "".join(f"\n  {row}" for row in rows[:ROWS]) + more
