"""The files of Stable Cascade's stages: what the reference's converter makes of them, there and back, and a picture."""

from __future__ import annotations

import json
import math
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.loaders.single_file_utils import convert_stable_cascade_unet_single_file_to_diffusers as convert

from safelight.cli.main import main
from safelight.errors import ConfigError, RequestError, SafelightError, WeightsError
from safelight.evaluate.hollow import write_file
from safelight.families.cascade import shape
from safelight.families.cascade.model import CascadeConfig, CascadeUNet
from safelight.families.cascade.single import CONFIGS, understand
from safelight.generate.pipe import load
from safelight.generate.request import Request
from safelight.generate.source import Source
from safelight.vae.stage_a import StageA, StageAConfig
from safelight.weights.detect import VARIANT, detect
from safelight.weights.header import Entry, Header
from safelight.weights.keys import Shape
from safelight.weights.load import check, read, unfilled
from safelight.weights.save import save
from safelight.weights.variants import expected, tables_of
from tests.cascade import EDGE, tiny_cascade
from tests.headers import references
from tests.models import tiny

CASCADE = tables_of("cascade")
STORED = expected(CASCADE.folder)
PARTS = {"prior": "stage_c", "decoder": "stage_b", "vqgan": "stage_a"}
RELEASED = {
    "stage-c": references.STAGE_C,
    "stage-c-lite": references.STAGE_C_LITE,
    "stage-b": references.STAGE_B,
    "stage-b-lite": references.STAGE_B_LITE,
}
DRAWN = Request("a person with green hair", seed=7, steps=2, later=2, guidance=2.0, size=(EDGE, EDGE))


def folder_of(part: str) -> Path:
    """The tiny folder of a part."""
    return (tiny_cascade().with_name("cascade-prior") if part == "prior" else tiny_cascade()) / part


@cache
def files() -> Path:
    """A folder with the files of all three stages, and the text encoder; never change it, copy it."""
    place = tiny_cascade().with_name("cascade-files")
    place.mkdir()
    for part, name in PARTS.items():
        assert main(["convert", str(folder_of(part)), str(place / f"{name}.safetensors")]) == 0
    for part in ("text_encoder", "tokenizer"):
        shutil.copytree(tiny_cascade() / part, place / part)
    return place


def single(name: str) -> dict[str, Shape]:
    """Names and shapes of the released file of a stage."""
    variant = CASCADE.variant(name)
    ((part, stored),) = variant.expected.items()
    plan = CASCADE.keys.parts[part].to_theirs(STORED[stored])
    assert plan.left == ()
    return {move.theirs: move.their_shape(STORED[stored][move.ours[0]]) for move in plan.moves}


def header(shapes: dict[str, Shape]) -> Header:
    return Header({name: Entry("F32", size, 0, 4 * math.prod(size)) for name, size in shapes.items()})


@pytest.mark.parametrize("part", ["prior", "decoder"])
def test_the_reference_reads_our_files_as_the_folder_s_tensors(part: str) -> None:
    theirs = read(files() / f"{PARTS[part]}.safetensors")
    made, ours = convert(dict(theirs)), read(folder_of(part) / "diffusion_pytorch_model.safetensors")
    assert made.keys() == ours.keys()
    assert any(".in_proj_weight" in name for name in theirs)
    assert ("clip_mapper.weight" in theirs) == (part == "decoder")
    for name, tensor in ours.items():
        assert torch.equal(made[name], tensor), name


@pytest.mark.parametrize("part", PARTS)
def test_there_and_back_gives_the_same_bytes(part: str, tmp_path: Path) -> None:
    file, again = files() / f"{PARTS[part]}.safetensors", tmp_path / "again.safetensors"
    assert main(["convert", str(file), str(tmp_path / part)]) == 0
    name = "diffusion_pytorch_model.safetensors"
    assert (tmp_path / part / name).read_bytes() == (folder_of(part) / name).read_bytes()
    said, before = (json.loads((place / "config.json").read_text()) for place in (tmp_path / part, folder_of(part)))
    assert said == {key: value for key, value in before.items() if value is not None}
    assert main(["convert", str(tmp_path / part), str(again)]) == 0
    assert {name: t.tolist() for name, t in read(again).items()} == {n: t.tolist() for n, t in read(file).items()}


