"""The single files that are written here are read by the reference's own converter, at full size and to the bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.loaders import single_file_utils as reference
from torch import Tensor

from safelight.families.sd import shape
from safelight.families.sd.convert import part_to_file, to_folder
from safelight.families.sd.single import understand
from safelight.weights.detect import detect
from safelight.weights.folder import Index
from safelight.weights.header import Entry, Header
from safelight.weights.load import read
from safelight.weights.moves import to_ours, to_theirs
from safelight.weights.save import save
from safelight.weights.variants import Variant, expected, tables_of
from tests.headers import references

SD = tables_of("sd")
STORED = expected(SD.folder)
RELEASED = {
    "sd1": references.SD1,
    "x4": references.X4,
    "sd2": references.SD2,
    "sdxl": references.SDXL,
    "sdxl-refiner": references.REFINER,
}


def whole(variant: Variant, channels: int = 0, *, device: str = "meta") -> dict[str, Tensor]:
    """The single file that is written for a released model, its tensors without memory."""
    tensors: dict[str, Tensor] = {}
    for part in variant.written:
        if part.name in variant.expected and part.name != "controlnet":
            rows = {
                name: torch.empty(size, device=device) for name, size in STORED[variant.expected[part.name]].items()
            }
            if part.name == "unet" and channels:
                rows["conv_in.weight"] = torch.empty((len(rows["conv_in.bias"]), channels, 3, 3), device=device)
            plan = SD.keys.parts[part.table].to_theirs(rows)
            assert not plan.left
            tensors |= to_theirs(rows, plan.moves, part.prefixes[0])
    return tensors


def sizes(tensors: dict[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


@pytest.mark.parametrize("name", RELEASED)
def test_the_reference_makes_of_our_unet_what_is_released(name: str) -> None:
    variant = SD.variant(name)
    made = reference.convert_ldm_unet_checkpoint(whole(variant), {"layers_per_block": 2, **RELEASED[name]})
    assert sizes(made) == STORED[variant.expected["unet"]]


def test_the_reference_knows_which_model_it_is() -> None:
    known = {("sd1", 4): "v1", ("sd2", 4): "v2", ("sdxl", 4): "xl_base", ("sdxl-refiner", 4): "xl_refiner"}
    known |= {("sd1", 9): "inpainting", ("sd2", 9): "inpainting_v2", ("sdxl", 9): "xl_inpaint"}
    known |= {("x4", 0): "upscale", ("sd2", 5): "v2"}  # of depth the reference knows nothing more
    for (name, channels), called in known.items():
        assert reference.infer_diffusers_model_type(whole(SD.variant(name), channels)) == called


def test_the_reference_makes_of_our_autoencoder_what_is_released() -> None:
    for name, stored, config in (("sd1", "vae", references.KL), ("x4", "vae-x4", references.KL_X4)):
        made = reference.convert_ldm_vae_checkpoint(whole(SD.variant(name)), config)
        assert sizes(made) == STORED[stored]


def test_the_reference_makes_of_our_depth_network_what_is_released() -> None:
    config = {"layers_per_block": 2, **references.SD2, "in_channels": 5}
    with torch.device("meta"):
        wanted = sizes(dict(references.diffusers.UNet2DConditionModel(**config).state_dict()))
    assert sizes(reference.convert_ldm_unet_checkpoint(whole(SD.variant("sd2"), 5), config)) == wanted


def test_a_network_that_is_told_the_scale_is_the_reference_s_but_for_what_it_forgets() -> None:
    """The reference's converter has no name for the projection of the scale, so it alone is compared with the class."""
    config = {"layers_per_block": 2, **references.SD1, "time_cond_proj_dim": 256}
    with torch.device("meta"):
        rows = dict(references.diffusers.UNet2DConditionModel(**config).state_dict())
    plan = SD.keys.parts["unet"].to_theirs(rows)
    assert not plan.left
    theirs = to_theirs(rows, plan.moves, "model.diffusion_model.")
    assert theirs.pop("model.diffusion_model.time_embed.cond_proj.weight").shape == (320, 256)
    del rows["time_embedding.cond_proj.weight"]
    assert sizes(reference.convert_ldm_unet_checkpoint(theirs, config)) == sizes(rows)


