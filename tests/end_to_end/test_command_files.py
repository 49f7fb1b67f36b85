"""Files that are missing, damaged, hostile or cannot be written: one line, an exit code, and nothing left behind."""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from safelight.cli import models
from safelight.cli.main import main
from safelight.errors import FileError
from safelight.weights.load import read
from safelight.weights.save import save
from tests.end_to_end.shell import PROMPT, Shell, wrong
from tests.generate.scenes import picture
from tests.models import tiny

UNET = "unet/diffusion_pytorch_model.safetensors"


def cut(path: Path) -> None:
    with path.open("rb+") as file:
        file.truncate(path.stat().st_size // 2)


def edited(path: Path, **change: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), **change}))


def pickled(folder: Path) -> None:
    (folder / UNET).unlink()
    with (folder / "unet/diffusion_pytorch_model.bin").open("wb") as file:
        pickle.dump({"weight": 1}, file)


def misshapen(folder: Path) -> None:
    tensors = {name: tensor.clone() for name, tensor in read(folder / UNET).items()}
    tensors["conv_out.bias"] = torch.zeros(5)
    tensors["conv_out.extra"] = tensors.pop("conv_in.bias")
    save(tensors, folder / UNET)


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "no weights": (lambda folder: (folder / UNET).unlink(), "is the model complete?"),
    "half the weights": (lambda folder: cut(folder / UNET), "cut off"),
    "a pickle": (pickled, "safetensors"),
    "no index": (lambda folder: (folder / "model_index.json").unlink(), "model_index.json"),
    "half an index": (lambda folder: cut(folder / "model_index.json"), "not valid JSON"),
    "another pipeline": (
        lambda folder: edited(folder / "model_index.json", _class_name="FluxPipeline"),
        "a FluxPipeline is not known; known are",
    ),
    "another scheduler": (
        lambda folder: edited(folder / "scheduler/scheduler_config.json", _class_name="IPNDMScheduler"),
        "IPNDMScheduler",
    ),
    "no vocabulary": (lambda folder: (folder / "tokenizer/vocab.json").unlink(), "vocab.json"),
    "half a vocabulary": (lambda folder: cut(folder / "tokenizer/vocab.json"), "not valid JSON"),
    "notes that are none": (lambda folder: (folder / "safelight.json").write_text("["), "not valid JSON"),
    "a weight file of nothing": (lambda folder: (folder / UNET).write_bytes(b""), UNET),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_model_is_one_line_that_names_the_file(damage: str, shell: Shell) -> None:
    model = shell.folder / "model"
    shutil.copytree(tiny(), model)
    break_it, words = DAMAGES[damage]
    break_it(model)
    before = shell.names()
    line = wrong(shell.generate("-o", "x.png", model=model), 1)
    assert words in line and "model" in line
    assert shell.names() == before


def test_wrong_keys_and_shapes_are_a_table(shell: Shell) -> None:
    shutil.copytree(tiny(), shell.folder / "model")
    misshapen(shell.folder / "model")
    said = shell.generate(model="model")
    first, *table = said.err.splitlines()
    assert said.code == 1 and "1 missing, 1 unexpected, 1 of another shape" in first
    assert [line.split()[:2] for line in table] == [
        ["missing", "conv_in.bias"],
        ["unexpected", "conv_out.extra"],
        ["shape", "conv_out.bias"],
    ]


def test_an_empty_file_is_refused_as_a_model(shell: Shell) -> None:
    (shell.folder / "model.safetensors").write_bytes(b"")
    assert "not a safetensors file, or cut off (0 bytes)" in wrong(shell.generate(model="model.safetensors"), 1)


