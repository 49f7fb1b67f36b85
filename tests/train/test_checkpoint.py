"""Checkpoints: whole, or passed over, or refused; never half of one."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from safelight.errors import CheckpointError, FileError
from safelight.train import checkpoint
from safelight.train.checkpoint import MANIFEST, STATE


def _write(folder: Path, *steps: int) -> None:
    for step in steps:
        checkpoint.write(folder, step, {"x": torch.full((64,), float(step))}, {"lr": 1.0})


def _cut(place: Path) -> None:
    data = (place / STATE).read_bytes()
    (place / STATE).write_bytes(data[: len(data) // 2])


def _flip(place: Path) -> None:
    data = bytearray((place / STATE).read_bytes())
    data[-1] ^= 1
    (place / STATE).write_bytes(data)


def _lie(place: Path) -> None:
    manifest = json.loads((place / MANIFEST).read_text())
    manifest["files"][STATE] = "0" * 64
    (place / MANIFEST).write_text(json.dumps(manifest))


DAMAGE: dict[str, Callable[[Path], object]] = {
    "state truncated": _cut,
    "one bit flipped": _flip,
    "wrong hash": _lie,
    "state missing": lambda place: (place / STATE).unlink(),
    "manifest missing": lambda place: (place / MANIFEST).unlink(),
    "manifest truncated": lambda place: (place / MANIFEST).write_text('{"step": 2, "fac'),
    "manifest of another kind": lambda place: (place / MANIFEST).write_text("[1, 2]"),
    "manifest empty": lambda place: (place / MANIFEST).write_text("{}"),
}


def test_the_newest_checkpoint_comes_back_and_two_are_kept(tmp_path: Path) -> None:
    assert checkpoint.latest(tmp_path) is None
    _write(tmp_path, 1, 2, 30)
    found = checkpoint.latest(tmp_path)
    assert found is not None
    assert (found.step, found.facts, found.tensors["x"][0].item()) == (30, {"lr": 1.0}, 30.0)
    assert [place.name for place in checkpoint.found(tmp_path)] == ["step-00000002", "step-00000030"]


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_checkpoint_is_passed_over_for_an_older_one(tmp_path: Path, kind: str) -> None:
    _write(tmp_path, 1, 2)
    DAMAGE[kind](tmp_path / "step-00000002")
    found = checkpoint.latest(tmp_path)
    assert found is not None and found.step == 1


@pytest.mark.parametrize("kind", DAMAGE)
def test_where_every_checkpoint_is_damaged_nothing_is_begun_anew_unasked(tmp_path: Path, kind: str) -> None:
    _write(tmp_path, 1)
    DAMAGE[kind](tmp_path / "step-00000001")
    with pytest.raises(CheckpointError, match="every checkpoint is damaged"):
        checkpoint.latest(tmp_path)


def test_a_half_written_folder_is_not_seen_and_is_cleaned_up(tmp_path: Path) -> None:
    _write(tmp_path, 1)
    shutil.copytree(tmp_path / "step-00000001", tmp_path / ".step-00000002.partial")
    (tmp_path / ".step-00000002.partial" / MANIFEST).unlink()
    found = checkpoint.latest(tmp_path)
    assert found is not None and found.step == 1
    _write(tmp_path, 2)
    assert not list(tmp_path.glob(".*"))


def test_writing_a_step_again_replaces_it(tmp_path: Path) -> None:
    _write(tmp_path, 1)
    checkpoint.write(tmp_path, 1, {"x": torch.zeros(3)}, {})
    found = checkpoint.latest(tmp_path)
    assert found is not None and found.tensors["x"].tolist() == [0.0, 0.0, 0.0]
    assert [place.name for place in tmp_path.iterdir()] == ["step-00000001"]


def test_a_full_disk_is_an_error_that_leaves_the_older_checkpoints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _write(tmp_path, 1)
    real = os.fsync

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(FileError, match="No space left"):
        _write(tmp_path, 2)
    monkeypatch.setattr(os, "fsync", real)
    assert [place.name for place in tmp_path.iterdir()] == ["step-00000001"]
    found = checkpoint.latest(tmp_path)
    assert found is not None and found.step == 1


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(FileError, match="cannot be written"):
        _write(tmp_path / "file" / "checkpoints", 1)


def test_a_system_that_cannot_flush_folders_still_gets_its_checkpoints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner = os.open

    def refuses_folders(path: str | Path, *words: int) -> int:
        if os.path.isdir(path):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return inner(path, *words)

    monkeypatch.setattr(os, "open", refuses_folders)
    _write(tmp_path / "checkpoints", 1)
    monkeypatch.undo()
    newest = checkpoint.latest(tmp_path / "checkpoints")
    assert newest is not None and newest.step == 1