class Standing:
    """What the reference's converter asks of a text encoder: its width."""

    def __init__(self, width: int) -> None:
        self.config = type("Config", (), {"hidden_size": width})()


@pytest.mark.parametrize(
    ("name", "prefix", "stored", "width"),
    [
        ("sd2", "cond_stage_model.model.", "clip-h", 1024),
        ("x4", "cond_stage_model.model.", "clip-h", 1024),
        ("sdxl", "conditioner.embedders.1.model.", "clip-g", 1280),
        ("sdxl-refiner", "conditioner.embedders.0.model.", "clip-g", 1280),
    ],
)
def test_the_reference_makes_of_our_open_clip_what_is_released(name: str, prefix: str, stored: str, width: int) -> None:
    made = reference.convert_open_clip_checkpoint(Standing(width), whole(SD.variant(name)), prefix=prefix)
    assert sizes(made) == STORED[stored]


@pytest.mark.parametrize("name", ["sd1", "sdxl"])
def test_the_reference_makes_of_our_clip_what_is_released(name: str) -> None:
    assert sizes(reference.convert_ldm_clip_checkpoint(whole(SD.variant(name)))) == STORED["clip-l"]


@pytest.mark.parametrize("name", ["sd1", "sd2", "sdxl"])
def test_the_reference_makes_of_our_controlnet_what_is_released(name: str) -> None:
    stored = STORED[f"controlnet-{name}"]
    rows = {key: torch.empty(size, device="meta") for key, size in stored.items()}
    plan = SD.keys.parts["controlnet"].to_theirs(rows)
    assert not plan.left
    theirs = to_theirs(rows, plan.moves, "control_model.")
    made = reference.convert_controlnet_checkpoint(dict(theirs), {"layers_per_block": 2})
    told = {key: size for key, size in stored.items() if key.startswith("add_embedding.")}
    assert sizes(made) == {key: size for key, size in stored.items() if key not in told}
    assert len(told) == (4 if name == "sdxl" else 0)  # which the reference's converter has no name for
    label = {key.removeprefix("control_model."): size for key, size in sizes(theirs).items() if "label_emb" in key}
    assert list(label.values()) == list(told.values())


@pytest.mark.parametrize("name", ["sd1", "sd2", "sdxl"])
def test_a_controlnet_of_the_released_size_is_known_with_any_names(name: str) -> None:
    stored = STORED[f"controlnet-{name}"]
    moves = SD.keys.parts["controlnet"].to_theirs(stored).moves
    files = {before: {before + m.theirs: stored[m.ours[0]] for m in moves} for before in ("control_model.", "")}
    for layout, rows in [*(("ldm", rows) for rows in files.values()), ("diffusers", dict(stored))]:
        entries = {key: Entry("F16", size, 0, 0) for key, size in rows.items()}
        found = detect(Header(entries))
        (part,) = found.components
        assert (found.variant, found.layout, part.part) == (name, layout, "controlnet")
        assert part.full and not (part.missing or part.extra or part.bent or part.plan.left or found.left)
        assert {our: rows[part.prefix + m.theirs] for m in part.plan.moves for our in m.ours} == stored
    config = shape.configs(SD.variant(name), {"controlnet": stored})["controlnet"]
    with torch.device("meta"):
        net = references.diffusers.ControlNetModel.from_config(config)
    assert {key: list(size) for key, size in stored.items()} == references.header(f"controlnet-{name}")
    assert sizes(dict(net.state_dict())) == stored


def numbered(size: tuple[int, ...], start: int) -> Tensor:
    count = int(torch.Size(size).numel())
    return torch.arange(start, start + count, dtype=torch.float64).reshape(size)


