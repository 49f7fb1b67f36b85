"""How the score moves with the number of steps and with the guidance, as numbers and as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from PIL import Image, ImageDraw

from safelight.evaluate.figurines.pictures import Settings, Tell, compare, draw, read_all
from safelight.evaluate.figurines.prompts import Prompt
from safelight.figurines.scores import Scores
from safelight.generate.pipe import Pipe

STEPS = (3, 5, 10, 20, 40)
GUIDANCE = (1.0, 1.5, 2.0, 3.0, 5.0, 7.5)
_INK, _GRID, _LINE, _LIGHT = (40, 40, 48), (222, 222, 226), (180, 30, 30), (60, 90, 180)


class Point(NamedTuple):
    """One setting, and what it scored: ``knob`` is ``steps`` or ``guidance``."""

    knob: str
    value: float
    scores: Scores


def curves(pipe: Pipe, prompts: Sequence[Prompt], settings: Settings, tell: Tell) -> list[Point]:
    """The same prompts and seeds once for every number of steps and every guidance, the other left as it is."""
    variants = [("steps", float(n), replace(settings, steps=n)) for n in STEPS]
    variants += [("guidance", g, replace(settings, guidance=g)) for g in GUIDANCE]
    points = []
    for knob, value, variant in variants:
        seen = read_all(draw(pipe, [prompt.text for prompt in prompts], variant, tell), settings.workers, tell)
        points.append(Point(knob, value, compare(seen, [prompt.stated for prompt in prompts])))
    return points


def chart(points: Sequence[Point], size: tuple[int, int] = (760, 300)) -> Image.Image:
    """Two panels, one per knob: red all stated attributes, blue figures wholly right; values evenly spaced."""
    page = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(page)
    width = size[0] // 2
    for place, knob in enumerate(("steps", "guidance")):
        _panel(pen, knob, [point for point in points if point.knob == knob], (place * width, width, size[1]))
    return page


def _panel(pen: ImageDraw.ImageDraw, knob: str, points: Sequence[Point], room: tuple[int, int, int]) -> None:
    """One panel in ``room``: its left edge, width and height."""
    left, right, top, bottom = room[0] + 48, room[0] + room[1] - 16, 34, room[2] - 44
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        y = bottom - share * (bottom - top)
        pen.line((left, y, right, y), fill=_GRID)
        pen.text((left - 8, y), f"{share:.0%}", fill=_INK, anchor="rm")
    across = [left + 14 + i * (right - left - 28) / max(1, len(points) - 1) for i in range(len(points))]
    for x, point in zip(across, points, strict=True):
        pen.text((x, bottom + 8), f"{point.value:g}", fill=_INK, anchor="mt")
    pen.text(((left + right) / 2, bottom + 26), knob, fill=_INK, anchor="mt")
    for colour, word, at, shares in (
        (_LINE, "stated attributes right", left, [point.scores.overall for point in points]),
        (_LIGHT, "figures wholly right", left + 150, [point.scores.wholly_right for point in points]),
    ):
        line = [(x, bottom - share * (bottom - top)) for x, share in zip(across, shares, strict=True)]
        pen.line(line, fill=colour, width=2)
        for x, y in line:
            pen.ellipse((x - 3, y - 3, x + 3, y + 3), fill=colour)
        pen.text((at, 10), word, fill=colour)
