"""Write a model's scores into its own card, where ``safelight models`` shows them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from safelight.errors import ConfigError
from safelight.evaluate.evidence import Claim
from safelight.generate.models import NOTES, notes
from safelight.weights.save import write


def inscribe(folder: Path, claims: Iterable[Claim]) -> None:
    """Replace the scores in the card of a model of ours by these claims.

    Raises:
        ConfigError: the folder has no card. FileError: it cannot be written.
    """
    told = dict(notes(folder))
    if "card" not in told:
        raise ConfigError(
            f"{folder / NOTES}: has no card to write scores into; only models made by 'safelight train' do"
        )
    scores = {
        entry.claim: f"{entry.value:g} {entry.unit}" + (f" (bar {entry.bar})" if entry.bar else "") for entry in claims
    }
    told["card"] = {**told["card"], "scores": scores}
    write(folder / NOTES, [(json.dumps(told, indent=2, ensure_ascii=False) + "\n").encode()])