@pytest.mark.parametrize("part", ["unet", "unet-x4", "vae", "openclip", "controlnet", "controlnet-sd2"])
def test_every_number_ends_where_the_reference_puts_it(part: str) -> None:
    """Every tensor is small here and every number in it different."""
    stored = {"unet": "unet-sdxl", "vae": "vae", "openclip": "clip-g", "controlnet": "controlnet-sd1"}.get(part, part)
    config, part = (references.X4 if part == "unet-x4" else references.SDXL), part.partition("-")[0]
    ours: dict[str, Tensor] = {}
    for place, (name, size) in enumerate(STORED[stored].items()):
        small = tuple(3 if len(size) < 4 or axis < 2 else length for axis, length in enumerate(size))
        ours[name] = numbered(small, 1000 * place)
    prefix = {
        "openclip": "conditioner.embedders.1.model.",
        "vae": "first_stage_model.",
        "unet": "model.diffusion_model.",
    }
    before = prefix.get(part, "control_model.")
    theirs = to_theirs(ours, SD.keys.parts[part].to_theirs(ours).moves, before)
    made: dict[str, Any]
    if part == "unet":
        made = reference.convert_ldm_unet_checkpoint(theirs, {"layers_per_block": 2, **config})
    elif part == "vae":
        made = reference.convert_ldm_vae_checkpoint(theirs, references.KL)
    elif part == "openclip":
        made = reference.convert_open_clip_checkpoint(Standing(3), theirs, prefix=before)
    else:
        made = reference.convert_controlnet_checkpoint(theirs, {"layers_per_block": 2})
    plan = SD.keys.parts[part].to_ours(name.removeprefix(before) for name in theirs)
    again = to_ours(theirs, plan.moves, before)
    assert made.keys() == again.keys() == ours.keys()
    for name, tensor in ours.items():
        assert torch.equal(made[name], tensor), name
        assert torch.equal(again[name], tensor), name


def test_stored_headers_are_those_of_the_reference() -> None:
    for name in references.BUILD:
        assert {key: list(size) for key, size in STORED[name].items()} == references.header(name), name


@pytest.mark.parametrize("name", [*RELEASED, "x2"])
def test_configurations_come_out_of_the_shapes(name: str) -> None:
    variant = SD.variant(name)
    shapes = {part: STORED[stored] for part, stored in variant.expected.items()}
    made = shape.configs(variant, shapes)
    for key, value in {**RELEASED, "x2": references.X2}[name].items():
        found = made["unet"].get(key, False)
        if key == "only_cross_attention" and value:
            found = [True, *found[1:]]  # the finest level has no attention, of which the reference says True
        if key == "transformer_layers_per_block" and isinstance(value, int):
            found = max(found)  # levels without transformers have none; the reference says one number for all
        assert found == (list(value) if isinstance(value, tuple) else value), key
    texts = {"clip-l": references.CLIP_L, "clip-h": references.CLIP_H, "clip-g": references.CLIP_G}
    for part, stored in variant.expected.items():
        for key, value in texts.get(stored, {}).items():
            assert made[part][key] == value, (part, key)
    kl = references.KL_X4 if name == "x4" else references.KL
    assert {key: made["vae"][key] for key in kl} == {
        key: list(value) if isinstance(value, tuple) else value for key, value in kl.items()
    }


def test_a_controlnet_of_the_reference_goes_there_and_back(tmp_path: Path) -> None:
    net = references.diffusers.ControlNetModel(
        block_out_channels=(32, 64),
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        layers_per_block=1,
        cross_attention_dim=768,
        attention_head_dim=8,
        conditioning_embedding_out_channels=(8, 16, 16),
    )
    net.save_pretrained(tmp_path / "net")
    part_to_file(tmp_path / "net", tmp_path / "net.safetensors", Index(tmp_path / "net", "", {}, {}))
    theirs = read(tmp_path / "net.safetensors")
    assert "control_model.input_hint_block.10.weight" in theirs
    save(
        {name.removeprefix("control_model."): tensor for name, tensor in theirs.items()}, tmp_path / "bare.safetensors"
    )
    for file in ("net", "bare"):
        told = understand(tmp_path / f"{file}.safetensors")
        to_folder(told, tmp_path / f"{file}-back", Index(told.path, "", {}, {}))
        back = references.diffusers.ControlNetModel.from_pretrained(tmp_path / f"{file}-back")
        assert all(torch.equal(back.state_dict()[name], tensor) for name, tensor in net.state_dict().items())
