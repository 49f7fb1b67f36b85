"""Cut a figurine out of its plain background: possible because no part ever has a background's colour.

Axis legend: H W pixels, last axis red green blue.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from safelight.figurines.palette import BACKGROUND, CLEARANCE

_PURE: Final = 0.25 * CLEARANCE
"""Nearer to the background's colour than this, a pixel is background, noise and compression included."""
_HALF: Final = 0.36


def background_color(picture: np.ndarray) -> np.ndarray:
    """The colour [3], in [0, 1], of the plain ground of a picture uint8 [H, W, 3]: the median along the upper edge
    and the upper halves of the sides, where no portrait has a figure."""
    half = len(picture) // 2
    edges = [picture[:2].reshape(-1, 3), picture[:half, :2].reshape(-1, 3), picture[:half, -2:].reshape(-1, 3)]
    return np.median(np.concatenate(edges), axis=0) / 255.0


def coverage(picture: np.ndarray, background: str | None = None) -> np.ndarray:
    """How much of each pixel the figure covers.

    A pixel on the outline mixes figure and ground; its share is its distance from the ground's colour relative to
    that of the purest figure pixel next to it.

    Args:
        picture: uint8 [H, W, 3].
        background: one of ``ATTRIBUTES["background"]``; None = read from the picture's edges.

    Returns:
        float32 [H, W], 0 = background, 1 = figure.
    """
    ground = background_color(picture) if background is None else np.array(BACKGROUND[background])
    distance = np.sqrt(((picture / 255.0 - ground) ** 2).sum(-1)).astype(np.float32)
    pure = distance < _PURE
    outline = ~pure & (_neighbors(pure.astype(np.float32)) > 0)
    share = distance / np.maximum(_neighbors(distance), _PURE)
    return np.where(pure, np.float32(0), np.where(outline, share, np.float32(1)))


def matte(picture: np.ndarray, background: str | None = None) -> np.ndarray:
    """Where the figure is: bool [H, W], of pixels that it covers by about a half (one sample less, as rims are shaded
    darker than what lies next to them). Arguments as of `coverage`."""
    return coverage(picture, background) >= _HALF


def _neighbors(values: np.ndarray) -> np.ndarray:
    """The greatest value in the 3 x 3 pixels around each pixel [H, W]."""
    padded = np.pad(values, 1, mode="edge")
    rows = np.maximum(np.maximum(padded[:-2], padded[1:-1]), padded[2:])
    return np.maximum(np.maximum(rows[:, :-2], rows[:, 1:-1]), rows[:, 2:])
