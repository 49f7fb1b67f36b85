"""Portraits put together from cached parts: the same pixels as ``render.render``, a hundred times as often.

A part (hair, a nose, clothes …) is traced once per shape it can have, coloured once per colour, and kept; a portrait is
then the nearest of eight layers at every sample, averaged over the samples of a pixel. Only what changes between two
people needs to be put together again, so a window of the picture can be asked for.

Axis legend: H W samples of a grid, last axis three linear mixtures of red, green and blue (see ``OPPONENT``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Final, NamedTuple

import numpy as np

from safelight.figurines.attributes import ATTRIBUTES, HIDES_EARS
from safelight.figurines.figure import figure
from safelight.figurines.palette import BACKGROUND
from safelight.figurines.person import Person
from safelight.figurines.render import PORTRAIT, shaded, view_camera
from safelight.figurines.shapes import Shape
from safelight.figurines.trace import View, trace


class Part(NamedTuple):
    """Which attributes give a part its shape, and which its colours."""

    shape: tuple[str, ...]
    color: tuple[str, ...]


#: label of a shape -> what it depends on.
PARTS: Final[dict[str, Part]] = {
    "skin": Part(("head", "mark_side", "mouth"), ("skin", "mark_color")),
    "ear": Part(("head", "ears", "hair"), ("skin",)),
    "nose": Part(("head", "nose"), ("skin",)),
    "eye": Part(("head",), ("eyes",)),
    "hair": Part(("head", "hair", "hat"), ("hair_color",)),
    "hat": Part(("head", "hat"), ("hat_color",)),
    "glasses": Part(("head", "glasses"), ()),
    "clothes": Part(("clothes",), ("clothes_color",)),
}

#: red, green, blue -> brightness and two differences, stretched: hues count for more than light and shade.
OPPONENT: Final = np.array(
    [[0.45, 0.80, 0.25], [-0.60, -0.60, 1.20], [1.20, -1.20, 0.0]],
    np.float32,
)

_NOBODY: Final = Person(**{name: values[0] for name, values in ATTRIBUTES.items()})


class Grid(NamedTuple):
    """A picture of ``size``² pixels with ``per_side``² samples in each, seen from ``azimuth`` and ``elevation``.

    The camera is that of portraits, moved around the figure (`render.view_camera`); degrees.
    """

    size: int
    per_side: int
    azimuth: float = PORTRAIT["azimuth"]
    elevation: float = PORTRAIT["elevation"]


class Window(NamedTuple):
    """Rows and columns of pixels, ends excluded."""

    top: int
    bottom: int
    left: int
    right: int

    def joined(self, other: Window) -> Window:
        """The smallest window that holds both."""
        return Window(
            min(self.top, other.top),
            max(self.bottom, other.bottom),
            min(self.left, other.left),
            max(self.right, other.right),
        )

    def grown(self, margin: int, grid: Grid) -> Window:
        """Larger by some pixels on every side, as far as the picture goes."""
        low, high = max(0, self.top - margin), min(grid.size, self.bottom + margin)
        return Window(low, high, max(0, self.left - margin), min(grid.size, self.right + margin))

    @property
    def slices(self) -> tuple[slice, slice]:
        """For indexing a picture."""
        return slice(self.top, self.bottom), slice(self.left, self.right)


class Layer(NamedTuple):
    """One part alone: the pixels it touches, and in every sample of these its depth (inf = not there) and colour."""

    window: Window
    depth: np.ndarray
    color: np.ndarray


class _Traced(NamedTuple):
    window: Window
    depth: np.ndarray  # [h, w]
    paint: np.ndarray  # [h, w] which of the part's paints
    light: np.ndarray  # [h, w] factor on the paint
    gloss: np.ndarray  # [h, w] white added to it


def whole(grid: Grid) -> Window:
    """All pixels."""
    return Window(0, grid.size, 0, grid.size)


def parts_of(attribute: str) -> tuple[str, ...]:
    """The parts that look different when an attribute changes; none for the background."""
    return tuple(label for label, part in PARTS.items() if attribute in (*part.shape, *part.color))


def layer(label: str, values: Mapping[str, str], grid: Grid) -> Layer | None:
    """One part of a person, or None where they do not have it (no hat, ...)."""
    part = PARTS[label]
    shape = tuple(_same_for(label, name, values[name]) for name in part.shape)
    return _colored(label, shape, tuple(values[name] for name in part.color), grid)


def _same_for(label: str, name: str, value: str) -> str:
    """One value for all that a part cannot tell apart: hair knows whether there is a hat, ears whether they show."""
    if (label, name) == ("hair", "hat"):
        return value if value == "none" else ATTRIBUTES["hat"][1]
    if (label, name) == ("ear", "hair"):
        return HIDES_EARS[0] if value in HIDES_EARS else "bald"
    return value


@lru_cache(maxsize=1536)
def _colored(label: str, shape: tuple[str, ...], color: tuple[str, ...], grid: Grid) -> Layer | None:
    traced = _traced(label, shape, grid)
    if traced is None:
        return None
    part = PARTS[label]
    solids = _solids(label, {**dict(zip(part.shape, shape, strict=True)), **dict(zip(part.color, color, strict=True))})
    paints = np.array([paint for solid in solids for paint in (solid.color, *(d.color for d in solid.decals))])
    painted = (paints @ OPPONENT.T).astype(np.float32)[traced.paint]
    painted *= traced.light[..., None]
    painted += traced.gloss[..., None] * OPPONENT.sum(1)
    return Layer(traced.window, traced.depth, painted)


def _solids(label: str, values: Mapping[str, str]) -> list[Shape]:
    return [solid for solid in figure(replace(_NOBODY, **values)) if solid.label == label]


@lru_cache(maxsize=1024)
def _traced(label: str, shape: tuple[str, ...], grid: Grid) -> _Traced | None:
    """Trace one part; the colours are those of nobody in particular."""
    solids = _solids(label, dict(zip(PARTS[label].shape, shape, strict=True)))
    if not solids:
        return None
    view = _view(grid)
    seen = trace(solids, view)
    there = seen.shape >= 0
    window = _around(there, grid)
    first = np.cumsum([0] + [1 + len(solid.decals) for solid in solids])
    paint = np.zeros(there.shape, np.int16)
    light, gloss = np.zeros(there.shape, np.float32), np.zeros(there.shape, np.float32)
    for i, solid in enumerate(solids):
        rows, columns = np.nonzero(seen.shape == i)
        if not len(rows):
            continue
        points = view.points(rows, columns, seen.depth[rows, columns])
        which = np.full(len(rows), first[i], np.int16)
        for k, decal in enumerate(solid.decals):
            which[decal.where(points)] = first[i] + 1 + k
        paint[rows, columns] = which
        gloss[rows, columns] = _shaded(_repainted(solid, 0.0), points, view)
        light[rows, columns] = _shaded(_repainted(solid, 1.0), points, view) - gloss[rows, columns]
    s = grid.per_side
    cut = (slice(window.top * s, window.bottom * s), slice(window.left * s, window.right * s))
    return _Traced(window, *(np.ascontiguousarray(a[cut]) for a in (seen.depth, paint, light, gloss)))


def _shaded(solid: Shape, points: np.ndarray, view: View) -> np.ndarray:
    """What light makes of the colour at points [n, 3] on a grey solid: [n]."""
    return shaded(solid, points, view)[:, 0]


def _repainted(solid: Shape, level: float) -> Shape:
    """The solid in one grey, decals too; light and gloss are what shading makes of white and of black."""
    grey = (level, level, level)
    return replace(solid, color=grey, decals=tuple(replace(decal, color=grey) for decal in solid.decals))


@lru_cache(maxsize=8)
def _view(grid: Grid) -> View:
    return View.of(view_camera(grid.azimuth, grid.elevation, grid.size), grid.per_side)


def _around(there: np.ndarray, grid: Grid) -> Window:
    rows, columns = np.nonzero(there.any(1))[0], np.nonzero(there.any(0))[0]
    s = grid.per_side
    return Window(int(rows[0]) // s, int(rows[-1]) // s + 1, int(columns[0]) // s, int(columns[-1]) // s + 1)


@lru_cache(maxsize=16)
def _backdrop(name: str) -> np.ndarray:
    return (OPPONENT @ np.array(BACKGROUND[name], np.float32)).astype(np.float32)


def layers(values: Mapping[str, str], grid: Grid) -> dict[str, Layer]:
    """All parts that a person has."""
    found = {label: layer(label, values, grid) for label in PARTS}
    return {label: one for label, one in found.items() if one is not None}


class Canvas(NamedTuple):
    """Samples of a window while layers are laid on: depth [h, w] and colour [h, w, 3]; far away is the backdrop."""

    window: Window
    per_side: int
    depth: np.ndarray
    color: np.ndarray

    @classmethod
    def empty(cls, background: str, grid: Grid, window: Window) -> Canvas:
        """Nothing but the background."""
        size = ((window.bottom - window.top) * grid.per_side, (window.right - window.left) * grid.per_side)
        color = np.empty((*size, 3), np.float32)
        color[:] = _backdrop(background)
        return cls(window, grid.per_side, np.full(size, np.inf, np.float32), color)

    def copy(self) -> Canvas:
        """The same, to go on differently."""
        return self._replace(depth=self.depth.copy(), color=self.color.copy())

    def add(self, one: Layer) -> Canvas:
        """Lay a part on, in place: it shows where it is nearer than what is there."""
        mine, s = self.window, self.per_side
        top, bottom = max(mine.top, one.window.top), min(mine.bottom, one.window.bottom)
        left, right = max(mine.left, one.window.left), min(mine.right, one.window.right)
        if top < bottom and left < right:
            here, there = (
                (slice((top - w.top) * s, (bottom - w.top) * s), slice((left - w.left) * s, (right - w.left) * s))
                for w in (mine, one.window)
            )
            nearer = one.depth[there] < self.depth[here]
            np.copyto(self.depth[here], one.depth[there], where=nearer)
            np.copyto(self.color[here], one.color[there], where=nearer[..., None])
        return self

    def picture(self) -> np.ndarray:
        """The mean over the samples of each pixel: [H, W, 3]."""
        return averaged(self.color, self.per_side)


def compose(values: Mapping[str, str], grid: Grid, window: Window | None = None) -> np.ndarray:
    """A portrait, or a window of it, in opponent colours: float32 [H, W, 3]."""
    canvas = Canvas.empty(values["background"], grid, window or whole(grid))
    for one in layers(values, grid).values():
        canvas.add(one)
    return canvas.picture()


def averaged(picture: np.ndarray, per_side: int) -> np.ndarray:
    """The mean over the samples of each pixel: [H s, W s, 3] -> [H, W, 3]."""
    if per_side == 1:
        return picture
    rows = picture[::per_side].copy()
    for i in range(1, per_side):
        rows += picture[i::per_side]
    both = rows[:, ::per_side].copy()
    for i in range(1, per_side):
        both += rows[:, i::per_side]
    both *= np.float32(1.0 / per_side**2)
    return both


def softened(picture: np.ndarray, passes: int) -> np.ndarray:
    """[H, W, C] blurred by (1, 2, 1) / 4 both ways, ``passes`` times: standard deviation sqrt(passes / 2)."""
    for _ in range(passes):
        tall = np.concatenate([picture[:1], picture, picture[-1:]])
        picture = 0.25 * (tall[:-2] + tall[2:]) + 0.5 * picture
        wide = np.concatenate([picture[:, :1], picture, picture[:, -1:]], axis=1)
        picture = 0.25 * (wide[:, :-2] + wide[:, 2:]) + 0.5 * picture
    return picture
