"""Convex solids that a ray can be intersected with in closed form, and how they are painted.

Axis legend: n points, last axis x y z in the world. In its own frame a ball is x² + y² + z² <= 1; a frustum is
x² + y² <= (1 + taper z)², 0 <= z <= 1 (taper 0: cylinder, -1: cone); a box is |x|, |y|, |z| <= 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

import numpy as np

Vector: TypeAlias = tuple[float, float, float]
Region: TypeAlias = Callable[[np.ndarray], np.ndarray]
"""Points in the world [n, 3] -> [n] bool."""

LABELS: Final = (
    "background", "skin", "ear", "nose", "eye", "iris", "mouth", "mark", "hair", "hat", "glasses", "clothes",
)  # fmt: skip
"""Names of the part labels; a label is a place in this tuple."""


@dataclass(frozen=True)
class Decal:
    """Paint on the surface of a shape: where, which colour, and which label the painted place has."""

    where: Region
    color: Vector
    label: str


@dataclass(frozen=True)
class Shape:
    """One solid.

    Attributes:
        kind: the solid in its own frame, see the module's first lines.
        center: its origin in the world.
        axes: [3, 3], own frame to world without translation: columns are the images of the own unit axes.
        color: red, green, blue in [0, 1], before shading.
        label: its name in `LABELS`.
        taper: how much a frustum's radius grows from z = 0 to z = 1.
        keep: where the solid's skin exists; None = everywhere. Where it does not, the ray goes on and may meet the
            far side from within.
        decals: painted in order, the last on top.
    """

    kind: Literal["ball", "frustum", "box"]
    center: Vector
    axes: np.ndarray
    color: Vector
    label: str
    taper: float = 0.0
    keep: Region | None = None
    decals: tuple[Decal, ...] = ()


def ball(
    center: Sequence[float],
    radii: Sequence[float],
    color: Vector,
    label: str,
    keep: Region | None = None,
    decals: Sequence[Decal] = (),
) -> Shape:
    """An ellipsoid with its axes along the world's."""
    return Shape("ball", _vector(center), np.diag(np.asarray(radii, float)), color, label, 0.0, keep, tuple(decals))


def frustum(
    base: Sequence[float],
    top: Sequence[float],
    radii: tuple[float, float],
    color: Vector,
    label: str,
    taper: float = 0.0,
    keep: Region | None = None,
    decals: Sequence[Decal] = (),
) -> Shape:
    """An elliptic cylinder or cone from the centre of its base to that of its top.

    ``radii``: at the base, first the level one across the axis, then the other; at the top both times 1 + taper.
    """
    along = np.asarray(top, float) - np.asarray(base, float)
    side, other = _across(along)
    axes = np.stack([radii[0] * side, radii[1] * other, along], 1)
    return Shape("frustum", _vector(base), axes, color, label, taper, keep, tuple(decals))


def beam(start: Sequence[float], end: Sequence[float], half: tuple[float, float], color: Vector, label: str) -> Shape:
    """A box from ``start`` to ``end`` with half thicknesses: first the level one across, then the other."""
    first, last = np.asarray(start, float), np.asarray(end, float)
    side, other = _across(last - first)
    axes = np.stack([half[0] * side, half[1] * other, (last - first) / 2], 1)
    return Shape("box", _vector((first + last) / 2), axes, color, label)


def box(
    center: Sequence[float],
    half: Sequence[float],
    color: Vector,
    label: str,
    keep: Region | None = None,
    decals: Sequence[Decal] = (),
) -> Shape:
    """A box along the world's axes with half side lengths ``half``."""
    return Shape("box", _vector(center), np.diag(np.asarray(half, float)), color, label, 0.0, keep, tuple(decals))


def _across(along: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two unit vectors that make a right-handed frame with ``along``; the first is level."""
    level = np.cross(along, (0.0, 0.0, 1.0))
    side = level / np.linalg.norm(level) if np.linalg.norm(level) > 1e-9 else np.array([1.0, 0.0, 0.0])
    other = np.cross(along, side)
    return side, other / np.linalg.norm(other)


def _vector(values: Sequence[float]) -> Vector:
    x, y, z = (float(v) for v in values)
    return x, y, z
