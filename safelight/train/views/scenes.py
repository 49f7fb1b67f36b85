"""The training scenes, rendered once: for each person the portrait, and views from cameras on an orbit.

Axes: N people, V views, S pixels. View 0 is the portrait. ``people.npy`` int64 [N, 16] codes, ``orbits.npy`` float32
[N, V, 4] azimuths and elevations in degrees and how far aside the camera is (`render.view_camera`), ``pictures.npy``
and ``normals.npy`` uint8 [N, V, S, S, 3]; normals are coarse, without hair, ears, hat and glasses, in the camera's
own axes; ``labels.npy`` uint8 [N, V, S, S], which part of a picture is seen (`shapes.LABELS`). ``scenes.done`` holds
how many people are finished.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from safelight.core.noise import key
from safelight.figurines.dataset import normal_map
from safelight.figurines.person import Person
from safelight.figurines.render import PORTRAIT, render, view_camera
from safelight.train import rendered
from safelight.train.figurines.portraits import PEOPLE, codes_of

WHAT, ORBITS = "scenes", "orbits"
DRAWN = {"pictures": (3,), "normals": (3,), "labels": ()}
"""What is drawn, and how many numbers a pixel has."""
CHUNK = 25
"""People that are drawn between two reports."""
ELEVATIONS = (-10.0, 30.0)
"""The lowest and the highest camera, in degrees."""


class Scenes(NamedTuple):
    """Finished scenes, on disk; see the module for the shapes."""

    pictures: np.ndarray
    normals: np.ndarray
    labels: np.ndarray
    orbits: np.ndarray
    codes: np.ndarray


def render_all(
    folder: Path, count: int, views: int, size: int, seed: int, workers: int, aside: float = 0.0
) -> Iterator[int]:
    """Render ``count`` training people, each from in front and from ``views`` cameras; yields how many are done.

    A picture is a function of (seed, its numbers), so any number of workers, 1 and up, gives the same files.

    Args:
        aside: see `orbits`.

    Raises:
        CheckpointError: the folder holds scenes of other people or of another size.
        FileError: the disk has no room for all scenes, or the folder cannot be written to.
    """
    codes = {PEOPLE: codes_of(count, seed), ORBITS: orbits(count, views, seed, aside)}
    kept = rendered.Kept(WHAT, codes, {name: (views + 1, size, size, *pixel) for name, pixel in DRAWN.items()})
    yield from rendered.fill(folder, kept, partial(render_some, size=size), workers, CHUNK)


def orbits(count: int, views: int, seed: int, aside: float = 0.0) -> np.ndarray:
    """Where the cameras stand: [count, 1 + views, 4] azimuths, spread over the whole circle, and elevations, degrees,
    then how far to the right and up of that.

    A person's azimuths divide the circle into ``views`` parts, one camera somewhere in each, in any order.

    Args:
        aside: the most that cameras are moved right, left, up or down, in the figurines' own unit; not the portrait's.
    """
    rng = np.random.default_rng(key(seed, ORBITS))
    parts = rng.permuted(np.tile(np.arange(views), (count, 1)), axis=1)
    azimuths = 360 * (parts + rng.random((count, views))) / views - 180
    found = np.zeros((count, views + 1, 4), np.float32)
    found[:, 0, :2] = PORTRAIT["azimuth"], PORTRAIT["elevation"]
    found[:, 1:, 0], found[:, 1:, 1] = azimuths, rng.uniform(*ELEVATIONS, (count, views))
    found[:, 1:, 2:] = rng.uniform(-aside, aside, (count, views, 2))
    return found


def render_some(codes: np.ndarray, cameras: np.ndarray, size: int) -> dict[str, np.ndarray]:
    """The arrays of people given by codes [n, 16] and cameras [n, V, 4]."""
    people = [Person.from_codes(row) for row in codes]
    drawn = [
        [view(person, size, *(float(number) for number in one)) for one in around]
        for person, around in zip(people, cameras, strict=True)
    ]
    return {name: np.stack([[one[i] for one in person] for person in drawn]) for i, name in enumerate(DRAWN)}


def view(
    person: Person, size: int, azimuth: float, elevation: float, right: float = 0.0, up: float = 0.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A picture, its coarse normals, uint8 [S, S, 3] each, and its parts, uint8 [S, S]; degrees, and how far aside."""
    camera = view_camera(azimuth, elevation, size, (right, up))
    seen = render(person, camera, buffers=("rgb", "labels"))
    geometry = render(person, camera, buffers=("normals",), coarse=True)
    assert seen.rgb is not None and seen.labels is not None and geometry.normals_camera is not None
    return seen.rgb, normal_map(geometry.normals_camera), seen.labels.astype(np.uint8)


def load(folder: Path) -> Scenes:
    """The finished scenes of a run, memory-mapped.

    Raises:
        CheckpointError: they are missing, unfinished or damaged; says what to do.
    """
    return Scenes(*rendered.load(folder, WHAT, (*DRAWN, ORBITS, PEOPLE)))
