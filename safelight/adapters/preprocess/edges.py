"""Edges of a picture: thin ones (Canny) and soft ones (Sobel, Laplace).

Axes: [H, W, C] colours as bytes, [H, W] numbers. Source: Canny 1986, "A Computational Approach to Edge Detection",
sections V and VI; with thresholds, norm and ties as OpenCV has them, which the released networks were trained with.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from safelight.adapters.preprocess.blurring import smoothed
from safelight.encoders.clip_pixels import flat
from safelight.errors import RequestError

STEEP = round((2**0.5 - 1) * 2**15)
"""The tangent of an eighth of a half circle, in 1 / 32768: directions are told apart in whole numbers."""
HIGHEST = 2040
"""The largest |gx| + |gy| of bytes: 255 times (4 + 4)."""


def canny(picture: Image.Image, low: float = 100.0, high: float = 200.0, sigma: float = 0.0) -> Image.Image:
    """Thin white edges on black, of the same size.

    Args:
        low, high: 0 to 2040, the sum of the sizes of both slopes; an edge begins above ``high`` and goes on above
            ``low``. 100 and 200 are customary.
        sigma: of a Gaussian before, in pixels; 0 for none.

    Raises:
        RequestError: thresholds that cannot be, or the higher one first.
    """
    if not 0 <= low <= high <= HIGHEST:
        raise RequestError(f"thresholds of edges are 0 <= low <= high <= {HIGHEST}, not {low} and {high}")
    x = smoothed(np.asarray(flat(picture), np.float64), sigma)
    gx, gy = slopes(np.rint(x).astype(np.int64))
    size = np.abs(gx) + np.abs(gy)
    steepest = size.argmax(axis=2)[..., None]  # of three colours the one that changes most
    gx, gy, size = (np.take_along_axis(each, steepest, 2)[..., 0] for each in (gx, gy, size))
    thin = ridges(gx, gy, size) & (size > low)
    kept = joined(thin & (size > high), thin)
    return Image.fromarray(np.where(kept, np.uint8(255), np.uint8(0)), "L").convert("RGB")


def soft(picture: Image.Image, sigma: float = 1.0, kind: str = "sobel") -> Image.Image:
    """Soft edges, the strongest white, of the same size; black where nothing changes.

    Args:
        sigma: of a Gaussian before, in pixels; 0 for none.
        kind: ``sobel``, the length of the slope; ``laplace``, how much a pixel differs from those around it.

    Raises:
        RequestError: no such kind.
    """
    grey = smoothed(np.asarray(flat(picture).convert("L"), np.float64), sigma)
    if kind == "sobel":
        found = np.hypot(*slopes(grey[..., None]))[..., 0]
    elif kind == "laplace":
        wide = np.pad(grey, 1, mode="edge")
        found = np.abs(wide[:-2, 1:-1] + wide[2:, 1:-1] + wide[1:-1, :-2] + wide[1:-1, 2:] - 4 * grey)
    else:
        raise RequestError(f"soft edges are of the kind sobel or laplace, not {kind!r}")
    return Image.fromarray(np.rint(255 * found / max(found.max(), 1e-9)).astype(np.uint8), "L").convert("RGB")


def slopes(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sobel's differences to the right and down of [H, W, C]; beyond the edge the last pixel goes on."""
    wide = np.pad(x, ((1, 1), (1, 1), (0, 0)), mode="edge")
    down = wide[:-2] + 2 * wide[1:-1] + wide[2:]
    across = wide[:, :-2] + 2 * wide[:, 1:-1] + wide[:, 2:]
    return down[:, 2:] - down[:, :-2], across[2:] - across[:-2]


def ridges(gx: np.ndarray, gy: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Where ``size`` is largest along the slope, of four directions; of two equal neighbours the first."""
    wide = np.pad(size, 1)
    rows, columns = size.shape

    def at(y: int, x: int) -> np.ndarray:
        """The neighbour so many rows down and columns to the right; nothing beyond the edge."""
        return wide[1 + y : 1 + y + rows, 1 + x : 1 + x + columns]

    x, y = np.abs(gx), np.abs(gy) << 15
    level = y < x * STEEP
    upright = y > x * STEEP + (x << 16)
    falls = (gx < 0) != (gy < 0)  # towards the upper right
    along = (size > at(0, -1)) & (size >= at(0, 1))
    across = (size > at(-1, 0)) & (size >= at(1, 0))
    rising = (size > at(-1, 1)) & (size > at(1, -1))
    falling = (size > at(-1, -1)) & (size > at(1, 1))
    return np.where(level, along, np.where(upright, across, np.where(falls, rising, falling)))


def joined(seeds: np.ndarray, allowed: np.ndarray) -> np.ndarray:
    """What can be reached from ``seeds`` over ``allowed`` pixels, from each to its eight neighbours."""
    rows, columns = allowed.shape
    open_ = np.pad(allowed & ~seeds, 1).ravel()
    reached = np.pad(seeds, 1).ravel()
    row = columns + 2
    steps = np.array([-row - 1, -row, -row + 1, -1, 1, row - 1, row, row + 1])
    front = np.flatnonzero(reached)
    while front.size:
        near = np.unique(front[:, None] + steps)
        front = near[open_[near]]
        open_[front], reached[front] = False, True
    return reached.reshape(rows + 2, row)[1:-1, 1:-1]
