"""Contact sheets: many pictures on one page, each with its words beneath."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from safelight.errors import RequestError

__all__ = ["sheet"]

_PAPER, _TEXT = (252, 252, 250), (40, 40, 48)


@cache
def _font(points: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=points)


def _wrapped(text: str, width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, lines: int) -> list[str]:
    """Text broken at spaces into at most ``lines`` lines of ``width`` pixels; what does not fit ends in an ellipsis."""
    out: list[str] = []
    for word in text.split():
        longer = f"{out[-1]} {word}" if out else word
        if out and font.getlength(longer) <= width:
            out[-1] = longer
        else:
            out.append(word)
    if len(out) > lines:
        out = out[:lines]
        while out[-1] and font.getlength(out[-1] + " …") > width:
            out[-1] = out[-1][:-1]
        out[-1] = out[-1].rstrip(" ,.") + " …"
    return out


def sheet(
    pictures: Sequence[np.ndarray],
    captions: Sequence[str] | None = None,
    columns: int = 6,
    scale: int = 1,
    lines: int = 4,
) -> Image.Image:
    """Lay pictures out in rows, captions beneath.

    Args:
        pictures: uint8 [H, W, 3] each, all of one size.
        captions: one per picture, or None for pictures alone; long ones are wrapped and cut.
        columns: pictures in a row, 1 and up.
        scale: whole number by which pictures are enlarged, without smoothing; 1 = as they are.
        lines: lines of text under a picture, 1 and up.

    Returns:
        An RGB image.

    Raises:
        RequestError: no pictures, pictures of different sizes, or another number of captions than pictures.
    """
    if not pictures or len({picture.shape for picture in pictures}) != 1:
        raise RequestError("a contact sheet needs pictures that are all of one size")
    if captions is not None and len(captions) != len(pictures):
        raise RequestError(f"{len(pictures)} pictures need as many captions, not {len(captions)}")
    height, width = (side * scale for side in pictures[0].shape[:2])
    columns = max(1, min(columns, len(pictures)))
    font = _font(max(10, width // 13))
    step = max(10, width // 13) + 3
    gap = max(6, width // 16)
    below = lines * step + gap // 2 if captions is not None else 0
    rows = -(-len(pictures) // columns)
    page = Image.new("RGB", (gap + columns * (width + gap), gap + rows * (height + below + gap)), _PAPER)
    draw = ImageDraw.Draw(page)
    for i, picture in enumerate(pictures):
        x, y = gap + i % columns * (width + gap), gap + i // columns * (height + below + gap)
        page.paste(Image.fromarray(picture).resize((width, height), Image.Resampling.NEAREST), (x, y))
        for k, line in enumerate(_wrapped(captions[i], width, font, lines) if captions is not None else ()):
            draw.text((x, y + height + gap // 2 + k * step), line, fill=_TEXT, font=font)
    return page
