"""Models of several views are known by their headers: which presets they may be, and each tensor that is not theirs."""

from __future__ import annotations

import json
import pkgutil
from functools import cache
from pathlib import Path

import pytest
import torch

from safelight.encoders.clip_vision import ClipVision, ClipVisionConfig
from safelight.evaluate.hollow import single, write_file, write_folder
from safelight.multiview.presets import presets
from safelight.weights.detect import Found, detect
from safelight.weights.header import Entry, Header
from safelight.weights.keys import Shape
from safelight.weights.survey import survey
from safelight.weights.variants import Variant, expected, tables_of

SD = tables_of("sd")
OWN = ("figurines-views", "figurines-views-normals")
"""Presets of no released size: a folder of ours names its own."""
TOLD = ("zero123", "zero123pp")
"""Layouts whose U-Net is another model's, too."""
ALONE = [row.name for row in SD.views if row.name not in TOLD]
WHOLE = ("mvdream", "mvdream-1.5", "imagedream")
"""Those that were released as whole files."""
RENAMED = {
    "camera_embed.0.weight": "class_embedding.linear_1.weight",
    "input_blocks.0.0.weight": "conv_in.weight",
    "middle_block.1.transformer_blocks.0.attn1.to_q.weight": (
        "mid_block.attentions.0.transformer_blocks.0.attn1.to_q.weight"
    ),
}
UNET = "model.diffusion_model."


def row(name: str) -> Variant:
    return next(each for each in SD.views if each.name == name)


def found(shapes: dict[str, Shape]) -> Found:
    return detect(Header({name: Entry("F16", shape, 0, 0) for name, shape in shapes.items()}, {}))


def sound(told: Found) -> bool:
    parts = [part for part in told.components if part.part != "image_encoder"]
    faults = [(*part.missing, *part.extra, *part.bent, *part.plan.left) for part in told.components]
    return not told.left and not any(faults) and all(part.full for part in parts)


