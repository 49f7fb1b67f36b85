"""A folder's headers alone say which model it is, part by part, what is missing, and what is not taken."""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from safelight.errors import WeightsError
from safelight.evaluate.hollow import single, write_file, write_folder
from safelight.weights.survey import Piece, Survey, loose, survey
from safelight.weights.variants import expected, tables_of
from tests.architecture.source import ROOT
from tests.cascade import tiny_cascade

SD = tables_of("sd")
STORED = expected(SD.folder)
UNET = "unet/diffusion_pytorch_model.safetensors"


def piece(found: Survey, name: str) -> Piece:
    return next(each for each in found.pieces if each.name == name)


@pytest.mark.parametrize("name", [variant.name for variant in SD.variants if variant.task != "views"])
def test_a_released_folder_is_known_part_by_part(name: str, tmp_path: Path) -> None:
    found = survey(write_folder(tmp_path / "m", name))
    assert (found.family, found.variant, found.lacking, found.beside) == ("sd", name, (), ())
    assert found.index.pipeline == SD.variant(name).pipeline
    parts = {each.name: each for each in found.pieces if each.files}
    assert parts.keys() == SD.variant(name).expected.keys() - {"controlnet"}
    for each in parts.values():
        part = each.component
        assert part and part.full and not (part.missing or part.extra or part.bent or each.trouble)
    assert piece(found, "scheduler").says == SD.variant(name).prediction
    assert sum(found.dtypes.values()) == sum(p.component.parameters for p in parts.values() if p.component)


def renamed(folder: Path) -> None:
    rows = dict(STORED["unet-sd1"])
    rows["conv_out.weightz"] = rows.pop("conv_out.weight")
    write_file(folder / UNET, rows)


def swapped(folder: Path) -> None:
    (folder / "vae/diffusion_pytorch_model.safetensors").unlink()
    (folder / UNET).rename(folder / "vae/diffusion_pytorch_model.safetensors")
    write_file(folder / UNET, STORED["unet-sd1"])


def of_another(folder: Path) -> None:
    write_file(folder / "text_encoder/model.safetensors", STORED["clip-h"])


def as_a_single_file(folder: Path) -> None:
    before = "model.diffusion_model."
    write_file(folder / UNET, {name: size for name, size in single("sd1").items() if name.startswith(before)})


def without(*names: str) -> Callable[[Path], None]:
    def remove(folder: Path) -> None:
        for name in names:
            (folder / name).unlink()

    return remove


