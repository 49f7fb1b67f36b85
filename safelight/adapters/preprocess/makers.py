"""The ways to make a hint of a picture that need nothing but the picture, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from PIL.Image import Image

from safelight.adapters.preprocess.blurring import blur, tile
from safelight.adapters.preprocess.edges import canny, soft
from safelight.adapters.preprocess.measured import depth
from safelight.adapters.preprocess.tones import invert, threshold

MAKERS: Mapping[str, Callable[[Image], Image]] = {
    "canny": canny,
    "soft": soft,
    "blur": blur,
    "tile": tile,
    "invert": invert,
    "threshold": threshold,
    "depth": depth,
}
"""Each at its customary numbers; ``depth`` spreads a map whose bright is near."""
