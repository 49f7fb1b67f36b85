"""The image encoder and its preprocessor equal transformers': every layer, the projection, the pixels bit for bit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from torch import Tensor, nn

from safelight.encoders import clip
from safelight.encoders.clip_pixels import ClipPixels
from safelight.encoders.clip_vision import ClipVision, ClipVisionConfig
from safelight.encoders.viewer import KEYS, RELEASED, load_viewer, released
from safelight.errors import ConfigError, ImageError, RequestError, WeightsError
from safelight.weights.keys import read_keys
from safelight.weights.moves import to_theirs
from safelight.weights.save import save
from tests.parity.networks import BARS, difference, random, randomise

VISION: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "image_size": 16,
    "patch_size": 4,
    "projection_dim": 24,
}
VISIONS: dict[str, dict[str, Any]] = {
    "OpenAI's": {**VISION, "hidden_act": "quick_gelu", "architectures": ["CLIPVisionModelWithProjection"]},
    "OpenCLIP's": {**VISION, "hidden_act": "gelu", "architectures": ["CLIPVisionModelWithProjection"]},
    "edge no multiple": {**VISION, "image_size": 18, "architectures": ["CLIPVisionModelWithProjection"]},
    "no projection": {**VISION, "architectures": ["CLIPVisionModel"]},
}
SIZES = [(224, 224), (300, 200), (200, 331), (640, 97), (31, 47), (225, 1013)]


def visions(config: dict[str, Any], dtype: torch.dtype = torch.float64) -> tuple[ClipVision, nn.Module]:
    settings = transformers.CLIPVisionConfig(**config)
    settings._attn_implementation = "sdpa"
    kind = getattr(transformers, config["architectures"][0])
    theirs = kind(settings)
    randomise(theirs)
    ours = ClipVision(ClipVisionConfig.from_dict(settings.to_dict()))
    weights = {released(name): tensor for name, tensor in theirs.state_dict().items()}
    ours.load_state_dict({name: tensor for name, tensor in weights.items() if name is not None})
    return ours.to(dtype).eval(), theirs.to(dtype).eval()


def vision_error(name: str, dtype: torch.dtype = torch.float64) -> float:
    ours, theirs = visions(VISIONS[name], dtype)
    pixels = random(2, 3, ours.config.image_size, ours.config.image_size, dtype=dtype)
    with torch.no_grad():
        got, wanted = ours(pixels), theirs(pixels, output_hidden_states=True)
    assert len(got.hidden) == len(wanted.hidden_states) == 4
    errors = [difference(a, b) for a, b in zip(got.hidden, wanted.hidden_states, strict=True)]
    if got.projected is None:
        return max(*errors, difference(got.pooled, wanted.pooler_output))
    return max(*errors, difference(got.projected, wanted.image_embeds))


@pytest.mark.parametrize("dtype", BARS, ids=str)
@pytest.mark.parametrize("name", VISIONS)
def test_every_layer_and_the_projection_equal_the_reference(name: str, dtype: torch.dtype) -> None:
    assert vision_error(name, dtype) <= BARS[dtype]


def test_a_causal_mask_would_show(monkeypatch: pytest.MonkeyPatch) -> None:
    right = clip.SelfAttention.__init__
    monkeypatch.setattr(clip.SelfAttention, "__init__", lambda it, config, *, causal: right(it, config, causal=True))
    assert vision_error("OpenAI's") > 1e3 * BARS[torch.float64]


@pytest.mark.parametrize("part", ["pre_layrnorm", "post_layernorm"])
def test_a_normalisation_left_out_would_show(monkeypatch: pytest.MonkeyPatch, part: str) -> None:
    right = nn.LayerNorm.forward

    def wrong(layer: nn.LayerNorm, x: Tensor) -> Tensor:
        return x if getattr(layer, "out", False) else right(layer, x)

    built = ClipVision.__init__

    def build(self: ClipVision, config: ClipVisionConfig) -> None:
        built(self, config)
        getattr(self.vision_model, part).out = True

    monkeypatch.setattr(ClipVision, "__init__", build)
    monkeypatch.setattr(nn.LayerNorm, "forward", wrong)
    assert vision_error("OpenCLIP's") > 1e3 * BARS[torch.float64]


def picture(size: tuple[int, int], mode: str = "RGB", seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 4 if mode == "RGBA" else 3), np.uint8)
    made = Image.fromarray(pixels, "RGBA" if mode == "RGBA" else "RGB")
    return made if mode in ("RGB", "RGBA") else made.convert(mode)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P"])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_pixels_are_those_of_the_released_preprocessor_bit_for_bit(size: tuple[int, int], mode: str) -> None:
    theirs = transformers.CLIPImageProcessorPil()
    ours = ClipPixels.from_dict(json.loads(theirs.to_json_string()))
    shown = picture(size, mode)
    assert torch.equal(ours([shown, shown])[1], theirs(shown, return_tensors="pt").pixel_values[0])


def test_other_edges_means_and_padding_are_the_released_preprocessors_too() -> None:
    told = {"size": {"shortest_edge": 20}, "crop_size": {"height": 33, "width": 33}, "image_mean": [0.5, 0.4, 0.3]}
    theirs = transformers.CLIPImageProcessorPil(**told)
    for size in SIZES:
        shown = picture(size)
        assert torch.equal(ClipPixels.from_dict(told)([shown])[0], theirs(shown, return_tensors="pt").pixel_values[0])


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"resample": 2}, "resample = '2'"),
        ({"size": {"height": 224, "width": 224}}, "size ="),
        ({"crop_size": [224, 224]}, "crop_size ="),
        ({"image_std": [0.5, 0, 0.5]}, "image_std"),
        ({"do_reduce": True}, "do_reduce"),
        ({"size": 10**9}, "size = 1000000000"),
    ],
)
def test_another_preprocessor_is_refused_by_name(told: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ClipPixels.from_dict(told)


def test_a_thread_of_a_picture_is_refused_before_it_fills_the_memory() -> None:
    with pytest.raises(ImageError, match="20000x2 is too long"):
        ClipPixels()([Image.new("RGB", (20_000, 2))])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"architectures": ["SiglipVisionModel"]}, "SiglipVisionModel"),
        ({"model_type": "clip"}, "model_type"),
        ({"num_channels": 4}, "num_channels"),
        ({"num_attention_heads": 5}, "5 heads"),
        ({"patch_size": 17}, "larger than image_size"),
    ],
)
def test_a_configuration_of_another_network_is_refused_by_name(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ClipVisionConfig.from_dict({**VISION, **change})


def test_pictures_of_another_size_are_refused() -> None:
    ours, _ = visions(VISIONS["OpenAI's"])
    with pytest.raises(RequestError, match=r"reads \[3, 16, 16\]"):
        ours(random(1, 3, 16, 20))


def folder_of(place: Path, ours: ClipVision, change: dict[str, Any] | None = None) -> Path:
    place.mkdir()
    (place / "config.json").write_text(json.dumps({**VISIONS["OpenAI's"], **(change or {})}))
    old = {"vision_model.embeddings.position_ids": torch.arange(17)[None]}
    save({**ours.state_dict(), **old}, place / "model.safetensors")
    return place


def test_a_released_folder_is_read_strictly_with_its_preprocessor_where_there_is_one(tmp_path: Path) -> None:
    ours, _ = visions(VISIONS["OpenAI's"], torch.float32)
    place = folder_of(tmp_path / "image_encoder", ours)
    viewer = load_viewer(place)
    assert viewer.pixels == ClipPixels(16, 16) and len(viewer.files) == 2
    shown = [picture((40, 30))]
    with torch.no_grad():
        assert torch.equal(viewer.see(shown).hidden[-2], ours(ClipPixels(16, 16)(shown)).hidden[-2])
    (place / "preprocessor_config.json").write_text(json.dumps({"size": 20, "crop_size": 16}))
    assert load_viewer(place).pixels.shortest == 20
    (place / "preprocessor_config.json").write_text(json.dumps({"size": 224}))
    with pytest.raises(ConfigError, match=r"preprocessor_config.json: it cuts out 224 pixels; the encoder reads 16"):
        load_viewer(place)
    with pytest.raises(WeightsError, match="of another shape"):
        load_viewer(folder_of(tmp_path / "other", ours, {"hidden_size": 64}))


@pytest.mark.parametrize("layout", ["released", "whole CLIP", "OpenCLIP"])
def test_a_single_file_gives_what_the_folder_gives(
    layout: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(RELEASED, 32, (4, "quick_gelu"))
    ours, _ = visions(VISIONS["OpenAI's"], torch.float32)
    weights = dict(ours.state_dict())
    if layout == "OpenCLIP":
        plan = read_keys(KEYS).parts["openclip_vision"].to_theirs(weights)
        assert not plan.left
        weights = to_theirs(weights, plan.moves)
        assert {"visual.proj", "visual.transformer.resblocks.2.attn.in_proj_weight"} < weights.keys()
    if layout != "released":
        weights |= {"logit_scale": torch.zeros(())}
        weights |= {"text_model.final_layer_norm.bias" if layout == "whole CLIP" else "ln_final.bias": torch.zeros(3)}
    save(weights, tmp_path / "clip.safetensors")
    viewer = load_viewer(tmp_path / "clip.safetensors")
    for name, tensor in ours.state_dict().items():
        assert torch.equal(viewer.encoder.state_dict()[name], tensor)
    assert viewer.encoder.config == ours.config
    strange = "visual.strange" if layout == "OpenCLIP" else "strange"
    save({**weights, strange: torch.zeros(1)}, tmp_path / "x.safetensors")
    with pytest.raises(WeightsError, match="1 unexpected"):
        load_viewer(tmp_path / "x.safetensors")


def test_a_file_of_something_else_is_refused_with_what_was_expected(tmp_path: Path) -> None:
    save({"conv_in.weight": torch.zeros(2, 2)}, tmp_path / "a.safetensors")
    with pytest.raises(WeightsError, match=r"a.safetensors: is no image encoder of CLIP"):
        load_viewer(tmp_path / "a.safetensors")
    ours, _ = visions(VISIONS["OpenAI's"], torch.float32)
    save(dict(ours.state_dict()), tmp_path / "b.safetensors")
    with pytest.raises(WeightsError, match=r"width 32; released are"):
        load_viewer(tmp_path / "b.safetensors")


def test_every_parameter_learns() -> None:
    torch.manual_seed(0)
    network = ClipVision(ClipVisionConfig.from_dict(VISIONS["OpenCLIP's"]))
    output = network(random(2, 3, 16, 16, dtype=torch.float32))
    assert output.projected is not None
    output.projected.square().mean().backward()
    assert all(
        p.grad is not None and p.grad.abs().sum() > 0 for n, p in network.named_parameters() if "k_proj.b" not in n
    )
