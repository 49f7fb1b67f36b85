"""Named rigs: where the views of published models are taken from. The facts stand in ``rigs.toml``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch

from safelight.core.camera import Camera
from safelight.core.similarity import Similarity
from safelight.errors import ConfigError, UnknownNameError
from safelight.multiview.bounds import MOST_VIEWS
from safelight.multiview.table import rows, sound, within

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
    return {name: _row(where, name, row) for where, name, row in rows(path, "rig", Rig, optional=("fov", "span"))}


def _row(where: str, name: str, row: dict[str, Any]) -> Rig:
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
    good = {
        "title": isinstance(row["title"], str),
        "source": isinstance(row["source"], str) and bool(row["source"]),
        "note": isinstance(row["note"], str),
        "azimuths": 1 <= views <= MOST_VIEWS and all(within(angle, -360, 360) for angle in angles),
        "elevations": len(row["elevations"]) == views and all(within(angle, -90, 90) for angle in row["elevations"]),
        "distance": within(row["distance"], 1e-3, 1e6),
        "fov": "fov" not in row or within(row["fov"], 1e-3, 179.999),
        "span": "span" not in row or within(row["span"], 1e-6, 1e6),
        "size": within(row["size"], 1, 8192, whole=True),
        "turn": within(row["turn"], -360, 360),
        "relative": isinstance(row["relative"], bool),
        "assumed": isinstance(row["assumed"], list) and set(row["assumed"]) <= set(row),
    }
    sound(where, row, good)
