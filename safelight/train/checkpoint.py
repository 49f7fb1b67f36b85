"""Checkpoints that survive a crash at any instant: written aside, forced to disk, then renamed, with a manifest of hashes.

A checkpoint is a folder ``step-00001234`` with ``state.safetensors`` (weights, averages, optimiser) and ``manifest.json``.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from safelight.errors import CheckpointError
from safelight.weights.hash import sha256
from safelight.weights.load import read
from safelight.weights.save import save

STATE, MANIFEST = "state.safetensors", "manifest.json"


def write(folder: Path, step: int, tensors: Mapping[str, Tensor], facts: Mapping[str, Any], keep: int = 2) -> Path:
    """Write the checkpoint of ``step`` and remove all but the newest ``keep``; returns its folder.

    Args:
        folder: where checkpoints live; made if missing.
        facts: what must be equal for a resumption to be exact, such as the settings; JSON.
    """
    folder.mkdir(parents=True, exist_ok=True)
    place = folder / f"step-{step:08d}"
    aside = folder / f".{place.name}.partial"
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir()
    save(dict(tensors), aside / STATE, metadata={"step": str(step)})
    manifest = {"step": step, "facts": dict(facts), "files": {STATE: sha256(aside / STATE)}}
    with open(aside / MANIFEST, "w", encoding="utf-8") as file:
        json.dump(manifest, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    if place.exists():
        shutil.rmtree(place)
    os.replace(aside, place)
    sync_folder(folder)
    for old in found(folder)[:-keep]:
        shutil.rmtree(old, ignore_errors=True)
    return place


def sync_folder(folder: Path) -> None:
    """Force a folder's list of names to disk, so that a rename in it survives a loss of power."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def found(folder: Path) -> list[Path]:
    """The checkpoints in a folder, oldest first."""
    return sorted(p for p in folder.glob("step-*") if (p / MANIFEST).is_file())


def latest(folder: Path) -> tuple[int, dict[str, Tensor], dict[str, Any]] | None:
    """The newest whole checkpoint: its step, tensors and facts; None where there is none.

    A checkpoint whose hash does not hold is passed over for an older one.

    Raises:
        CheckpointError: there are checkpoints and every one is damaged.
    """
    places = found(folder)
    for place in reversed(places):
        manifest = json.loads((place / MANIFEST).read_text("utf-8"))
        if sha256(place / STATE) == manifest["files"][STATE]:
            return manifest["step"], read(place / STATE), manifest["facts"]
    if places:
        raise CheckpointError(f"{folder}: every checkpoint is damaged; remove the folder to start again")
    return None
