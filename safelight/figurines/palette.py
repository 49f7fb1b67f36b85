"""The colours of the toy world: red, green, blue in [0, 1], before shading.

Backgrounds are pale but coloured, parts are either strong, dark, or white; `CLEARANCE` says how far apart they stay.
"""

from __future__ import annotations

from typing import Final

from safelight.figurines.shapes import Vector

SKIN: Final[dict[str, Vector]] = {
    "tan": (0.95, 0.74, 0.55),
    "brown": (0.60, 0.36, 0.20),
    "yellow": (0.98, 0.84, 0.20),
    "green": (0.38, 0.70, 0.28),
    "blue": (0.30, 0.54, 0.90),
    "pink": (0.98, 0.52, 0.66),
}
HAIR: Final[dict[str, Vector]] = {
    "black": (0.10, 0.10, 0.12),
    "brown": (0.38, 0.21, 0.10),
    "blond": (0.96, 0.80, 0.36),
    "red": (0.82, 0.20, 0.10),
    "green": (0.10, 0.50, 0.24),
    "blue": (0.12, 0.26, 0.74),
    "purple": (0.50, 0.18, 0.66),
    "white": (0.97, 0.97, 0.97),
}
IRIS: Final[dict[str, Vector]] = {
    "green": (0.10, 0.66, 0.22),
    "blue": (0.12, 0.40, 0.95),
    "brown": (0.44, 0.22, 0.06),
    "red": (0.90, 0.08, 0.08),
}
HAT: Final[dict[str, Vector]] = {
    "red": (0.88, 0.12, 0.14),
    "orange": (0.98, 0.52, 0.08),
    "yellow": (0.98, 0.86, 0.14),
    "green": (0.14, 0.62, 0.26),
    "blue": (0.14, 0.34, 0.86),
    "purple": (0.54, 0.20, 0.72),
}
CLOTHES: Final[dict[str, Vector]] = {**HAT, "black": (0.11, 0.11, 0.13), "white": (0.97, 0.97, 0.97)}
MARK: Final[dict[str, Vector]] = {"red": (0.86, 0.04, 0.08), "black": (0.06, 0.06, 0.07), "white": (1.0, 1.0, 1.0)}
BACKGROUND: Final[dict[str, Vector]] = {
    "sky blue": (0.60, 0.86, 1.00),
    "mint": (0.60, 0.95, 0.78),
    "lavender": (0.75, 0.69, 1.00),
    "rose": (1.00, 0.74, 0.74),
    "lemon": (1.00, 0.98, 0.64),
    "lime": (0.80, 0.96, 0.50),
    "orchid": (0.98, 0.68, 0.94),
}

CLEARANCE: Final = 0.19
"""The least distance in RGB (Euclidean, channels in [0, 1]) between any background and any shade of any part."""

WHITE: Final[Vector] = (0.98, 0.98, 0.98)
INK: Final[Vector] = (0.07, 0.07, 0.09)
WINE: Final[Vector] = (0.27, 0.03, 0.07)
TONGUE: Final[Vector] = (0.90, 0.30, 0.36)


def darker(color: Vector, factor: float) -> Vector:
    """The colour times ``factor``: 1 leaves it, 0 gives black."""
    return color[0] * factor, color[1] * factor, color[2] * factor
