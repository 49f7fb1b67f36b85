"""Pictures of figurines: colour, coverage, normals, depth and part labels, for any camera.

Axis legend: H W pixels of the picture, n points, last axis red green blue or x y z.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import torch

from safelight.core.camera import Camera, Number
from safelight.errors import RequestError, UnknownNameError
from safelight.figurines.figure import figure
from safelight.figurines.palette import BACKGROUND
from safelight.figurines.person import Person
from safelight.figurines.shapes import LABELS, Shape
from safelight.figurines.trace import Seen, View, normals, trace

PORTRAIT: Final[Mapping[str, Any]] = MappingProxyType(
    {"azimuth": 0.0, "elevation": 6.0, "distance": 8.0, "fov": 24.0, "target": (0.0, 0.0, -0.04)}
)
"""The canonical camera of portraits, as `Camera.orbit` takes it: degrees, and lengths in the world."""
BUFFERS: Final = ("rgb", "mask", "normals", "depth", "labels")
SHADES: Final = (0.50, 1.0)
"""The least and the greatest factor that light gives a colour."""
GLOSS: Final = 0.16
"""The most white that a highlight mixes in."""
GLOSSY: Final = ("hair", "hat", "nose", "glasses")
"""The labels of parts that have highlights."""

_LIGHT: Final = np.array([-0.42, -0.62, 0.66], np.float32) / np.float32(np.sqrt(0.42**2 + 0.62**2 + 0.66**2))
_SHINE: Final = np.array([-0.34, -0.80, 0.50], np.float32) / np.float32(np.sqrt(0.34**2 + 0.80**2 + 0.50**2))
_SHINY: Final = np.array([name in GLOSSY for name in LABELS])


@dataclass(frozen=True, eq=False)
class Render:
    """What was asked for; the rest is None.

    Attributes:
        rgb: uint8 [H, W, 3], averaged over the samples of each pixel.
        mask: float32 [H, W], the share of the pixel that the figure covers: 0 = background only, 1 = figure only.
        normals_world: float32 [H, W, 3], unit, towards the viewer, at the pixel's centre; zero on the background.
        normals_camera: the same in the camera's axes (x right, y down, z forward, so z <= 0).
        depth: float32 [H, W], distance along the camera's forward axis at the pixel's centre; inf on the background.
        labels: uint8 [H, W], places in ``shapes.LABELS`` at the pixel's centre; 0 = background.
    """

    rgb: np.ndarray | None = None
    mask: np.ndarray | None = None
    normals_world: np.ndarray | None = None
    normals_camera: np.ndarray | None = None
    depth: np.ndarray | None = None
    labels: np.ndarray | None = None


def portrait_camera(size: int = 128) -> Camera:
    """The canonical camera of portraits: in front, 6 degrees up."""
    return view_camera(PORTRAIT["azimuth"], PORTRAIT["elevation"], size)


def view_camera(
    azimuth: Number,
    elevation: Number,
    size: int = 128,
    aside: tuple[Number, Number] = (0.0, 0.0),
) -> Camera:
    """The canonical camera moved around the figure, at the same distance and field of view; degrees.

    All take one number, or a tensor with one for each camera.

    Args:
        aside: how far to its own right and up it is moved after that, in the world's unit, looking straight on, so that
            the figure leaves the middle of the picture.
    """
    distance, fov, target = (PORTRAIT[name] for name in ("distance", "fov", "target"))
    camera = Camera.orbit(azimuth, elevation, distance=distance, fov=fov, size=size, target=target)
    right, down = torch.as_tensor(aside[0]), -torch.as_tensor(aside[1])
    moved = torch.stack([right, down, torch.zeros_like(right)], -1)
    return replace(camera, position=camera.position + (camera.rotation @ moved[..., None])[..., 0])


def portrait(person: Person, size: int = 128) -> np.ndarray:
    """The person from the canonical camera: uint8 [size, size, 3]."""
    picture = render(person, _portrait_camera(size), buffers=("rgb",)).rgb
    assert picture is not None
    return picture


@lru_cache(maxsize=8)
def _portrait_camera(size: int) -> Camera:
    return portrait_camera(size)


def render(
    person: Person,
    camera: Camera,
    size: int | None = None,
    samples: int = 4,
    buffers: Collection[str] = ("rgb", "mask"),
    coarse: bool = False,
) -> Render:
    """Draw a person.

    Args:
        person: who.
        camera: a single camera (no leading dimensions).
        size: draw the same view with this many pixels a side; None = the camera's own size.
        samples: rays per pixel for rgb and mask, a square number: 1 = the centre only, 4 = two each way.
        buffers: what to draw, of `BUFFERS`; "normals" gives both frames.
        coarse: leave out hair, ears, hat and glasses, as a face model's geometry would: a head, a nose and a body,
            which do not give away the outline.

    Raises:
        UnknownNameError: an unknown buffer.
        RequestError: a batch of cameras, or ``samples`` not a square.
    """
    for name in buffers:
        if name not in BUFFERS:
            raise UnknownNameError("buffer", name, BUFFERS)
    if camera.shape:
        raise RequestError(f"render draws one camera at a time, this is a batch of shape {tuple(camera.shape)}")
    per_side = round(samples**0.5)
    if per_side < 1 or per_side**2 != samples:
        raise RequestError(f"samples must be a square number such as 1, 4 or 9, not {samples}")
    camera = camera if size is None else camera.resized(size)
    shapes = figure(person, coarse=coarse)
    drawn: dict[str, np.ndarray] = {}
    if "rgb" in buffers or "mask" in buffers:
        drawn |= _smooth(shapes, View.of(camera, per_side), per_side, BACKGROUND[person.background], "rgb" in buffers)
    if {"normals", "depth", "labels"} & set(buffers):
        drawn |= _exact(shapes, View.of(camera))
    names = {"normals": ("normals_world", "normals_camera")}
    return Render(**{part: drawn[part] for name in buffers for part in names.get(name, (name,))})


def _smooth(
    shapes: Sequence[Shape], view: View, per_side: int, background: tuple[float, float, float], colored: bool
) -> dict[str, np.ndarray]:
    """Colour and coverage, averaged over per_side² rays per pixel."""
    seen = trace(shapes, view)
    drawn = {"mask": _average((seen.shape >= 0).astype(np.float32)[..., None], per_side)[..., 0]}
    if colored:
        picture = np.empty((*seen.shape.shape, 3), np.float32)
        picture[:] = background
        for rows, columns, shape, points in _surfaces(shapes, seen, view):
            picture[rows, columns] = shaded(shape, points, view)
        drawn["rgb"] = np.rint(_average(picture, per_side) * 255).astype(np.uint8)
    return drawn


def _exact(shapes: Sequence[Shape], view: View) -> dict[str, np.ndarray]:
    """Normals, depth and labels at the pixel centres."""
    seen = trace(shapes, view)
    world = np.zeros((*seen.shape.shape, 3), np.float32)
    labels = np.zeros(seen.shape.shape, np.uint8)
    for rows, columns, shape, points in _surfaces(shapes, seen, view):
        world[rows, columns] = _facing(normals(shape, points), points, view)
        labels[rows, columns] = _painted(shape, points)[1]
    camera = world @ view.rotation.astype(np.float32)
    return {"normals_world": world, "normals_camera": camera, "depth": seen.depth, "labels": labels}


def _surfaces(
    shapes: Sequence[Shape], seen: Seen, view: View
) -> Iterator[tuple[np.ndarray, np.ndarray, Shape, np.ndarray]]:
    """For every shape that is seen: the pixels' rows and columns, the shape, and the world points seen there."""
    flat = seen.shape.ravel()
    order = np.argsort(flat, kind="stable")
    starts = np.searchsorted(flat[order], np.arange(len(shapes) + 1))
    for i, shape in enumerate(shapes):
        if starts[i] < starts[i + 1]:
            rows, columns = np.divmod(order[starts[i] : starts[i + 1]], seen.shape.shape[1])
            yield rows, columns, shape, view.points(rows, columns, seen.depth[rows, columns])


