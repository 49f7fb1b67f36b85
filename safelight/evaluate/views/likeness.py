"""How like the truth views are, pixel by pixel: PSNR, SSIM, and the overlap of outlines.

Axis legend: V views, H W pixels, last axis red green blue, uint8. What is returned is one number a view.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from safelight.errors import RequestError

MOST: Final = 60.0
"""PSNR of equal pictures, in dB: two that were rounded to 8 bits differ by about as much without meaning it."""
_WINDOW: Final = 11
_WIDTH: Final = 1.5
_STEADY: Final = ((0.01 * 255) ** 2, (0.03 * 255) ** 2)


def psnr(drawn: np.ndarray, true: np.ndarray, weight: np.ndarray | None = None) -> np.ndarray:
    """Peak signal-to-noise ratio in dB, [V]: 10 log10(255² / mean square difference).

    0 = black for white, about 5 to 15 = another picture, 30 = hard to tell apart, `MOST` = equal.

    Args:
        drawn, true: uint8 [V, H, W, 3].
        weight: [V, H, W], how much each pixel counts (the true matte: only the figure); None = all alike.

    Raises:
        RequestError: shapes that do not fit, or a view of weight 0.
    """
    _same(drawn, true)
    square = ((drawn.astype(np.float64) - true) ** 2).mean(-1)
    share = np.ones(square.shape) if weight is None else np.asarray(weight, np.float64)
    if share.shape != square.shape or (share.sum((1, 2)) <= 0).any():
        raise RequestError("the weight of a PSNR is [V, H, W] and above 0 somewhere in every view")
    mean = (share * square).sum((1, 2)) / share.sum((1, 2))
    ratio: np.ndarray = np.minimum(10 * np.log10(255.0**2 / np.maximum(mean, 1e-9)), MOST)
    return ratio


def ssim(drawn: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Structural similarity (Wang et al., 2004, eq. 13: Gaussian window of 11 pixels, standard deviation 1.5; K1 =
    0.01, K2 = 0.03), mean over channels and over the pixels whose window lies inside: [V], -1 to 1 = equal.

    Raises:
        RequestError: shapes that do not fit, or pictures below 11 pixels a side.
    """
    _same(drawn, true)
    if min(drawn.shape[1:3]) < _WINDOW:
        raise RequestError(f"SSIM needs {_WINDOW} pixels a side, not {drawn.shape[1]}x{drawn.shape[2]}")
    x, y = drawn.astype(np.float64), true.astype(np.float64)
    mean_x, mean_y = _blurred(x), _blurred(y)
    spread_x, spread_y = _blurred(x * x) - mean_x**2, _blurred(y * y) - mean_y**2
    together = _blurred(x * y) - mean_x * mean_y
    c1, c2 = _STEADY
    level = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    structure = (2 * together + c2) / (spread_x + spread_y + c2)
    found: np.ndarray = (level * structure).mean((1, 2, 3))
    return found


def overlap(drawn: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Intersection over union of outlines, [V]: 0 = nowhere, 1 = equal; of two empty ones 1.

    Args:
        drawn, true: mattes [V, H, W], bool or shares; a pixel belongs to the figure from one half on.
    """
    if drawn.shape != true.shape:
        raise RequestError(f"mattes of shapes {list(drawn.shape)} and {list(true.shape)} cannot be compared")
    one, other = drawn >= 0.5, true >= 0.5
    either = (one | other).sum((1, 2))
    share: np.ndarray = np.where(either > 0, (one & other).sum((1, 2)) / np.maximum(either, 1), 1.0)
    return share


def _same(drawn: np.ndarray, true: np.ndarray) -> None:
    if drawn.shape != true.shape or drawn.ndim != 4 or drawn.dtype != np.uint8 or true.dtype != np.uint8:
        given = f"{drawn.dtype} {list(drawn.shape)} and {true.dtype} {list(true.shape)}"
        raise RequestError(f"views to compare are two of uint8 [V, H, W, 3], not {given}")


def _blurred(values: np.ndarray) -> np.ndarray:
    """[V, H, W, C] weighted by the window around every pixel that has a whole one."""
    steps = np.arange(_WINDOW) - _WINDOW // 2
    kernel = np.exp(-0.5 * (steps / _WIDTH) ** 2)
    kernel /= kernel.sum()
    rows = sum(k * values[:, i : values.shape[1] - _WINDOW + 1 + i] for i, k in enumerate(kernel))
    both: np.ndarray = sum(k * rows[:, :, i : rows.shape[2] - _WINDOW + 1 + i] for i, k in enumerate(kernel))
    return both