@pytest.mark.parametrize("stage", ["stage_c", "stage_b", "stage_a"])
def test_any_of_the_files_draws_what_the_folders_draw(laid_alike: None, stage: str) -> None:
    apart = load(str(tiny_cascade()), device="cpu", threads=1).draw(DRAWN)[0]
    pipe = load(str(files() / f"{stage}.safetensors"), device="cpu", threads=1)
    drawn = pipe.draw(DRAWN)[0]
    assert torch.equal(drawn.latents, apart.latents)
    assert drawn.image.tobytes() == apart.image.tobytes()
    assert {Path(name).name for name in drawn.recipe.model["files"]} > {
        f"{name}.safetensors" for name in PARTS.values()
    }


def test_explain_reads_the_vocabulary_beside_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "a red hat", "-m", str(files() / "stage_b.safetensors")]) == 0
    assert "prior_text_encoder: 3 tokens" in capsys.readouterr().out


def test_of_several_files_the_one_that_ends_alike_is_taken(tmp_path: Path) -> None:
    place = tmp_path / "several"
    shutil.copytree(files(), place)
    for name in ("stage_b", "stage_c"):
        (place / f"{name}.safetensors").rename(place / f"{name}_lite.safetensors")
    shutil.copyfile(place / "stage_a.safetensors", place / "stage_b.safetensors")
    taken = {path.name for path in load(str(place / "stage_c_lite.safetensors"), threads=1).model.files}
    assert {"stage_a.safetensors", "stage_b_lite.safetensors", "stage_c_lite.safetensors"} < taken
    (place / "stage_b_lite.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"stage_b\.safetensors: is the autoencoder, not the decoder"):
        load(str(place / "stage_c_lite.safetensors"), threads=1)


@pytest.mark.parametrize(
    ("gone", "words"),
    [
        ("stage_c.safetensors", r"the prior \(stage_c\.safetensors\) is missing"),
        ("stage_a.safetensors", r"the autoencoder \(stage_a\.safetensors\) is missing"),
        ("text_encoder", r"the text encoder \(the folder text_encoder of the released model\) is missing"),
    ],
)
def test_what_else_is_needed_is_said(gone: str, words: str, tmp_path: Path) -> None:
    shutil.copytree(files(), tmp_path / "some")
    (shutil.rmtree if (tmp_path / "some" / gone).is_dir() else Path.unlink)(tmp_path / "some" / gone)
    with pytest.raises(WeightsError, match=f"is the decoder of Stable Cascade; beside it, {words}"):
        load(str(tmp_path / "some" / "stage_b.safetensors"), threads=1)


def test_a_tensor_that_belongs_to_nothing_or_is_missing_is_refused(tmp_path: Path) -> None:
    shutil.copytree(files(), tmp_path / "some")
    path = tmp_path / "some" / "stage_c.safetensors"
    tensors = read(path)
    kept = {name: tensor.clone() for name, tensor in tensors.items()}
    config = json.loads((folder_of("prior") / "config.json").read_text())
    said = {VARIANT: "stage-c", CONFIGS: json.dumps({"prior": config})}
    for change in ({"junk": torch.zeros(1)}, {"down_blocks.0.2.attention.attn.q_norm.weight": torch.zeros(1)}):
        save({**kept, **change}, path, said)
        with pytest.raises(WeightsError, match=r"unexpected  (junk|down_blocks\.0\.2\.attention\.attn\.q_norm)"):
            load(str(path), threads=1)
    save({name: tensor for name, tensor in kept.items() if name != "clf.1.bias"}, path, said)
    with pytest.raises(WeightsError, match=r"stage_c\.safetensors: the file does not fit(.|\n)*clf\.1\.bias"):
        load(str(path), threads=1)
    save(kept, path, {**said, CONFIGS: "[]"})
    with pytest.raises(ConfigError, match="damaged"):
        load(str(path), threads=1)


@pytest.mark.parametrize("name", [variant.name for variant in CASCADE.variants])
def test_a_released_file_is_known_and_so_is_the_folder_s(name: str, capsys: Any, tmp_path: Path) -> None:
    rows, variant = single(name), CASCADE.variant(name)
    found = detect(header(rows))
    ((part, stored),) = variant.expected.items()
    assert (found.family, found.variant, found.layout, found.left) == ("cascade", name, "ldm", ())
    (component,) = found.components
    assert (component.part, component.full) == (part, True)
    assert (component.missing, component.extra, component.bent, component.plan.left) == ((), (), (), ())
    folder = detect(header(dict(STORED[stored])))
    assert (folder.family, folder.layout, [each.part for each in folder.components]) == ("cascade", "diffusers", [part])
    assert main(["inspect", str(write_file(tmp_path / "a.safetensors", rows))]) == 0
    assert variant.title in capsys.readouterr().out


@pytest.mark.parametrize("name", [variant.name for variant in CASCADE.variants])
def test_configurations_come_out_of_the_shapes_and_fit_them(name: str, tmp_path: Path) -> None:
    told = understand(write_file(tmp_path / "a.safetensors", single(name)))
    ((part, stored),) = CASCADE.variant(name).expected.items()
    if part == "vqgan":
        assert told.config["scale_factor"] == 0.43
        net: Any = unfilled(told.config, lambda raw: StageA(StageAConfig.from_dict(raw)))
    else:
        net = unfilled(told.config, lambda raw: CascadeUNet(CascadeConfig.from_dict(raw)))
        ours = CascadeConfig.from_dict(told.config)
        wanted = {key: value for key, value in RELEASED[name].items() if key != "dropout"}
        assert {key: getattr(ours, key) for key in wanted} == wanted
    check("it", net.state_dict(), {key: torch.empty(size, device="meta") for key, size in STORED[stored].items()})


def test_stored_headers_are_those_of_the_reference() -> None:
    for name in references.CASCADE:
        assert {key: list(size) for key, size in STORED[name].items()} == references.header(name), name


def test_what_shapes_do_not_say_or_cannot_be_is_refused() -> None:
    rows = {"prior": dict(STORED["stage-c-lite"]), "vqgan": dict(STORED["stage-a"])}
    for part, name in (("prior", "embedding.1.weight"), ("vqgan", "in_block.1.weight")):
        rows[part].pop(name)
        with pytest.raises(ConfigError, match="lacks the tensors"):
            shape.config(part, rows[part], {})
    rows = {name: size for name, size in STORED["stage-c-lite"].items() if not name.startswith("down_blocks.0.4.")}
    with pytest.raises(ConfigError, match="repeats no pattern"):
        shape.config("prior", rows, {})


@pytest.mark.parametrize(
    ("source", "target", "words"),
    [
        (lambda: tiny_cascade(), "a.safetensors", "each stage of Stable Cascade is a file of its own"),
        (lambda: tiny("sd1"), "folder", "is a folder already"),
        (lambda: files() / "stage_a.safetensors", "text_encoder", "exists"),
    ],
)
def test_what_cannot_be_converted_is_said(
    source: Any, target: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = files() / target if target == "text_encoder" else tmp_path / target
    assert main(["convert", str(source()), str(place)]) != 0
    assert words in capsys.readouterr().err
    assert main(["convert", str(files() / "stage_b.safetensors"), str(tmp_path / "b"), "--averaged"]) != 0
    assert "are for files of Stable Diffusion" in capsys.readouterr().err and not (tmp_path / "b").exists()


def test_a_file_of_another_family_beside_is_refused(tmp_path: Path) -> None:
    shutil.copytree(files(), tmp_path / "some")
    path = tmp_path / "some" / "stage_a.safetensors"
    shutil.copyfile(tiny("sd1") / "vae" / "diffusion_pytorch_model.safetensors", path)
    with pytest.raises(SafelightError):
        load(str(tmp_path / "some" / "stage_c.safetensors"), threads=1)
    with pytest.raises(RequestError, match="has no variants"):
        load(str(files() / "stage_c.safetensors"), threads=1, source=Source(variant="fp16"))
