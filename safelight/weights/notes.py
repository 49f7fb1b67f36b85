"""What a model of ours says about itself in ``safelight.json``, checked when it is read: a file may be anyone's."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safelight.errors import ConfigError
from safelight.weights.folder import read_json

NOTES = "safelight.json"
MAX_STEPS = 1000


def notes(folder: Path) -> Mapping[str, Any]:
    """Card, camera, defaults, vocabulary, preview; empty for other folders.

    Raises:
        ConfigError: one of them is not what it should be. WeightsError: the file cannot be read.
    """
    place = folder / NOTES
    if not place.is_file():
        return {}
    told = read_json(place)
    defaults, camera, preview = told.get("defaults", {}), told.get("camera"), told.get("preview", [])
    sound = {
        "card": isinstance(told.get("card", {}), dict),
        "vocabulary": isinstance(told.get("vocabulary", ""), str),
        "camera": camera is None or (isinstance(camera, dict) and all(map(_number, camera.values()))),
        "preview": isinstance(preview, list) and all(map(_colour, preview)),
        "defaults": isinstance(defaults, dict) and _number(defaults.get("guidance", 1)) and _steps(defaults),
    }
    for name, good in sound.items():
        if not good:
            raise ConfigError(f"{place}: {name} cannot be {str(told[name])[:60]}")
    return told


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _colour(row: Any) -> bool:
    return isinstance(row, list) and len(row) == 3 and all(map(_number, row))


def _steps(defaults: Mapping[str, Any]) -> bool:
    steps = defaults.get("steps", 1)
    return isinstance(steps, int) and not isinstance(steps, bool) and 1 <= steps <= MAX_STEPS