WRONG: dict[str, tuple[Callable[[Path], None], str, Callable[[Piece], object]]] = {
    "a name": (renamed, "unet", lambda p: p.component and p.component.missing == ("conv_out.weight",)),
    "another part": (swapped, "vae", lambda p: p.trouble == "its weights are those of a unet"),
    "an encoder of other sizes": (of_another, "text_encoder", lambda p: p.component and not p.component.full),
    "a single file's names": (as_a_single_file, "unet", lambda p: "as in a single file" in p.trouble),
    "no weights": (without(UNET), "unet", lambda p: "is the model complete?" in p.trouble),
    "no configuration": (without("vae/config.json"), "vae", lambda p: p.trouble == "its config.json is missing"),
    "nothing": (
        without("scheduler/scheduler_config.json"),
        "scheduler",
        lambda p: p.trouble == "its folder is empty",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_with_a_part_is_told_and_the_rest_is_read(what: str, tmp_path: Path) -> None:
    change, name, told = WRONG[what]
    change(write_folder(tmp_path / "m", "sd1"))
    found = survey(tmp_path / "m")
    assert told(piece(found, name)), piece(found, name)
    other = piece(found, "text_encoder" if name == "vae" else "vae")
    assert other.trouble == "" and other.component and other.component.full


def test_missing_parts_and_what_is_not_taken_are_named(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "m", "sdxl")
    index = json.loads((folder / "model_index.json").read_text())
    del index["text_encoder_2"]
    index["text_encoder"] = ["transformers", "CLIPTextModel"]
    index["tokenizer"] = ["transformers", "CLIPTokenizer"]
    (folder / "model_index.json").write_text(json.dumps(index))
    write_file(folder / "unet/diffusion_pytorch_model.fp16.safetensors", {"a": (1,)})
    (folder / "unet/diffusion_pytorch_model.bin").touch()
    (folder / "whole.ckpt").touch()
    found = survey(folder)
    assert found.lacking == ("text_encoder_2",)
    assert piece(found, "tokenizer").trouble == "its folder is missing"
    beside = "unet/diffusion_pytorch_model.bin", "unet/diffusion_pytorch_model.fp16.safetensors"
    assert found.beside == ("text_encoder_2/", *beside, "whole.ckpt")
    half = survey(folder, "fp16")
    assert piece(half, "unet").files[0].name.endswith(".fp16.safetensors")
    assert "of the variant fp16" in piece(half, "vae").trouble


def test_a_folder_of_stable_cascade_is_known_by_its_stage(tmp_path: Path) -> None:
    stored = expected(tables_of("cascade").folder)
    shutil.copytree(tiny_cascade(), tmp_path / "m")
    write_file(tmp_path / "m/decoder/diffusion_pytorch_model.safetensors", stored["stage-b"])
    write_file(tmp_path / "m/vqgan/diffusion_pytorch_model.safetensors", stored["stage-a"])
    found = survey(tmp_path / "m")
    assert (found.family, found.variant) == ("cascade", "stage-b") and found.lacking == ()
    for name in ("decoder", "vqgan"):
        part = piece(found, name).component
        assert part and part.full and not (part.missing or part.extra or part.bent)
    assert found.index.pipeline == "StableCascadeDecoderPipeline" and piece(found, "text_encoder").files
    prior = survey(tiny_cascade().with_name("cascade-prior"))
    assert piece(prior, "prior").found and not piece(prior, "prior").trouble


def test_shards_are_one_part_and_never_hold_a_tensor_twice(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "m", "sd1")
    (folder / UNET).unlink()
    rows = list(STORED["unet-sd1"].items())
    halves = dict(rows[:300]), dict(rows[300:])
    names = [f"diffusion_pytorch_model-0000{i}-of-00002.safetensors" for i in (1, 2)]
    for name, half in zip(names, halves):
        write_file(folder / "unet" / name, half)
    placed = {key: name for name, half in zip(names, halves) for key in half}
    index = folder / "unet/diffusion_pytorch_model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": placed}))
    unet = piece(survey(folder), "unet")
    assert len(unet.files) == 2 and unet.component and unet.component.full and not unet.component.missing
    write_file(folder / "unet" / names[1], {**halves[1], rows[0][0]: rows[0][1]})
    with pytest.raises(WeightsError, match="is in another shard too"):
        survey(folder)


def test_a_link_that_leads_out_is_refused(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "m", "sd1")
    (tmp_path / "secret.json").write_text("{}")
    (folder / "unet/config.json").unlink()
    (folder / "unet/config.json").symlink_to(tmp_path / "secret.json")
    for look in (lambda: survey(folder), lambda: list(loose(folder / "unet"))):
        with pytest.raises(WeightsError, match="leads out of the model's folder"):
            look()


def test_a_folder_without_an_index_is_a_part_or_files_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "net").mkdir()
    write_file(tmp_path / "net/diffusion_pytorch_model.safetensors", STORED["controlnet-sd1"])
    (tmp_path / "net/config.json").write_text('{"_class_name": "ControlNetModel"}')
    ((files, kind, header),) = loose(tmp_path / "net")
    assert kind == "ControlNetModel" and len(files) == 1 and len(header.entries) == len(STORED["controlnet-sd1"])
    (tmp_path / "loras/more").mkdir(parents=True)
    for name in ("b", "a", "more/c"):
        write_file(tmp_path / f"loras/{name}.safetensors", {"x": (1,)})
    assert [files[0].stem for files, _, _ in loose(tmp_path / "loras")] == ["a", "b", "c"]
    written_otherwise = tmp_path / "net/ip-adapter_sd15.safetensors"
    (tmp_path / "net/diffusion_pytorch_model.safetensors").rename(written_otherwise)
    assert [files for files, _, _ in loose(tmp_path / "net")] == [(written_otherwise,)]
    with pytest.raises(WeightsError, match="holds neither"):
        list(loose(tmp_path / "m"))


def test_inspect_of_a_full_size_folder_loads_no_torch_and_is_quick(tmp_path: Path) -> None:
    """The processor's time is counted, as for files; the wall's is measured by ``safelight bench inspect``."""
    folder = write_folder(tmp_path / "xl", "sdxl")
    code = f"from safelight.cli.main import main; import sys; main(['inspect', {str(folder)!r}]); print(*sys.modules)"
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert not set(run.stdout.splitlines()[-1].split()) & {"torch", "numpy", "tokenizers", "PIL", "huggingface_hub"}
    assert "Stable Diffusion XL, text: a released folder of a StableDiffusionXLPipeline" in run.stdout
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.4
