"""Checkpoints that survive a crash at any instant: written aside, forced to disk, then renamed, with their hashes.

A checkpoint is a folder ``step-00001234`` with ``state.safetensors`` (weights, averages, optimiser) and
``manifest.json`` (the step, the settings, the hash of the state).
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from safelight.errors import CheckpointError, FileError
from safelight.weights.folder import read_json
from safelight.weights.hash import sha256
from safelight.weights.load import read
from safelight.weights.save import flush_folder, save
from safelight.weights.save import write as write_file

STATE, MANIFEST = "state.safetensors", "manifest.json"


class Checkpoint(NamedTuple):
    """A run as it stood after ``step`` steps: its tensors, and the settings that decide how it goes on."""

    step: int
    tensors: dict[str, Tensor]
    facts: dict[str, Any]


def write(folder: Path, step: int, tensors: Mapping[str, Tensor], facts: Mapping[str, Any], keep: int = 2) -> Path:
    """Write the checkpoint of ``step`` and remove all but the newest ``keep``; returns its folder.

    Args:
        folder: where checkpoints live; made if missing.
        facts: what must be equal for a resumption to be exact, such as the settings; JSON.
        keep: 1 and up; with 2 there is one to fall back on if the disk damages the newest.

    Raises:
        FileError: the disk is full, or the folder cannot be written to; the older checkpoints are untouched.
    """
    place = folder / f"step-{step:08d}"
    aside, replaced = folder / f".{place.name}.partial", folder / f".{place.name}.replaced"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for left in folder.glob(".step-*"):  # of a run that was killed while writing
            shutil.rmtree(left)
        aside.mkdir()
        save(tensors, aside / STATE, metadata={"step": str(step)})
        manifest = {"step": step, "facts": dict(facts), "files": {STATE: sha256(aside / STATE)}}
        write_file(aside / MANIFEST, [json.dumps(manifest, indent=1).encode()])
        if place.exists():  # a folder cannot be renamed onto another
            place.rename(replaced)
        aside.rename(place)
        flush_folder(folder)
    except OSError as error:
        what = error.strerror or str(error)
        raise FileError(f"{place}: the checkpoint cannot be written ({what}); make room and resume") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    for old in [replaced, *found(folder)[:-keep]]:
        shutil.rmtree(old, ignore_errors=True)
    return place


def found(folder: Path) -> list[Path]:
    """The folders of checkpoints in a folder, whole or damaged, oldest first."""
    return sorted(place for place in folder.glob("step-*") if place.is_dir())


def latest(folder: Path) -> Checkpoint | None:
    """The newest whole checkpoint, its tensors mapped; None where there are none.

    A checkpoint that lacks a file, or whose hash does not hold, is passed over for an older one.

    Raises:
        CheckpointError: there are checkpoints and every one is damaged.
    """
    places = found(folder)
    for place in reversed(places):
        manifest = whole(place)
        if manifest is not None:
            return Checkpoint(manifest["step"], read(place / STATE), manifest["facts"])
    if places:
        raise CheckpointError(f"{folder}: every checkpoint is damaged; remove the folder to start again")
    return None


def whole(place: Path) -> dict[str, Any] | None:
    """The manifest of a checkpoint whose files are as it says; None for a damaged one."""
    try:
        manifest = read_json(place / MANIFEST)
        typed = isinstance(manifest["step"], int) and isinstance(manifest["facts"], dict)
        return manifest if typed and manifest["files"][STATE] == sha256(place / STATE) else None
    except (FileError, KeyError, TypeError):
        return None
