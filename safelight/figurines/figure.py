"""A person in solids: head, face, ears, body; `hair` and `hats` have their own files."""

from __future__ import annotations

import numpy as np

from safelight.figurines.attributes import HIDES_EARS
from safelight.figurines.build import Build, disc
from safelight.figurines.hair import hair
from safelight.figurines.hats import hat
from safelight.figurines.palette import CLOTHES, INK, IRIS, MARK, SKIN, TONGUE, WHITE, WINE, darker
from safelight.figurines.person import Person
from safelight.figurines.shapes import Decal, Region, Shape, ball, beam, box, frustum


def figure(person: Person, coarse: bool = False) -> list[Shape]:
    """All solids of a person.

    Args:
        coarse: without hair, ears, hat and glasses: nothing tells how the outline of the person goes.
    """
    build = Build.of(person.head)
    shapes = [*_body(person), _head(person, build), *_eyes(person, build), _nose(person, build)]
    if coarse:
        return shapes
    if person.hair not in HIDES_EARS:
        shapes += _ears(person, build)
    return [*shapes, *hair(person, build), *hat(person, build), *_glasses(person, build)]


def _head(person: Person, build: Build) -> Shape:
    side = 1.0 if person.mark_side == "left" else -1.0
    mark = disc(side * (0.24 + 0.37 * build.x), -0.29 - 0.06 * build.z, 0.115)
    decals = [Decal(mark, MARK[person.mark_color], "mark"), *_mouth(person, build)]
    return ball((0, 0, 0), (build.x, build.y, build.z), SKIN[person.skin], "skin", decals=decals)


def _mouth(person: Person, build: Build) -> list[Decal]:
    middle = build.mouth
    half = 0.32

    def arc(bend: float, thick: float) -> Region:
        def inside(p: np.ndarray) -> np.ndarray:
            x = p[:, 0] / half
            line = middle + bend * (x**2 - 0.5)
            return (np.abs(x) < 1) & (np.abs(p[:, 2] - line) < thick) & (p[:, 1] < 0)

        return inside

    def grin(top: float, bottom: float) -> Region:
        def inside(p: np.ndarray) -> np.ndarray:
            x, z = p[:, 0] / half, p[:, 2] - middle
            return (np.abs(x) < 1) & (z < top + 0.04 * x**2) & (z > bottom * (1 - x**2) + 0.06 * x**2) & (p[:, 1] < 0)

        return inside

    if person.mouth == "smile":
        return [Decal(grin(0.10, -0.19), WINE, "mouth"), Decal(grin(0.10, 0.0), WHITE, "mouth")]
    if person.mouth == "frown":
        return [Decal(arc(-0.24, 0.06), WINE, "mouth")]
    if person.mouth == "flat":
        return [Decal(arc(0.0, 0.055), WINE, "mouth")]
    tongue = disc(0.0, middle - 0.14, 0.13, 0.09)
    opened = disc(0.0, middle, 0.19, 0.20)
    return [Decal(opened, WINE, "mouth"), Decal(lambda p: tongue(p) & opened(p), TONGUE, "mouth")]


def _eyes(person: Person, build: Build) -> list[Shape]:
    shapes = []
    x, z = build.eye
    for side in (-1.0, 1.0):
        at = side * x
        decals = [
            Decal(disc(at * 0.94, z - 0.01, 0.145), IRIS[person.eyes], "iris"),
            Decal(disc(at * 0.94, z - 0.01, 0.062), INK, "iris"),
            Decal(disc(at * 0.94 + 0.065, z + 0.07, 0.045), WHITE, "iris"),
        ]
        shapes.append(ball((at, build.front(at, z) + 0.05, z), (0.21, 0.15, 0.24), WHITE, "eye", decals=decals))
    return shapes


def _nose(person: Person, build: Build) -> Shape:
    color = darker(SKIN[person.skin], 0.72)
    z = -0.16 * build.z
    y = build.front(0.0, z)
    if person.nose == "small":
        return ball((0, y - 0.02, z), (0.10, 0.10, 0.09), color, "nose")
    if person.nose == "round":
        return ball((0, y - 0.06, z), (0.20, 0.18, 0.185), color, "nose")
    return ball((0, y - 0.08, z + 0.02), (0.10, 0.24, 0.27), color, "nose")


