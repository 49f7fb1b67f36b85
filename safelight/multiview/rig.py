"""Named rigs: where the views of published models are taken from. The facts stand in ``rigs.toml``."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

import torch

from safelight.core.camera import Camera
from safelight.core.similarity import Similarity
from safelight.errors import ConfigError, UnknownNameError
from safelight.multiview.bounds import MOST_VIEWS

FILE = Path(__file__).with_name("rigs.toml")
_LISTS = ("azimuths", "elevations", "assumed")


@dataclass(frozen=True)
class Rig:
    """The cameras of one model, in its order of views.

    Attributes:
        name: how it is asked for.
        title: whose it is. source: where the numbers stand. note: what to know.
        azimuths, elevations: degrees, one a view; 0 in front, counter-clockwise seen from above, positive upwards.
        distance: from the middle, in the model's own unit.
        fov: degrees that the height of a perspective picture spans; None for an orthographic one.
        span: the length that the height of an orthographic picture shows; None for a perspective one.
        size: pixels a side of the released model.
        turn: degrees from this world to the model's own, counter-clockwise: 90 where its front is +x.
        relative: azimuths count from the given picture.
        assumed: names of the fields that the source does not fix.
    """

    name: str
    title: str
    source: str
    note: str
    azimuths: tuple[float, ...]
    elevations: tuple[float, ...]
    distance: float
    size: int
    turn: float
    relative: bool
    assumed: tuple[str, ...]
    fov: float | None = None
    span: float | None = None

    def cameras(self, size: int | None = None, dtype: torch.dtype = torch.float32, own: bool = False) -> Camera:
        """The views: cameras [V] around the origin.

        Args:
            size: pixels a side; None = those of the released model.
            own: in the world of the model's own files, whose front may lie elsewhere; otherwise the front is -y.
        """
        views = Camera.orbit(
            torch.tensor(self.azimuths, dtype=torch.float64),
            torch.tensor(self.elevations, dtype=torch.float64),
            distance=self.distance,
            fov=self.fov or 45.0,
            size=size or self.size,
            dtype=torch.float64,
        )
        views = views if self.span is None else views.orthographic(self.span)
        return (views.moved(Similarity.turned(self.turn, torch.float64)) if own else views).to(dtype)


def rig(name: str) -> Rig:
    """The rig of that name; UnknownNameError names the nearest."""
    if name not in rigs():
        raise UnknownNameError("rig", name, rigs())
    return rigs()[name]


@cache
def rigs() -> Mapping[str, Rig]:
    """All that came along, by name."""
    return read(FILE)


def read(path: Path) -> dict[str, Rig]:
    """The rigs of a file such as ``rigs.toml``.

    Raises:
        ConfigError: it is no such file: names the rig and what is wrong with it.
    """
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read as a table of rigs ({error})") from None
    return {name: _row(f"{path}: rig {name!r}", name, row) for name, row in tables.items()}


def _row(where: str, name: str, row: Any) -> Rig:
    if not isinstance(row, dict):
        raise ConfigError(f"{where} is not a table")
    known = {field.name for field in fields(Rig)} - {"name"}
    if strange := sorted(set(row) - known):
        raise ConfigError(f"{where} has unknown keys: {', '.join(strange)}")
    if missing := sorted(known - {"fov", "span"} - set(row)):
        raise ConfigError(f"{where} lacks {', '.join(missing)}")
    if ("fov" in row) == ("span" in row):
        raise ConfigError(f"{where} needs a fov (perspective) or a span (orthographic), one of the two")
    views = len(row["azimuths"]) if isinstance(row["azimuths"], list) else 0
    if not isinstance(row["elevations"], list):
        row = {**row, "elevations": [row["elevations"]] * views}
    _values(where, row, views)
    told: dict[str, Any] = {key: tuple(value) if key in _LISTS else value for key, value in row.items()}
    return Rig(name=name, **told)


def _values(where: str, row: dict[str, Any], views: int) -> None:
    """ConfigError where a value is of another kind or out of its range."""
    angles = [*row["azimuths"], *row["elevations"]] if views else []
    sound = {
        "title": isinstance(row["title"], str),
        "source": isinstance(row["source"], str) and bool(row["source"]),
        "note": isinstance(row["note"], str),
        "azimuths": 1 <= views <= MOST_VIEWS and all(_within(angle, -360, 360) for angle in angles),
        "elevations": len(row["elevations"]) == views and all(_within(angle, -90, 90) for angle in row["elevations"]),
        "distance": _within(row["distance"], 1e-3, 1e6),
        "fov": "fov" not in row or _within(row["fov"], 1e-3, 179.999),
        "span": "span" not in row or _within(row["span"], 1e-6, 1e6),
        "size": isinstance(row["size"], int) and _within(row["size"], 1, 8192),
        "turn": _within(row["turn"], -360, 360),
        "relative": isinstance(row["relative"], bool),
        "assumed": isinstance(row["assumed"], list) and set(row["assumed"]) <= set(row),
    }
    for key, good in sound.items():
        if not good:
            raise ConfigError(f"{where}: {key} cannot be {str(row[key])[:60]}")


def _within(value: Any, low: float, high: float) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and math.isfinite(value) and low <= value <= high
