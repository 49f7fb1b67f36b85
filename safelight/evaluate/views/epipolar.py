"""Epipolar distance: what is seen in one view must be found on its line in another.

Points are chosen in the true views, so that a drawn picture cannot choose them: corners (Shi & Tomasi, 1994) of the
visible surface that can be found again between true views. Around each, a patch of the drawn view is looked for in the
drawn neighbour view, near the true place, by normalised correlation. A match is as good as it lies near the epipolar
line (symmetric distance, Hartley & Zisserman, sec. 11.4.3). What cannot be found counts as the whole radius of the
search: in a grey picture nothing can.

Axis legend: V views, H W pixels, n points, k candidates, p pixels of a patch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
import torch

from safelight.evaluate.views.truth import Truth, fitting
from safelight.evaluate.views.warp import FEWEST, Pairs, pairs

CORNERS: Final = 160
"""Corners of a true view that are tried."""
POINTS: Final = 48
"""The most of them that are looked for in each pair of drawn views."""
PATCH: Final = 4
RADIUS: Final = 6
"""Half the side of a patch, and of the window of the search, in pixels of a picture 64 high; both grow with it."""
LEAST: Final = 0.6
"""Correlation from which on a patch counts as found: 1 = equal but for brightness and contrast, 0 = unrelated."""
FAINT: Final = 2.0
"""Standard deviation of a patch, in steps of 255, below which nothing can be recognised in it."""


class Lines(NamedTuple):
    """Where matches lie, over all points that were looked for.

    Attributes:
        distance: mean, in pixels of a picture 64 high: 0 = on the line, `RADIUS` = not found.
        near: share, 0 to 1, found within one such pixel of the line.
        found: share, 0 to 1, found at all.
        points: how many were looked for.
    """

    distance: float
    near: float
    found: float
    points: int


class Landmarks(NamedTuple):
    """Points of view ``one`` that are looked for in view ``other``, and the fundamental matrix [3, 3] between them."""

    one: int
    other: int
    points: Pairs
    fundamental: np.ndarray


def landmarks(true: Truth) -> list[Landmarks]:
    """For every view, the corners of the true picture that are found again, at their true place to a pixel, in the
    true picture of the view that shares most with it: what a perfect model would let us find, and nothing else."""
    found = []
    count, height = true.pictures.shape[:2]
    scale = max(1.0, height / 64)
    for one in range(count):
        shared = {other: pairs(true, one, other) for other in range(count) if other != one}
        other = max(shared, key=lambda view: len(shared[view].rows), default=one)
        if other == one or len(shared[other].rows) < FEWEST:
            continue
        points = _corners(true.pictures[one], shared[other], round(PATCH * scale))
        matched, score = _matched(true.pictures[one], true.pictures[other], points, scale)
        sure = (score >= LEAST) & (np.linalg.norm(matched - points.there, axis=1) <= scale)
        chosen = Pairs(*(part[sure][:POINTS] for part in points))
        fundamental = true.cameras[one].fundamental(true.cameras[other]).numpy()
        found.append(Landmarks(one, other, chosen, fundamental))
    return found


def lines(drawn: np.ndarray, true: Truth, known: Sequence[Landmarks] | None = None) -> Lines:
    """Look for the landmarks in drawn views.

    Args:
        drawn: uint8 [V, H, W, 3] as drawn for the truth's cameras.
        known: what `landmarks` found, if several drawings are held against one truth.

    Raises:
        RequestError: other shapes.
    """
    fitting(drawn, true)
    scale = max(1.0, drawn.shape[1] / 64)
    off = [np.zeros(0)]
    for one, other, points, fundamental in landmarks(true) if known is None else known:
        matched, score = _matched(drawn[one], drawn[other], points, scale)
        here = np.stack([points.columns + 0.5, points.rows + 0.5], 1)
        distance = np.minimum(symmetric(fundamental, here, matched) / scale, RADIUS)
        off.append(np.where(score >= LEAST, distance, np.inf))
    every = np.concatenate(off)
    if not len(every):
        return Lines(float(RADIUS), 0.0, 0.0, 0)
    lost = ~np.isfinite(every)
    mean = float(np.where(lost, RADIUS, every).mean())
    return Lines(mean, float((every <= 1).mean()), float((~lost).mean()), len(every))


def symmetric(fundamental: np.ndarray, here: np.ndarray, there: np.ndarray) -> np.ndarray:
    """Mean of the distances, in pixels, of each point to the other's epipolar line: [n].

    Args:
        fundamental: [3, 3], ``Camera.fundamental``: from points ``here`` to lines there.
        here, there: (u, v) [n, 2] in the two pictures.
    """
    one, other = (np.concatenate([points, np.ones((len(points), 1))], 1) for points in (here, there))
    line_there, line_here = one @ fundamental.T, other @ fundamental
    miss = np.abs((line_there * other).sum(1))
    steep = [np.maximum(np.hypot(line[:, 0], line[:, 1]), 1e-12) for line in (line_there, line_here)]
    mean: np.ndarray = 0.5 * (miss / steep[0] + miss / steep[1])
    return mean


def _corners(picture: np.ndarray, shared: Pairs, margin: int) -> Pairs:
    """The strongest corners among shared points whose patch lies inside the picture, at most `CORNERS`."""
    grey = torch.from_numpy(picture.mean(-1)).float()
    across = torch.zeros_like(grey)
    down = torch.zeros_like(grey)
    across[:, 1:-1], down[1:-1] = (grey[:, 2:] - grey[:, :-2]) / 2, (grey[2:] - grey[:-2]) / 2
    products = torch.stack([across * across, across * down, down * down])
    xx, xy, yy = torch.nn.functional.avg_pool2d(products[None], 5, 1, 2)[0].numpy()
    least = (xx + yy) / 2 - np.sqrt(((xx - yy) / 2) ** 2 + xy**2)  # the smaller eigenvalue
    height, width = grey.shape
    rows, columns = shared.rows, shared.columns
    inside = (rows >= margin) & (rows < height - margin) & (columns >= margin) & (columns < width - margin)
    strength = np.where(inside, least[rows, columns], -1.0)
    order = np.argsort(-strength, kind="stable")[:CORNERS]
    order = order[strength[order] > 0]
    return Pairs(rows[order], columns[order], shared.there[order])


def _matched(one: np.ndarray, other: np.ndarray, points: Pairs, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """The best match of each point: (u, v) [n, 2] in the other picture, and its correlation [n], -1 for a faint one."""
    half, radius = round(PATCH * scale), round(RADIUS * scale)
    margin = half + radius
    if not len(points.rows):
        return np.zeros((0, 2)), np.zeros(0)
    middle = np.clip(np.floor(points.there[:, ::-1]).astype(int), 0, np.array(other.shape[:2]) - 1)
    padded = np.pad(other, ((margin, margin), (margin, margin), (0, 0)), mode="edge").astype(np.float32)
    reach = np.arange(2 * margin + 1)
    around = padded[middle[:, 0, None, None] + reach[:, None], middle[:, 1, None, None] + reach]
    step = np.arange(-half, half + 1)
    patch = one[points.rows[:, None, None] + step[:, None], points.columns[:, None, None] + step].astype(np.float32)
    patch -= patch.mean((1, 2), keepdims=True)
    side = 2 * half + 1
    windows = np.lib.stride_tricks.sliding_window_view(around, (side, side), (1, 2))  # [n, k rows, k columns, 3, p, p]
    together = np.einsum("nabcij,nijc->nab", windows, patch, optimize=True)
    square = np.lib.stride_tricks.sliding_window_view(around**2, (side, side), (1, 2)).sum((4, 5))
    spread = (square - windows.sum((4, 5)) ** 2 / side**2).sum(-1).clip(0)
    own = (patch**2).sum((1, 2, 3))
    least = side**2 * 3 * FAINT**2
    score = together / np.sqrt(np.maximum(spread * own[:, None, None], 1e-6))
    score = np.where((spread < least) | (own[:, None, None] < least), -1.0, score).reshape(len(own), -1)
    best = score.argmax(1)
    down, across = np.divmod(best, 2 * radius + 1)
    found = np.stack([middle[:, 1] + across, middle[:, 0] + down], 1) - radius + 0.5
    return found, score[np.arange(len(best)), best]
