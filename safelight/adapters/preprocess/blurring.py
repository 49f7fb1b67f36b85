"""Pictures made coarser: blurred, and as a tile of few pixels."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image

from safelight.encoders.clip_pixels import flat
from safelight.errors import RequestError

WIDEST = 256.0
"""The largest sigma, in pixels; a wider one leaves one colour."""


def blur(picture: Image.Image, sigma: float = 4.0) -> Image.Image:
    """A Gaussian of ``sigma`` pixels, 0 to 256; 0 changes nothing.

    Raises:
        RequestError: another sigma.
    """
    return Image.fromarray(np.rint(smoothed(np.asarray(flat(picture), np.float64), sigma)).astype(np.uint8), "RGB")


def tile(picture: Image.Image, factor: int = 4) -> Image.Image:
    """The picture with so many times fewer pixels along an edge, in its own size again.

    Args:
        factor: from 1, which changes nothing, to the shorter edge, which leaves a few colours.

    Raises:
        RequestError: another factor.
    """
    if not 1 <= factor <= min(picture.size):
        raise RequestError(f"a tile has 1 to {min(picture.size)} times fewer pixels along an edge, not {factor}")
    few = (max(picture.width // factor, 1), max(picture.height // factor, 1))
    if factor == 1:
        return flat(picture)
    return flat(picture).resize(few, Image.Resampling.BOX).resize(picture.size, Image.Resampling.BICUBIC)


def smoothed(x: np.ndarray, sigma: float) -> np.ndarray:
    """[H, W, ...] under a Gaussian of ``sigma`` pixels, cut at four sigma; beyond the edge the last pixel goes on.

    Raises:
        RequestError: a sigma that is none.
    """
    if not 0.0 <= sigma <= WIDEST:
        raise RequestError(f"a blur is 0 to {WIDEST:g} pixels wide, not {sigma}")
    if sigma == 0.0:
        return x
    reach = max(math.ceil(4 * sigma), 1)
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    weights /= weights.sum()
    for axis in (0, 1):
        wide = np.pad(x, [(reach, reach) if k == axis else (0, 0) for k in range(x.ndim)], mode="edge")
        count = x.shape[axis]
        total = np.zeros(x.shape)
        for shift, weight in enumerate(weights):
            total += weight * wide.take(range(shift, shift + count), axis)
        x = total
    return x
