"""Sizes that pictures are trained at: near their own shape, of about one area, multiples of what the network halves.

Sizes are (width, height) in pixels. Source: NovelAI 2022, "Novel AI Improvements on Stable Diffusion" (aspect ratio
bucketing).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from PIL import Image

Size = tuple[int, int]
SLIMMEST = 2.0
"""The longest edge of a bucket by the edge of the square of its area."""


class Fitted(NamedTuple):
    """A picture at the size of its bucket, and what was cut off: left and top, in pixels of the enlarged picture."""

    picture: Image.Image
    crop: tuple[int, int]


def buckets(edge: int, step: int) -> list[Size]:
    """Every size that is used: for each width the highest that the area allows, and the same turned.

    Args:
        edge: of the square whose area no bucket exceeds.
        step: of which all edges are multiples, ``edge`` too; pixels, 1 and up.
    """
    longest = int(SLIMMEST * edge) // step * step
    widths = range(step, longest + 1, step)
    pairs = [(width, min(edge * edge // width // step * step, longest)) for width in widths]
    shortest = max(step, edge * edge // longest // step * step)
    wide = [(width, height) for width, height in pairs if min(width, height) >= shortest]
    return sorted({*wide, *((height, width) for width, height in wide)})


def nearest(size: Size, known: Sequence[Size]) -> Size:
    """The bucket whose shape is nearest to a picture's; of equals the largest."""

    def distance(bucket: Size) -> tuple[float, int]:
        shape = math.log(bucket[0] / bucket[1]) - math.log(size[0] / size[1])
        return abs(shape), -bucket[0] * bucket[1]

    return min(known, key=distance)


def fit(picture: Image.Image, bucket: Size) -> Fitted:
    """A picture enlarged or reduced (Lanczos) until it covers the bucket, what stands over cut off on both sides."""
    scale = max(bucket[0] / picture.width, bucket[1] / picture.height)
    width, height = (max(bucket[i], round(edge * scale)) for i, edge in enumerate(picture.size))
    left, top = (width - bucket[0]) // 2, (height - bucket[1]) // 2
    if picture.size != (width, height):
        picture = picture.resize((width, height), Image.Resampling.LANCZOS)
    return Fitted(picture.crop((left, top, left + bucket[0], top + bucket[1])), (left, top))