def _facing(normal: np.ndarray, points: np.ndarray, view: View) -> np.ndarray:
    """Normals [n, 3] turned towards the viewer: shells are seen from within, too."""
    away = np.einsum("ij,ij->i", normal, view.sight(points)) < 0
    normal[away] *= -1
    return normal


def _painted(shape: Shape, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Colours [n, 3] and labels [n] of points on a shape."""
    color = np.empty((len(points), 3), np.float32)
    color[:] = shape.color
    label = np.full(len(points), LABELS.index(shape.label), np.uint8)
    for decal in shape.decals:
        where = decal.where(points)
        color[where] = decal.color
        label[where] = LABELS.index(decal.label)
    return color, label


def shaded(shape: Shape, points: np.ndarray, view: View) -> np.ndarray:
    """What light makes of a shape's colours at world points [n, 3] on it, [n, 3], 0 to 1.

    Soft light from the person's upper right, darker where the surface turns away, with a painted-on highlight.
    """
    color, label = _painted(shape, points)
    normal = _facing(normals(shape, points), points, view)
    low, high = SHADES
    sight = view.sight(points)
    sight /= np.sqrt(np.einsum("ij,ij->i", sight, sight))[:, None]
    turned = np.minimum(np.einsum("ij,ij->i", normal, sight) * 2.2, 1.0)
    light = 0.5 + 0.5 * (normal @ _LIGHT)
    shade = low + (high - low) * np.minimum(light * 1.12, 1.0) * (0.45 + 0.55 * turned)
    shine = np.clip((normal @ _SHINE - 0.93) * 30.0, 0.0, 1.0)
    mixed = (GLOSS * shine * _SHINY[label])[:, None]
    return color * shade[:, None] * (1 - mixed) + mixed


def _average(picture: np.ndarray, per_side: int) -> np.ndarray:
    """[H s, W s, C] -> [H, W, C], the mean over blocks of s by s."""
    if per_side == 1:
        return picture
    height, width, channels = picture.shape
    blocks = picture.reshape(height // per_side, per_side, width // per_side, per_side, channels)
    return blocks.mean((1, 3))
