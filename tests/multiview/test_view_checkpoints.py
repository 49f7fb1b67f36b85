"""Networks of views load from every layout they were released in, strictly, and are written back under their names."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint
from torch import Tensor

from safelight.adapters.ip_adapter.model import PLUS, IpNetwork, Plan, numbered
from safelight.errors import ConfigError, WeightsError
from safelight.families.sd.model import UNet, UNetConfig
from safelight.multiview.checkpoints import ORIGINAL, build, load_views, original, released, stock
from safelight.multiview.layouts import layout
from safelight.multiview.network import ViewNetwork, widened
from safelight.multiview.presets import preset
from safelight.weights.save import save
from safelight.weights.variants import tables_of
from tests.parity.networks import difference
from tests.parity.views import TEXT, TOKENS, Reference, asked, config, ours, tiny

NAMES = ("mvdream", "mvdream-1.5", "imagedream", "gaf")
BESIDE = {
    "mvdream": ["first_stage_model.encoder.conv_in.weight", "cond_stage_model.model.ln_final.weight",
                "cond_stage_model.model.transformer.resblocks.23.ln_1.weight", "cond_stage_model.model.attn_mask"],
    "mvdream-1.5": ["cond_stage_model.transformer.text_model.final_layer_norm.weight"],
    "imagedream": ["vae_model.decoder.conv_in.weight", "clip_model.model.ln_final.weight",
                   "clip_model.model.visual.conv1.weight", "clip_model.model.text_projection"],
    "gaf": [],
}  # fmt: skip
"""Names of other parts in a whole file, and what training left there."""
LEFT = ("betas", "alphas_cumprod", "model_ema.decay")


@cache
def reference(name: str) -> Reference:
    return Reference(tiny(name))


@cache
def tensors(name: str) -> dict[str, Tensor]:
    """A whole original file."""
    made = original(ours(reference(name)))
    return made | {each: torch.zeros(3) for each in (*BESIDE[name], *LEFT)}


def wrapper(name: str) -> dict[str, Any]:
    """``config.json`` of a folder of mvdream_diffusers."""
    told = tiny(name)
    return {
        "_class_name": "MultiViewUNetModel",
        "_diffusers_version": "0.21.0",
        "attention_resolutions": [1],
        "camera_dim": 16,
        "channel_mult": [1, 2],
        "context_dim": TEXT,
        "image_size": 32,
        "in_channels": 4 * (1 + len(told.shown)),
        "ip_dim": TOKENS if told.tokens else 0,
        "ip_weight": 1.0,
        "model_channels": 32,
        "num_head_channels": -1 if told.heads_fixed else 16,
        "num_res_blocks": 2,
        "out_channels": 4,
        "transformer_depth": 1,
        "use_checkpoint": False,
    }


def written(name: str, kind: str, place: Path, **change: Any) -> Path:
    """One of the three layouts."""
    if kind == "original":
        save(tensors(name), place / "model.safetensors")
        return place / "model.safetensors"
    folder = place / "unet"
    folder.mkdir(parents=True)
    if kind == "bare":
        told = wrapper(name) | change
        held = {k.removeprefix(ORIGINAL): v for k, v in tensors(name).items() if k.startswith(ORIGINAL)}
    else:
        told = {"_class_name": "UNet2DConditionModel", **config(tiny(name)), **change}
        held = reference(name).tensors()
    (folder / "config.json").write_text(json.dumps(told))
    save(held, folder / "diffusion_pytorch_model.safetensors")
    return place


@pytest.mark.parametrize("kind", ["original", "bare", "stock"])
@pytest.mark.parametrize("name", NAMES)
def test_every_layout_is_read_as_the_same_network(name: str, kind: str, tmp_path: Path) -> None:
    net = load_views(written(name, kind, tmp_path), tiny(name))
    assert not net.training
    with torch.no_grad():
        assert difference(net(*asked(tiny(name))), reference(name)(*asked(tiny(name)))) <= 1e-9
    back = stock(net)
    wanted = reference(name).tensors()
    assert back.keys() == wanted.keys() and all(torch.equal(back[key], wanted[key]) for key in wanted)
    whole = {key: value for key, value in tensors(name).items() if key.startswith(ORIGINAL)}
    again = original(net)
    assert again.keys() == whole.keys() and all(torch.equal(again[key], whole[key]) for key in whole)


def test_original_names_are_those_of_the_public_code() -> None:
    names = tensors("imagedream").keys()
    for inside in ("camera_embed.0.weight", "camera_embed.2.bias", "image_embed.latents", "time_embed.0.weight",
                   "image_embed.layers.1.0.to_kv.weight", "image_embed.layers.1.1.3.weight",
                   "image_embed.norm_out.bias",
                   "input_blocks.1.1.transformer_blocks.0.attn2.to_k_ip.weight",
                   "middle_block.1.transformer_blocks.0.attn2.to_v_ip.weight",
                   "output_blocks.3.1.transformer_blocks.0.attn2.to_k_ip.weight"):  # fmt: skip
        assert ORIGINAL + inside in names, inside
    assert sum("_ip.weight" in name for name in names) == 2 * 6
    assert "model.diffusion_model.image_embed.latents" not in tensors("mvdream")


@pytest.mark.parametrize("name", ["mvdream", "mvdream-1.5"])
def test_names_translate_as_the_references_own_converter_translates_them(name: str) -> None:
    held = tensors(name)
    theirs = {}
    for key, value in held.items():  # that converter knows the same layer as label_emb only
        theirs[key.replace("camera_embed.", "label_emb.0.")] = value
    found = convert_ldm_unet_checkpoint(theirs, {**config(tiny(name)), "layers_per_block": 2})
    wanted = reference(name).tensors()
    assert found.keys() == wanted.keys() and all(torch.equal(found[key], wanted[key]) for key in wanted)
    assert released(held).keys() == wanted.keys()


@pytest.mark.parametrize("kind", ["original", "bare", "stock"])
@pytest.mark.parametrize("harm", ["missing", "renamed", "bent", "more"])
def test_a_tensor_that_is_missing_renamed_bent_or_too_many_is_refused(harm: str, kind: str, tmp_path: Path) -> None:
    name = "imagedream"
    place = written(name, kind, tmp_path)
    file = place if place.is_file() else place / "unet/diffusion_pytorch_model.safetensors"
    held = tensors(name) if kind == "original" else {}
    if kind == "bare":
        held = {k.removeprefix(ORIGINAL): v for k, v in tensors(name).items() if k.startswith(ORIGINAL)}
    held = dict(held or reference(name).tensors())
    words = ["camera_embed.0.weight", "class_embedding.linear_1.weight", "attn2.to_k.weight", "conv_norm_out.weight"]
    words += ["input_blocks.0.0.weight", "time_embed.0.bias", "image_embed.latents"]
    words += ["attn2.to_v_ip.weight", "image_embed.proj_out.bias"]
    tried = 0
    for word in words:
        key = next((each for each in held if each.endswith(word)), None)
        if key is None:
            continue
        tried += 1
        value, broken = held[key], dict(held)
        del broken[key]
        if harm == "renamed":
            broken[f"{key}.not"] = value
        if harm == "bent":
            broken[key] = value[:-1].clone() if len(value) > 1 else torch.zeros(2, *value.shape[1:])
        if harm == "more":
            broken[key], broken[f"{key}.gain"] = value, torch.zeros(2)
        file.unlink()
        save(broken, file)
        with pytest.raises((WeightsError, ConfigError)) as refused:
            load_views(place, tiny(name))
        assert str(tmp_path) in str(refused.value).splitlines()[0], (word, refused.value)
    assert tried >= 5


@pytest.mark.parametrize(
    ("file", "asked_for", "message"),
    [
        ("imagedream", "mvdream", "reads a picture, which MVDream"),
        ("mvdream", "imagedream", "lacks image_embed.proj_in.weight"),
        ("imagedream", "gaf", "reads 4 channels; GAF.*widen it"),
        ("gaf", "imagedream", "reads 8 channels"),
    ],
)
def test_a_file_of_another_preset_is_refused(file: str, asked_for: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=message):
        load_views(written(file, "original", tmp_path), tiny(asked_for))


def test_a_plain_network_is_no_network_of_views(tmp_path: Path) -> None:
    held = {key: value for key, value in tensors("mvdream").items() if "camera_embed" not in key}
    save(held, tmp_path / "plain.safetensors")
    with pytest.raises(WeightsError, match="linear_1"):
        load_views(tmp_path / "plain.safetensors", tiny("mvdream"))


def test_what_a_folder_says_of_itself_must_be_so(tmp_path: Path) -> None:
    for number, (key, value) in enumerate(
        {"num_head_channels": 8, "camera_dim": 12, "ip_dim": 4, "channel_mult": [1, 4], "n_embed": 3}.items()
    ):
        place = tmp_path / str(number)
        with pytest.raises(ConfigError, match=f"{key} = "):
            load_views(written("imagedream", "bare", place, **{key: value}), tiny("imagedream"))
    with pytest.raises(ConfigError, match="projection_class_embeddings_input_dim = 12"):
        load_views(
            written("mvdream", "stock", tmp_path / "stock", projection_class_embeddings_input_dim=12), tiny("mvdream")
        )


def test_how_much_a_picture_counts_is_read_from_the_folder(tmp_path: Path) -> None:
    assert load_views(written("imagedream", "bare", tmp_path, ip_weight=0.25), tiny("imagedream")).picture_scale == 0.25


def test_bad_files_are_refused_in_a_line(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="nothing"):
        load_views(tmp_path / "nothing.safetensors", tiny("mvdream"))
    (tmp_path / "cut.safetensors").write_bytes(b"\x10\x00\x00\x00\x00\x00\x00\x00{}")
    with pytest.raises(WeightsError, match="cut"):
        load_views(tmp_path / "cut.safetensors", tiny("mvdream"))


def test_gaf_begins_as_imagedream_to_the_last_bit(tmp_path: Path) -> None:
    base = load_views(written("imagedream", "original", tmp_path), tiny("imagedream"))
    x, t, cond = asked(tiny("gaf"))
    without = replace(cond, shown=None, beside_reference=None)
    with torch.no_grad():
        wanted = base(x, t, without)
        widened(base.unet, 4)
        assert torch.equal(base(x, t, cond), wanted)
    save(original(base), tmp_path / "gaf.safetensors")
    loaded = load_views(tmp_path / "gaf.safetensors", tiny("gaf"))
    with torch.no_grad():
        assert torch.equal(loaded(x, t, cond), wanted)


# At full size, with no memory


def full(name: str) -> ViewNetwork:
    """The network of a preset at its released size, built the way files are read, on ``meta``."""
    told = preset(name)
    size: dict[str, Any] = {"attention_head_dim": 8, "cross_attention_dim": 768}
    if not told.heads_fixed:
        size = {"attention_head_dim": (5, 10, 20, 20), "cross_attention_dim": 1024, "use_linear_projection": True}
    with torch.device("meta"):
        unet = UNet(
            UNetConfig(
                **size,
                in_channels=4 * (1 + len(told.shown)),
                class_embed_type="projection",
                projection_class_embeddings_input_dim=16,
            )
        )
        held = dict(unet.state_dict())
        layers = {n: each for n, each in enumerate(numbered(unet)) if each.name.endswith("attn2")}
        if told.tokens:
            widths = {n: layer.to_q.out_features for n, layer in layers.items()}
            image = IpNetwork(Plan(PLUS, 1024, 1280, 0, 16, 1024, 4, widths, {}, 12))
            for key, value in image.state_dict().items():
                part, _, rest = key.partition(".")
                number, _, inside = rest.partition(".")
                held[f"image_embed.{rest}" if part == "image_proj" else f"{layers[int(number)].name}.{inside}"] = value
    return build(told, held, {}, layout(told.layout))


@pytest.mark.parametrize(
    ("name", "count"),
    [
        # Stable Diffusion's own, and a perceptron from 16 to 1280 to 1280.
        ("mvdream", 865_910_724 + 16 * 1280 + 1280 + 1280 * 1280 + 1280),
        ("mvdream-1.5", 859_520_964 + 16 * 1280 + 1280 + 1280 * 1280 + 1280),
        # 16 pairs of keys and values, and the resampler: 1.88 GB in half precision, as the released file has.
        ("imagedream", 867_571_844 + 320 + 2 * 1024 * 12_480 + 48_541_696),
        ("gaf", 867_572_164 + 2 * 1024 * 12_480 + 48_541_696 + 4 * 320 * 9),
    ],
)
def test_a_released_network_has_its_size(name: str, count: int) -> None:
    net = full(name)
    assert sum(p.numel() for p in net.parameters()) == count
    if name == "imagedream":
        assert round(2 * count / 1e9, 2) == 1.88
    assert net.unet.config.attention_head_dim in (8, (5, 10, 20, 20))
    names = original(net)
    assert released(names).keys() == stock(net).keys()
    known = tables_of("sd").header(tables_of("sd").variant(name), "unet")
    assert {each: tuple(tensor.shape) for each, tensor in stock(net).items()} == known
