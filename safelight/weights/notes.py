"""What a model of ours says about itself, checked when it is read: a file may be anyone's.

A folder says it in ``safelight.json``; a single file that `safelight convert` made of one, in its metadata.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from safelight.errors import ConfigError
from safelight.weights.container import read_any
from safelight.weights.folder import read_json

NOTES = "safelight.json"
METADATA = "safelight.notes"
"""Where a single file keeps the text of that file."""
MAX_STEPS = 1000


def notes(place: Path) -> Mapping[str, Any]:
    """Card, camera, defaults, vocabulary, preview of a model's folder or single file; empty for others.

    Raises:
        ConfigError: one of them is not what it should be. WeightsError: the file cannot be read.
    """
    if place.is_file():
        size = place.stat()
        return sound(place, _inside(place, size.st_size, size.st_mtime_ns))
    return sound(place / NOTES, read_json(place / NOTES)) if (place / NOTES).is_file() else {}


def sound(place: Path, told: Mapping[str, Any]) -> Mapping[str, Any]:
    """The same notes, checked; ``place`` is where they were found.

    Raises:
        ConfigError: one of them is not what it should be.
    """
    defaults, camera, preview = told.get("defaults", {}), told.get("camera"), told.get("preview", [])
    checks = {
        "card": isinstance(told.get("card", {}), dict),
        "vocabulary": isinstance(told.get("vocabulary", ""), str),
        "camera": camera is None or (isinstance(camera, dict) and all(map(_number, camera.values()))),
        "preview": isinstance(preview, list) and all(map(_colour, preview)),
        "defaults": isinstance(defaults, dict) and _number(defaults.get("guidance", 1)) and _steps(defaults),
    }
    for name, good in checks.items():
        if not good:
            raise ConfigError(f"{place}: {name} cannot be {str(told[name])[:60]}")
    return told


@lru_cache(maxsize=8)
def _inside(file: Path, size: int, changed: int) -> Mapping[str, Any]:
    """The notes in the metadata of a file of this size that was changed then."""
    text = read_any(file, pickles=True).metadata.get(METADATA, "{}")
    try:
        told = json.loads(text)
        if not isinstance(told, dict):
            raise ValueError("not a table")
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{file}: its {METADATA} are damaged ({error}); convert it again") from None
    return told


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _colour(row: Any) -> bool:
    return isinstance(row, list) and len(row) == 3 and all(map(_number, row))


def _steps(defaults: Mapping[str, Any]) -> bool:
    steps = defaults.get("steps", 1)
    return isinstance(steps, int) and not isinstance(steps, bool) and 1 <= steps <= MAX_STEPS