@cache
def vision() -> dict[str, Shape]:
    """Some layers of OpenCLIP's image encoder, which ImageDream's file brings, and what lies beside it there."""
    large = {"hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 2, "num_attention_heads": 16}
    with torch.device("meta"):
        clip = ClipVision(ClipVisionConfig(**large, patch_size=14, projection_dim=1024, projection=True)).state_dict()
    rows = {name: tuple(tensor.shape) for name, tensor in clip.items()}
    moves = SD.keys.parts["openclip_vision"].to_theirs(rows).moves
    made = {move.theirs: move.their_shape(rows[move.ours[0]]) for move in moves}
    return made | {"text_projection": (1024, 1024), "logit_scale": (), "transformer.resblocks.23.ln_1.bias": (1024,)}


@cache
def stable(name: str) -> dict[str, Shape]:
    return single(name)


def whole(name: str, *, own: bool = True) -> dict[str, Shape]:
    """A whole file, with other parts as the original code calls them, or as Stable Diffusion's does."""
    made = stable(name) | {"betas": (1000,), "model_ema.decay": ()}
    if name == "imagedream":
        made |= {f"cond_stage_model.model.{inside}": shape for inside, shape in vision().items()}
    names = [("first_stage_model.", "vae_model."), ("cond_stage_model.", "clip_model.")] if own else []
    for old, new in names:
        made = {each.replace(old, new): shape for each, shape in made.items()}
    return made


def test_every_preset_of_a_released_size_has_one_layout_and_a_reader() -> None:
    named = [name for each in SD.views for name in each.presets]
    assert sorted(named) == sorted(set(presets()) - set(OWN))
    for each in SD.views:
        assert callable(pkgutil.resolve_name(each.reader.replace(".load", ":load"))), each.name
        first = SD.header(each, "unet")["conv_in.weight"]
        assert all(first[1] == 4 * (1 + len(presets()[name].shown)) for name in each.presets)


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("name", WHOLE)
def test_a_whole_original_file_is_known_with_nothing_left(name: str, own: bool) -> None:
    told = found(whole(name, own=own))
    assert (told.layout, told.variant, told.task, told.presets) == ("ldm", name, "views", row(name).presets)
    assert sound(told) and told.adapter is None
    parts = {"unet", "vae", "text_encoder"} | ({"image_encoder"} if name == "imagedream" else set())
    assert {part.part for part in told.components} == parts
    assert {"betas", "model_ema.decay"} <= set(told.unread) and not any("visual" in each for each in told.unread)


@pytest.mark.parametrize("name", ALONE)
def test_a_network_alone_is_known_and_a_renamed_tensor_of_it_is_named(name: str) -> None:
    shapes = dict(SD.header(row(name), "unet"))
    told = found(shapes)
    assert (told.layout, told.variant, told.presets) == ("diffusers", name, row(name).presets) and sound(told)
    for key in RENAMED.values():
        told = found({f"{each}x" if each == key else each: shape for each, shape in shapes.items()})
        (unet,) = told.components
        both = key == "conv_in.weight" and name in ("imagedream", "gaf")  # which are told apart by nothing else
        assert told.presets == (("imagedream", "imagedream-local", "gaf") if both else row(name).presets), key
        assert (unet.missing, unet.extra, unet.bent) == ((key,), (f"{key}x",), ())


@pytest.mark.parametrize("name", WHOLE)
def test_a_renamed_tensor_of_a_file_is_named_under_any_prefix(name: str) -> None:
    for before, (inside, key) in zip((UNET, "", "diffusion_model."), RENAMED.items(), strict=True):
        shapes = {before + n.removeprefix(UNET): s for n, s in stable(name).items() if n.startswith(UNET)}
        told = found(shapes)
        assert (told.layout, told.presets) == ("ldm", row(name).presets) and sound(told), before
        shapes[f"{before}{inside}x"] = shapes.pop(before + inside)
        told = found(shapes)
        (unet,) = told.components
        assert set(row(name).presets) <= set(told.presets) and (unet.missing, unet.extra) == ((key,), (f"{key}x",))


def test_a_renamed_tensor_of_an_encoder_is_left_over() -> None:
    shapes = whole("imagedream")
    for old, new in (("visual.proj", "visual.prow"), ("transformer.resblocks.3.ln_1.bias", "transformer.odd")):
        shapes[f"clip_model.model.{new}"] = shapes.pop(f"clip_model.model.{old}")
    shapes["clip_model.model.visual.transformer.resblocks.0.odd"] = (1,)
    assert {name.removeprefix("clip_model.model.") for name in found(shapes).left} == {
        *("visual.prow", "transformer.odd", "visual.transformer.resblocks.0.odd")
    }


def test_what_other_models_have_beside_stable_diffusion_is_no_view() -> None:
    stored = expected(SD.folder)
    facelift = SD.header(row("facelift"), "unet")
    unclip = {**facelift, "conv_in.weight": (320, 4, 3, 3)}
    told = {name: {**stored[f"unet-{name}"]} for name in ("sd1", "sd2", "sdxl")}
    told["edit"] = {**stored["unet-sd1"], "conv_in.weight": (320, 8, 3, 3)}
    told["large"] = {**facelift, "class_embedding.linear_1.weight": (1280, 1536)}
    for name, shapes in {**told, "unclip": unclip}.items():
        assert found(shapes).presets == () and found(shapes).task != "views", name
    assert len(found(unclip).components[0].extra) == 4, "which is told as before"
    assert found(single("sd2")).presets == ()


@pytest.mark.parametrize("name", [each.name for each in SD.views])
def test_a_released_folder_is_known_part_by_part(name: str, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "m", name)
    told = survey(folder)
    assert (told.variant, told.task, told.presets, told.reader) == (name, "views", row(name).presets, row(name).reader)
    assert told.lacking == ()
    for piece in told.pieces:
        part = piece.component
        assert part is None or (part.full and not (part.missing or part.extra or part.bent or piece.trouble))


def test_a_folder_with_a_network_in_the_names_of_files_is_as_it_should_be(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "m", "imagedream")
    rows = {n.removeprefix(UNET): s for n, s in single("imagedream").items() if n.startswith(UNET)}
    rows["image_embed.latentsx"] = rows.pop("image_embed.latents")
    write_file(folder / "unet/diffusion_pytorch_model.safetensors", rows)
    unet = next(piece for piece in survey(folder).pieces if piece.name == "unet")
    assert unet.trouble == "" and unet.component and unet.component.full
    assert (unet.component.missing, unet.component.extra) == (("image_embed.latents",), ("image_embed.latentsx",))


def test_a_folder_of_stable_diffusion_2_is_no_zero123plus(tmp_path: Path) -> None:
    told = survey(write_folder(tmp_path / "m", "sd2"))
    assert (told.variant, told.presets, told.reader) == ("sd2", (), "")
    index = json.loads((tmp_path / "m/model_index.json").read_text())
    (tmp_path / "m/model_index.json").write_text(json.dumps(index | {"_class_name": "Zero123PlusPipeline"}))
    assert survey(tmp_path / "m").presets == ("zero123pp-1.1", "zero123pp-1.2")
