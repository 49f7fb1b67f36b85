"""The measures of a figurine that its parts share.

World: z up, the person faces -y, their left is +x, the origin is the middle of the head. One unit is about 38 pixels of
a 128² portrait.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from safelight.figurines.shapes import Region

_RADII: Final = {"round": (0.82, 0.78, 0.82), "long": (0.70, 0.76, 0.94), "wide": (0.98, 0.78, 0.74)}


@dataclass(frozen=True)
class Build:
    """Half the head's width (x), depth (y) and height (z), and where things sit on it, in world units."""

    x: float
    y: float
    z: float

    @classmethod
    def of(cls, head: str) -> Build:
        """The build of a head shape, one of ``ATTRIBUTES["head"]``."""
        return cls(*_RADII[head])

    @property
    def brim(self) -> float:
        """Height at which hats sit and above which they hide hair."""
        return 0.60 * self.z

    @property
    def eye(self) -> tuple[float, float]:
        """(x, z) of the person's left eye."""
        return 0.31, 0.06

    @property
    def mouth(self) -> float:
        """Height of the mouth's middle."""
        return -0.56 * self.z

    def across(self, z: float) -> float:
        """Half the head's width at height ``z``; 0 above and below the head."""
        return self.x * math.sqrt(max(0.0, 1.0 - (z / self.z) ** 2))

    def front(self, x: float, z: float) -> float:
        """The y (negative) of the face's surface at (x, z)."""
        return -self.y * math.sqrt(max(0.0, 1.0 - (x / self.x) ** 2 - (z / self.z) ** 2))


def disc(x: float, z: float, radius_x: float, radius_z: float | None = None) -> Region:
    """A region: an ellipse around (x, z), seen from the front, on the figure's front half."""
    tall = radius_x if radius_z is None else radius_z

    def inside(p: np.ndarray) -> np.ndarray:
        return (((p[:, 0] - x) / radius_x) ** 2 + ((p[:, 2] - z) / tall) ** 2 < 1.0) & (p[:, 1] < 0)

    return inside
