"""Write a model's scores into its own card, where ``safelight models`` shows them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from safelight.errors import ConfigError, FileError
from safelight.evaluate.evidence import Claim
from safelight.weights.notes import NOTES, notes
from safelight.weights.save import write


def carded(folder: Path) -> dict[str, Any]:
    """What a model of ours brings along, its card included.

    Raises:
        ConfigError: the folder has no card. FileError: its card cannot be written to.
    """
    told = dict(notes(folder))
    if "card" not in told:
        raise ConfigError(
            f"{folder / NOTES}: has no card to write scores into; only models made by 'safelight train' do"
        )
    if not os.access(folder, os.W_OK):
        raise FileError(f"{folder / NOTES}: cannot be written; copy the model to where it can be")
    return told


def inscribe(folder: Path, claims: Iterable[Claim]) -> None:
    """Replace the scores in the card of a model of ours by these claims.

    Raises:
        ConfigError, FileError: see `carded`.
    """
    told = carded(folder)
    scores = {
        entry.claim: f"{entry.value:g} {entry.unit}" + (f" (bar {entry.bar})" if entry.bar else "") for entry in claims
    }
    told["card"] = {**told["card"], "scores": scores}
    write(folder / NOTES, [(json.dumps(told, indent=2, ensure_ascii=False) + "\n").encode()])