def test_without_the_default_model_the_line_says_what_to_name(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    from safelight.generate import source

    monkeypatch.setattr(source, "shipped", dict)
    assert "unknown model" in wrong(shell.run("generate", PROMPT))


@pytest.mark.skipif(
    os.name == "nt" or not Path("/proc/self").is_dir(), reason="needs a folder that nobody can write to"
)
def test_a_folder_that_cannot_be_written_to_is_found_before_drawing(shell: Shell) -> None:
    assert "cannot be written to" in wrong(shell.generate("-o", "/proc/self/x.png"), 1)
    assert "cannot be" in wrong(shell.generate("--every-step", "/proc/self/steps"), 1)


def test_a_name_that_is_too_long_is_found_before_drawing(shell: Shell) -> None:
    assert "cannot be a file's name" in wrong(shell.generate("-o", "x" * 300 + ".png"), 1)


@pytest.mark.parametrize("name", ["~nosuchuser", "x" * 300])
def test_a_path_that_cannot_be_is_one_line(name: str, shell: Shell) -> None:
    for words in (
        ["generate", PROMPT, "-m", name],
        ["generate", PROMPT, "-m", str(tiny()), "-o", name],
        ["generate", PROMPT, "-m", str(tiny()), "--every-step", name],
        ["generate", "--prompt-file", name],
        ["figurines", "dataset", name, "--count", "1"],
    ):
        assert "cannot be a file's name" in wrong(shell.run(*words), 1), words


def test_a_terminal_that_lacks_a_letter_is_told_in_escapes(monkeypatch: pytest.MonkeyPatch) -> None:
    said = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", said)
    monkeypatch.setattr(models, "run", lambda args: print("a hüt"))
    main(["models"])
    assert said.buffer.getvalue() == b"a h\\xfct\n"  # type: ignore[attr-defined]


def test_json_is_json_on_a_terminal_that_lacks_a_letter(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    assert main(["generate", "hüt", "-m", str(tiny()), "--steps", "1", "--threads", "1", "-o", "x.png", "--json"]) == 0
    assert main(["info", "x.png", "--json"]) == 0
    lines = sys.stdout.buffer.getvalue().splitlines()  # type: ignore[attr-defined]
    assert json.loads(lines[0])["recipe"]["prompt"] == json.loads(lines[1])["prompt"] == "hüt"


def test_a_file_where_a_folder_should_be_is_found_before_drawing(shell: Shell) -> None:
    (shell.folder / "file").write_text("")
    assert "cannot be written to" in wrong(shell.generate("-o", "file/x.png"), 1)
    assert "cannot be made" in wrong(shell.generate("--every-step", "file/steps"), 1)
    assert shell.names() == ["file"]


def test_a_disk_that_fills_up_leaves_no_half_picture(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    ours = os.fsync

    def full(file: int) -> None:
        calls.append(file)
        if len(calls) == 3:  # the file and its folder are the first picture's
            raise OSError(28, "No space left on device")
        ours(file)

    monkeypatch.setattr(os, "fsync", full)
    said = shell.generate("-n", "2", "-o", "x.png")
    assert said.code == 1 and said.err.count("\n") == 1 and "No space left on device" in said.err
    assert shell.names() == ["x-1.png"]


def test_a_hostile_picture_is_one_line(shell: Shell) -> None:
    from tests.generate.test_file import bomb

    (shell.folder / "bomb.png").write_bytes(bomb(50_000, 50_000))
    (shell.folder / "text.png").write_text("not a picture")
    picture().convert("L").convert("I;16").save("deep.png")
    for name, words in (("bomb.png", "too many"), ("text.png", "is no picture"), ("deep.png", "more than 8 bits")):
        line = wrong(shell.generate("--image", name), 1)
        assert name in line and words in line
        assert name in wrong(shell.run("info", name), 1)
        assert name in wrong(shell.run("reproduce", name), 1)


def test_undecoded_bytes_in_a_prompt_are_one_line(shell: Shell) -> None:
    assert "no text; write it in UTF-8" in wrong(shell.generate(prompt="a \udcff hat"))


def test_an_error_that_nobody_thought_of_is_still_one_line(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    from safelight.generate import chain

    def broken(*_: object) -> None:
        raise ZeroDivisionError("by nought")

    monkeypatch.setattr(chain, "settle", broken)
    assert "unexpected ZeroDivisionError: by nought; please report" in wrong(shell.generate(), 1)


def test_writing_is_whole_or_not_at_all_and_fresh_where_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from safelight.errors import ExistsError
    from safelight.weights.save import write

    file = tmp_path / "x"
    write(file, [b"one"], fresh=True)
    with pytest.raises(ExistsError, match="was not overwritten"):
        write(file, [b"two"], fresh=True)
    assert file.read_bytes() == b"one"
    write(file, [b"three"])

    def without_links(*_: object) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", without_links)
    with pytest.raises(ExistsError):
        write(file, [b"four"], fresh=True)
    write(tmp_path / "y", [b"five"], fresh=True)
    assert (file.read_bytes(), (tmp_path / "y").read_bytes()) == (b"three", b"five")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x", "y"]
    with pytest.raises(FileError):
        write(tmp_path / "none" / "z", [b""])
