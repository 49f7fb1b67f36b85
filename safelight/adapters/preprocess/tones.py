"""Hints of other tones: turned round, and cut into black and white."""

from __future__ import annotations

import numpy as np
from PIL import Image

from safelight.encoders.clip_pixels import flat
from safelight.errors import RequestError


def invert(picture: Image.Image) -> Image.Image:
    """White for black: networks for lines are shown white lines on black."""
    return Image.fromarray(255 - np.asarray(flat(picture)), "RGB")


def threshold(picture: Image.Image, level: int = 128) -> Image.Image:
    """White where the grey is at least ``level``, 1 to 255, black elsewhere.

    Raises:
        RequestError: another level, which would leave one colour.
    """
    if not 1 <= level <= 255:
        raise RequestError(f"the grey that becomes white is 1 to 255, not {level}")
    grey = np.asarray(flat(picture).convert("L"))
    return Image.fromarray(np.where(grey >= level, np.uint8(255), np.uint8(0)), "L").convert("RGB")
