"""Charts of lines, drawn with Pillow: numbers against numbers, on plain or logarithmic axes, with a legend."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from PIL import Image, ImageDraw

INK, GRID = (40, 40, 48), (222, 222, 226)
COLOURS = ((180, 30, 30), (60, 90, 180), (30, 130, 80), (200, 120, 20), (120, 60, 150), (90, 90, 90))


class Line(NamedTuple):
    """One line: its name in the legend and its points (across, up)."""

    name: str
    points: Sequence[tuple[float, float]]


class Axis(NamedTuple):
    """What an axis shows, and whether equal distances on it are equal factors."""

    name: str
    logarithmic: bool = False

    def place(self, value: float) -> float:
        """A value on this axis, before it is scaled to pixels."""
        return math.log10(value) if self.logarithmic else value

    def marks(self, low: float, high: float) -> list[float]:
        """Values worth a line between two places: powers of ten, or about five round numbers."""
        if self.logarithmic:
            powers = [10.0**k for k in range(math.ceil(low - 1e-9), math.floor(high + 1e-9) + 1)]
            if len(powers) > 2:
                return powers
            fine = [d * 10.0**k for k in range(math.floor(low), math.ceil(high) + 1) for d in (1, 2, 5)]
            return [value for value in fine if low <= math.log10(value) <= high]
        raw = (high - low) / 5
        size = 10.0 ** math.floor(math.log10(raw))
        step = next(d * size for d in (1, 2, 5, 10) if d * size >= raw)
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        return [i * step for i in range(first, last + 1)]


def chart(lines: Sequence[Line], across: Axis, up: Axis, size: tuple[int, int] = (560, 320)) -> Image.Image:
    """Draw lines with a dot at every point.

    Args:
        lines: points that are not finite, or not above 0 on a logarithmic axis, are left out.
        size: (width, height) in pixels.
    """
    page = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(page)
    left, right, top, bottom = 64, size[0] - 16, 18 + 14 * len(lines), size[1] - 44
    kept = [Line(line.name, [point for point in line.points if _fits(point, across, up)]) for line in lines]
    places = [(across.place(x), up.place(y)) for line in kept for x, y in line.points] or [(0.0, 0.0)]
    spans = [_span([place[i] for place in places]) for i in (0, 1)]

    def pixel(x: float, y: float) -> tuple[float, float]:
        shares = [(axis.place(v) - low) / (high - low) for axis, v, (low, high) in zip((across, up), (x, y), spans)]
        return left + shares[0] * (right - left), bottom - shares[1] * (bottom - top)

    _grid(pen, (across, up), spans, (left, top, right, bottom))
    for i, line in enumerate(kept):
        colour = COLOURS[i % len(COLOURS)]
        spots = [pixel(x, y) for x, y in line.points]
        pen.line(spots, fill=colour, width=2)
        for x, y in spots:
            pen.ellipse((x - 3, y - 3, x + 3, y + 3), fill=colour)
        pen.text((left, 8 + 14 * i), line.name, fill=colour)
    return page


def _fits(point: tuple[float, float], across: Axis, up: Axis) -> bool:
    return all(
        math.isfinite(value) and (value > 0 or not axis.logarithmic) for value, axis in zip(point, (across, up))
    )


def _span(values: Sequence[float]) -> tuple[float, float]:
    """Where an axis begins and ends: a little beyond the values, and never nowhere."""
    low, high = min(values), max(values)
    room = 0.05 * (high - low) or 0.5
    return low - room, high + room


def _grid(
    pen: ImageDraw.ImageDraw,
    axes: tuple[Axis, Axis],
    spans: Sequence[tuple[float, float]],
    box: tuple[float, float, float, float],
) -> None:
    """Lines at round values with their numbers, and the names of both axes."""
    left, top, right, bottom = box
    (low, high), (least, most) = spans
    for value in axes[0].marks(low, high):
        x = left + (axes[0].place(value) - low) / (high - low) * (right - left)
        pen.line((x, top, x, bottom), fill=GRID)
        pen.text((x, bottom + 6), f"{value:.4g}", fill=INK, anchor="mt")
    for value in axes[1].marks(least, most):
        y = bottom - (axes[1].place(value) - least) / (most - least) * (bottom - top)
        pen.line((left, y, right, y), fill=GRID)
        pen.text((left - 6, y), f"{value:.3g}", fill=INK, anchor="rm")
    pen.text(((left + right) / 2, bottom + 24), axes[0].name, fill=INK, anchor="mt")
    pen.text((right, 8), axes[1].name, fill=INK, anchor="ra")


def stacked(pages: Sequence[Image.Image]) -> Image.Image:
    """Pages beneath each other, as wide as the widest."""
    page = Image.new("RGB", (max(each.width for each in pages), sum(each.height for each in pages)), "white")
    top = 0
    for each in pages:
        page.paste(each, (0, top))
        top += each.height
    return page
