"""Hair: shells around the head, cut by regions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from safelight.figurines.build import Build
from safelight.figurines.palette import HAIR, darker
from safelight.figurines.person import Person
from safelight.figurines.shapes import Decal, Region, Shape, ball, frustum


def hair(person: Person, build: Build) -> list[Shape]:
    """The solids of a person's hair; none for a bald head. A hat hides what lies above its brim."""
    if person.hair == "bald":
        return []
    color = HAIR[person.hair_color]
    hatted = person.hat != "none"
    style = {"short": _short, "long": _long, "afro": _afro, "mohawk": _mohawk, "bun": _bun}[person.hair]
    top = build.brim + 0.03 if hatted else np.inf
    return style(build, color, top)


def _short(build: Build, color: tuple[float, float, float], top: float) -> list[Shape]:
    def keep(p: np.ndarray) -> np.ndarray:
        fringe = 0.10 * np.abs(np.mod(p[:, 0] / 0.28, 1.0) - 0.5) * (p[:, 1] < -0.25)
        line = build.z * (0.00 - 0.46 * p[:, 1] / build.y) - fringe
        return (p[:, 2] > line) & (p[:, 2] < top)

    return [_shell(build, (1.09, 1.10, 1.10), color, keep)]


def _long(build: Build, color: tuple[float, float, float], top: float) -> list[Shape]:
    def cap(p: np.ndarray) -> np.ndarray:
        parted = build.z * (0.34 + 0.30 * (1 - np.abs(p[:, 0]) / build.x))
        return ((p[:, 2] > parted) | (p[:, 1] > -0.16)) & (p[:, 2] < top)

    def curtain(p: np.ndarray) -> np.ndarray:
        return (p[:, 1] > -0.30) & (p[:, 2] > -1.40) & (p[:, 2] < min(top, 0.5 * build.z))

    return [
        _shell(build, (1.12, 1.12, 1.10), color, cap),
        ball((0, 0.16, -0.40), (build.x * 1.10 + 0.16, build.y * 1.12, 1.34), color, "hair", keep=curtain),
    ]


def _afro(build: Build, color: tuple[float, float, float], top: float) -> list[Shape]:
    def keep(p: np.ndarray) -> np.ndarray:
        face = (np.abs(p[:, 0]) / (0.90 * build.x)) ** 2 + ((p[:, 2] + 0.40) / (0.46 * build.z + 0.40)) ** 2 < 1
        hem = np.where(p[:, 1] > 0.1, -0.42, np.minimum(-0.42 + 1.6 * (np.abs(p[:, 0]) - build.x - 0.08) ** 2, 0.1))
        return ~(face & (p[:, 1] < 0)) & (p[:, 2] < top) & (p[:, 2] > hem)

    def curls(p: np.ndarray) -> np.ndarray:
        waves = np.sin(11 * p)
        return waves[:, 0] * waves[:, 1] * waves[:, 2] > 0.12

    dark = Decal(curls, darker(color, 0.82), "hair")
    middle = (0, 0.14, 0.14 * build.z + 0.06)
    return [ball(middle, (build.x + 0.40, build.y + 0.34, build.z + 0.36), color, "hair", keep=keep, decals=[dark])]


def _mohawk(build: Build, color: tuple[float, float, float], top: float) -> list[Shape]:
    def strip(p: np.ndarray) -> np.ndarray:
        front = (p[:, 1] > 0) | (p[:, 2] > (0.40 if np.isinf(top) else 0.26) * build.z)
        return (np.abs(p[:, 0]) < 0.20) & front & (p[:, 2] < top) & (p[:, 2] > -0.7 * build.z)

    shapes = [_shell(build, (1.07, 1.08, 1.07), color, strip)]
    if np.isinf(top):
        crest = ball((0, 0.14, 0.50 * build.z), (0.20, 0.92, 0.60 * build.z + 0.48), color, "hair")
        shapes.append(crest)
    return shapes


def _bun(build: Build, color: tuple[float, float, float], top: float) -> list[Shape]:
    def keep(p: np.ndarray) -> np.ndarray:
        line = build.z * (-0.06 - 0.54 * p[:, 1] / build.y)
        return (p[:, 2] > line) & (p[:, 2] < top)

    shapes = [_shell(build, (1.05, 1.07, 1.06), color, keep)]
    if np.isinf(top):
        shapes.append(ball((0, 0.06, build.z + 0.30), (0.38, 0.38, 0.35), color, "hair"))
        tie = darker(color, 0.6) if min(color) > 0.05 else color
        shapes.append(frustum((0, 0.06, build.z - 0.02), (0, 0.06, build.z + 0.10), (0.26, 0.26), tie, "hair"))
    return shapes


def _shell(
    build: Build,
    stretch: tuple[float, float, float],
    color: tuple[float, float, float],
    keep: Region,
    decals: Sequence[Decal] = (),
) -> Shape:
    """The head's ellipsoid made larger by three factors, where ``keep`` says."""
    radii = (build.x * stretch[0], build.y * stretch[1], build.z * stretch[2])
    return ball((0, 0, 0), radii, color, "hair", keep=keep, decals=decals)
