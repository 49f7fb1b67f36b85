"""Depth and normals that were measured or rendered elsewhere, as hints: spread over the range, in a named frame."""

from __future__ import annotations

import numpy as np
from PIL import Image

from safelight.encoders.clip_pixels import flat
from safelight.errors import ImageError, UnknownNameError

FRAMES = {"opengl": (1, 1, 1), "directx": (1, -1, 1), "opencv": (1, -1, -1)}
"""Signs of x, y, z of a frame against that of OpenGL: x to the right, y up, z to the viewer. In that of OpenCV y goes
down and z away; in that of DirectX y goes down."""
GREY = ("L", "I", "I;16", "I;16B", "I;16L", "I;16N", "F")


def depth(picture: Image.Image, *, near: str = "bright", missing: float | None = None) -> Image.Image:
    """A map of depth as networks for depth are shown it: spread from black, farthest, to white, nearest.

    Args:
        picture: of 8, 16 or 32 bits; of colours, their grey.
        near: ``bright``, if larger numbers are nearer (inverse depth), or ``dark``, if they are farther (distances).
        missing: the number of pixels where nothing was measured, which become farthest; numbers that are none always
            do.

    Raises:
        UnknownNameError: ``near`` is neither. ImageError: nothing was measured, or the same everywhere.
    """
    if near not in ("bright", "dark"):
        raise UnknownNameError("meaning of near", near, ("bright", "dark"))
    grey = picture if picture.mode in GREY else flat(picture).convert("L")
    x = np.asarray(grey).astype(np.float64)
    there = np.isfinite(x) & (x != missing)
    if not there.any() or x[there].min() == x[there].max():
        raise ImageError("the depth is the same all over, so it says nothing")
    low, high = x[there].min(), x[there].max()
    spread = (x - low) / (high - low)
    nearness = np.where(there, spread if near == "bright" else 1.0 - spread, 0.0)
    return Image.fromarray(np.rint(255 * nearness).astype(np.uint8), "L").convert("RGB")


def normals(picture: Image.Image, *, frame: str, to: str = "opengl") -> Image.Image:
    """A map of normals in another frame: x, y, z as red, green, blue, 128 for 0, every vector of length 1.

    Args:
        frame: in which the picture is, to: in which it becomes; names of `FRAMES`.

    Raises:
        UnknownNameError: no such frame. ImageError: the picture has no colours.
    """
    for each in (frame, to):
        if each not in FRAMES:
            raise UnknownNameError("frame of normals", each, FRAMES)
    if picture.mode not in ("RGB", "RGBA"):
        raise ImageError(f"normals are the colours of a picture of 8 bits, not of one of mode {picture.mode}")
    vectors = np.asarray(picture.convert("RGB"), np.float64) / 127.5 - 1.0
    vectors *= np.array(FRAMES[frame]) * np.array(FRAMES[to])
    length = np.linalg.norm(vectors, axis=2, keepdims=True)
    vectors /= np.maximum(length, 1e-9)
    return Image.fromarray(np.rint((vectors + 1.0) * 127.5).astype(np.uint8), "RGB")