def _ears(person: Person, build: Build) -> list[Shape]:
    shapes = []
    skin = SKIN[person.skin]
    inner = darker(skin, 0.76)
    for side in (-1.0, 1.0):
        if person.ears == "pointed":
            inside = Decal(disc(side * (build.x + 0.10), 0.05, 0.09, 0.12), inner, "ear")
            base, tip = (side * (build.x - 0.10), 0.08, -0.10), (side * (build.x + 0.36), 0.14, 0.46)
            shapes.append(frustum(base, tip, (0.10, 0.20), skin, "ear", taper=-0.98, decals=[inside]))
        elif person.ears == "big":
            inside = Decal(disc(side * (build.x + 0.17), 0.03, 0.15, 0.20), inner, "ear")
            shapes.append(ball((side * (build.x + 0.14), 0.06, 0.03), (0.28, 0.10, 0.33), skin, "ear", decals=[inside]))
        else:
            inside = Decal(disc(side * (build.x + 0.05), -0.02, 0.055, 0.085), inner, "ear")
            at = (side * (build.x + 0.01), 0.04, -0.02)
            shapes.append(ball(at, (0.13, 0.10, 0.17), skin, "ear", decals=[inside]))
    return shapes


def _glasses(person: Person, build: Build) -> list[Shape]:
    if person.glasses == "none":
        return []
    x, z = build.eye
    y = build.front(x, z) - 0.16
    half = {"round": 0.285, "square": 0.285, "sunglasses": 0.30}[person.glasses]
    shapes = [box((0, y, z + 0.06), (x - 0.15, 0.03, 0.035), INK, "glasses")]
    for side in (-1.0, 1.0):
        at = side * x
        shapes.append(_lens(person.glasses, at, y, z, half))
        start, end = (side * (x + half - 0.03), y, z + 0.08), (side * (build.x + 0.03), 0.08, z + 0.06)
        shapes.append(beam(start, end, (0.028, 0.035), INK, "glasses"))
    return shapes


def _lens(style: str, x: float, y: float, z: float, half: float) -> Shape:
    """A frame around an open lens, or a dark lens."""
    if style == "round":
        hole = disc(x, z, 0.205)
        ends = (x, y - 0.04, z), (x, y + 0.04, z)
        return frustum(*ends, (half, half), INK, "glasses", keep=lambda p: ~hole(p))
    if style == "square":

        def framed(p: np.ndarray) -> np.ndarray:
            return np.maximum(np.abs(p[:, 0] - x), np.abs(p[:, 2] - z)) > 0.205

        return box((x, y, z), (half, 0.04, half), INK, "glasses", keep=framed)

    def glint(p: np.ndarray) -> np.ndarray:
        along = (p[:, 0] - x) + 0.6 * (p[:, 2] - z)
        inside = np.maximum(np.abs(p[:, 0] - x), np.abs(p[:, 2] - z)) < 0.2
        return (np.abs(along - 0.02) < 0.05) & inside

    shine = Decal(glint, (0.45, 0.50, 0.60), "glasses")
    return box((x, y, z), (half, 0.04, half - 0.02), INK, "glasses", decals=[shine])


def _body(person: Person) -> list[Shape]:
    color = CLOTHES[person.clothes_color]
    collar = WHITE if person.clothes == "tie" else darker(color, 0.82)
    decals: list[Decal] = []
    if person.clothes == "striped":
        stripe = (0.42, 0.42, 0.46) if person.clothes_color == "white" else WHITE
        decals.append(Decal(lambda p: np.mod(p[:, 2] + 1.20, 0.30) < 0.12, stripe, "clothes"))
    if person.clothes == "tie":
        # Shirt and tie change where they would vanish: a grey collar on white, a white tie on a grey shirt on black.
        collar = darker(WHITE, 0.72) if person.clothes_color == "white" else WHITE
        dark = person.clothes_color == "black"
        decals.append(Decal(_wedge(0.46, -1.62), (0.55, 0.55, 0.60) if dark else collar, "clothes"))
        decals.append(Decal(_tie, WHITE if dark else INK, "clothes"))
    return [
        frustum((0, 0.04, -1.25), (0, 0.02, -0.5), (0.27, 0.27), darker(SKIN[person.skin], 0.86), "skin"),
        ball((0, 0.06, -1.80), (1.08, 0.66, 0.84), color, "clothes", decals=decals),
        ball((0, 0.03, -1.02), (0.38, 0.36, 0.11), collar, "clothes"),
    ]


def _wedge(half: float, bottom: float) -> Region:
    """The V of a shirt, ``half`` wide at the collar, ending in a point at height ``bottom``."""

    def inside(p: np.ndarray) -> np.ndarray:
        return (np.abs(p[:, 0]) < half * (p[:, 2] - bottom) / (-0.98 - bottom)) & (p[:, 1] < 0)

    return inside


def _tie(p: np.ndarray) -> np.ndarray:
    """A knot below the collar and a blade that widens downwards."""
    x, z = np.abs(p[:, 0]), p[:, 2]
    knot = (z > -1.22) & (x < 0.13)
    blade = (z <= -1.22) & (x < 0.08 + 0.16 * (-1.22 - z))
    return (knot | blade) & (p[:, 1] < 0)
