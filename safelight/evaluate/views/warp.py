"""Depth warp: does a point of the surface have the same colour in all views that see it?

Two pictures agree wherever both are grey, so the bare difference of colours says nothing. It is therefore held against
what chance gives: the difference between points of the same two pictures that do not belong together. What carries no
information about the surface scores 1, however smooth it is.

Axis legend: V views, H W pixels, n points of the surface; u v are pixels with centres at 0.5.
"""

from __future__ import annotations

from functools import cache
from itertools import permutations
from typing import Final, NamedTuple

import numpy as np
import torch

from safelight.core.camera import Camera
from safelight.evaluate.views.truth import Truth, fitting

SLACK: Final = 0.03
"""Depths that differ by less, in units of the world (a head is about 2 wide), are the same surface."""
FEWEST: Final = 32
"""Two views with fewer points in common are not compared."""
GREY: Final = 1.0
"""A chance difference below this, in steps of 255, is that of a picture in which nothing can be seen."""


class Pairs(NamedTuple):
    """Points of the surface that two views see.

    Attributes:
        rows, columns: int [n], the pixels of the one view.
        there: float32 [n, 2], (u, v) in the other view.
    """

    rows: np.ndarray
    columns: np.ndarray
    there: np.ndarray


class Agreement(NamedTuple):
    """Differences of colour, 0 to 1 (black against white), mean over points, channels and pairs of views.

    Attributes:
        error: between the drawn views, at the same points of the surface. 0 for a constant picture: not to be used
            alone.
        chance: the same between points that do not belong together.
        astray: between a drawn view and the true colour that another view shows at that point.
        points: how many were compared.
    """

    error: float
    chance: float
    astray: float
    points: int

    @property
    def ratio(self) -> float:
        """Error by chance: 0 = every point has one colour, 1 = views that know nothing of each other, or grey."""
        return self.error / self.chance if self.chance * 255 >= GREY else 1.0


def pairs(true: Truth, one: int, other: int) -> Pairs:
    """The points that views ``one`` and ``other`` both see: by exact depth, those that are hidden left out."""
    rows, columns = np.nonzero(np.isfinite(true.depth[one]))
    there, depth = moved(true.cameras, (one, other), rows, columns, true.depth[one][rows, columns])
    found = sampled(true.depth[other][..., None], there)[:, 0]
    inside = ((there >= 0.5) & (there <= np.array(true.cameras.size[::-1]) - 0.5)).all(1)
    with np.errstate(invalid="ignore"):
        seen = inside & (np.abs(found - depth) < SLACK)
    return Pairs(rows[seen], columns[seen], there[seen])


def moved(
    cameras: Camera, views: tuple[int, int], rows: np.ndarray, columns: np.ndarray, depth: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Where the second of two views has what the first has at pixels (rows, columns) [n] at ``depth`` [n]: (u, v)
    [n, 2] and its depth there [n]."""
    pixels = torch.from_numpy(np.stack([columns + 0.5, rows + 0.5], 1).astype(np.float32))
    world = cameras[views[0]].unproject(pixels, torch.from_numpy(depth.astype(np.float32)))
    there, far = cameras[views[1]].project(world)
    return there.numpy(), far.numpy()


def sampled(picture: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Values of a picture [H, W, C] at (u, v) [n, 2]: float [n, C], bilinear between pixels, the edge's beyond."""
    height, width = picture.shape[:2]
    u, v = (np.clip(points[:, k] - 0.5, 0, side - 1) for k, side in ((0, width), (1, height)))
    left, top = np.minimum(u.astype(int), max(width - 2, 0)), np.minimum(v.astype(int), max(height - 2, 0))
    right, bottom = np.minimum(left + 1, width - 1), np.minimum(top + 1, height - 1)
    a, b = (u - left)[:, None], (v - top)[:, None]
    with np.errstate(invalid="ignore"):  # where depth is infinite
        upper = (1 - a) * picture[top, left] + a * picture[top, right]
        lower = (1 - a) * picture[bottom, left] + a * picture[bottom, right]
        between: np.ndarray = (1 - b) * upper + b * lower
    return between


def agreement(drawn: np.ndarray, true: Truth) -> Agreement:
    """Compare every two views with enough in common, both ways.

    Args:
        drawn: uint8 [V, H, W, 3] as drawn for the truth's cameras.

    Raises:
        RequestError: other shapes.
    """
    fitting(drawn, true)
    total = np.zeros(3)
    count = 0
    for one, other in permutations(range(len(drawn)), 2):
        shared = pairs(true, one, other)
        n = len(shared.rows)
        if n < FEWEST:
            continue
        here = drawn[one][shared.rows, shared.columns].astype(np.float64)
        there = sampled(drawn[other].astype(np.float64), shared.there)
        known = sampled(true.pictures[other].astype(np.float64), shared.there)
        mixed = there[_shuffled(n)]
        total += [np.abs(here - colors).mean(-1).sum() for colors in (there, mixed, known)]
        count += n
    error, chance, astray = (total / max(1, count) / 255).tolist()
    return Agreement(error, chance, astray, count)


@cache
def _shuffled(count: int) -> np.ndarray:
    """An order of ``count`` points in which hardly one is in its place; always the same."""
    return np.random.default_rng(count).permutation(count)
