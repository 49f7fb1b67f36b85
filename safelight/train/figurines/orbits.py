"""The training views, rendered once: people from random cameras, with outlines and coarse normals.

A folder holds, memory-mapped while it is read:

  views.npy     uint8 [N, V, S, S, 3]; view 0 is the canonical portrait, the others are anywhere on the orbit
  mattes.npy    uint8 [N, V, S, S]; 0 = background, 255 = figure
  normals.npy   uint8 [N, V, S, S, 3]; of the head without hair, ears, hat and glasses, 255 (n + 1) / 2 in the camera's
                axes x right, y up, z towards the viewer; 128 where there is none
  places.npy    float32 [N, V, 2]; azimuth and elevation of each camera in degrees (`figurines.render.view_camera`)
  people.npy    int64 [N, 16] codes
  orbits.done   how many people are finished, so that a run that was stopped goes on there

Axes: N people, V views, S pixels.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from safelight.core.noise import key
from safelight.errors import CheckpointError, FileError, RequestError
from safelight.figurines.dataset import normal_map
from safelight.figurines.person import Person, random_people
from safelight.figurines.render import PORTRAIT, render, view_camera
from safelight.train.figurines.portraits import started
from safelight.weights.save import write

VIEWS, MATTES, NORMALS = "views.npy", "mattes.npy", "normals.npy"
PLACES, PEOPLE, DONE = "places.npy", "people.npy", "orbits.done"
ELEVATIONS: Final = (-10.0, 30.0)
"""Degrees between which cameras stand; azimuths are from all around."""
CHUNK: Final = 50
"""People that are drawn between two reports."""


class Orbits(NamedTuple):
    """What the module's first lines say, as arrays on disk."""

    views: np.ndarray
    mattes: np.ndarray
    normals: np.ndarray
    places: np.ndarray
    codes: np.ndarray


@dataclass(frozen=True)
class Order:
    """Which views to render: ``people`` of training, ``views`` of each (1 is the portrait alone), ``size`` pixels a
    side, and the ``seed`` that decides who they are and where the cameras stand.

    Raises:
        RequestError: a number out of range.
    """

    people: int
    views: int = 9
    size: int = 64
    seed: int = 0

    def __post_init__(self) -> None:
        if self.people < 1 or not 1 <= self.views <= 64 or not 8 <= self.size <= 1024 or self.seed < 0:
            raise RequestError("training views need 1 person or more, 1 to 64 views of 8 to 1024 pixels, a seed from 0")

    def codes(self) -> np.ndarray:
        """The people: int64 [N, 16]; with one seed, those of the training portraits."""
        rng = np.random.default_rng(key(self.seed, "people"))
        return np.stack([person.codes() for person in random_people(rng, self.people)])

    def places(self) -> np.ndarray:
        """Azimuth and elevation of every camera, degrees: float32 [N, V, 2]. More views leave the earlier ones."""
        places = np.empty((self.people, self.views, 2), np.float32)
        places[:, 0] = PORTRAIT["azimuth"], PORTRAIT["elevation"]
        for view in range(1, self.views):
            rng = np.random.default_rng(key(self.seed, f"places of view {view}"))
            places[:, view, 0] = rng.uniform(-180, 180, self.people)
            places[:, view, 1] = rng.uniform(*ELEVATIONS, self.people)
        return places


def render_all(folder: Path, order: Order, workers: int) -> Iterator[int]:
    """Render the views of an order; yields how many people are done. What an earlier run finished is kept.

    A view is a function of the order and its number, so any number of workers, 1 and up, gives the same files. Closing
    the iterator stops after the people that are being drawn.

    Raises:
        CheckpointError: the folder holds the views of another order.
        FileError: the disk has no room for all views, or the folder cannot be written to.
    """
    arrays = claimed(folder, order)
    finished = done(folder)
    if finished:
        yield finished
    starts = range(finished, order.people, CHUNK)
    codes = [arrays.codes[i : i + CHUNK] for i in starts]
    places = [arrays.places[i : i + CHUNK] for i in starts]
    pool = started(workers) if workers > 1 else None
    try:
        for drawn in (pool.map if pool else map)(render_some, codes, places, [order.size] * len(codes)):
            for array, part in zip(arrays[:3], drawn, strict=True):
                array[finished : finished + len(part)] = part
                array.flush()  # type: ignore[attr-defined]
            finished += len(drawn[0])
            write(folder / DONE, [str(finished).encode()])
            yield finished
    finally:
        if pool:
            pool.shutdown(cancel_futures=True)


def claimed(folder: Path, order: Order) -> Orbits:
    """The files of an order, writable: an earlier run's, or new ones.

    Raises:
        CheckpointError, FileError: see `render_all`.
    """
    codes, places = order.codes(), order.places()
    shape = (order.people, order.views, order.size, order.size)
    shapes = {VIEWS: (*shape, 3), MATTES: shape, NORMALS: (*shape, 3)}
    try:
        if (folder / DONE).exists():
            views, mattes, normals = (np.load(folder / name, mmap_mode="r+") for name in shapes)
            found = Orbits(views, mattes, normals, np.load(folder / PLACES), np.load(folder / PEOPLE))
            same = [array.shape for array in found[:3]] == list(shapes.values())
            if same and np.array_equal(found.codes, codes) and np.array_equal(found.places, places):
                return found
            raise CheckpointError(f"{folder}: holds views of another order; remove it or choose another run")
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / PEOPLE, codes)
        np.save(folder / PLACES, places)
        views, mattes, normals = (
            np.lib.format.open_memmap(folder / name, "w+", dtype=np.uint8, shape=s) for name, s in shapes.items()
        )
        if hasattr(os, "posix_fallocate"):  # a full disk is an error now, not a broken mapping later
            for name in shapes:
                with open(folder / name, "r+b") as file:
                    os.posix_fallocate(file.fileno(), 0, (folder / name).stat().st_size)
        write(folder / DONE, [b"0"])
        return Orbits(views, mattes, normals, places, codes)
    except (OSError, ValueError) as error:
        what = getattr(error, "strerror", None) or error
        raise FileError(f"{folder}: the views cannot be kept there ({what}); make room, or remove it") from error


def done(folder: Path) -> int:
    """How many people are finished; 0 where there are none."""
    place = folder / DONE
    text = place.read_text("utf-8").strip() if place.exists() else ""
    return int(text) if text.isdecimal() else 0


def render_some(codes: np.ndarray, places: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Views, mattes and coarse normals, uint8 [n, V, S, S(, 3)], of people [n, 16] from places [n, V, 2]."""
    shape = (*places.shape[:2], size, size)
    views, mattes, normals = np.empty((*shape, 3), np.uint8), np.empty(shape, np.uint8), np.empty((*shape, 3), np.uint8)
    for i, row in enumerate(codes):
        person = Person.from_codes(row)
        for view, (azimuth, elevation) in enumerate(places[i].tolist()):
            camera = view_camera(azimuth, elevation, size)
            drawn = render(person, camera)
            coarse = render(person, camera, buffers=("normals",), coarse=True)
            assert drawn.rgb is not None
            assert drawn.mask is not None
            assert coarse.normals_camera is not None
            views[i, view], mattes[i, view] = drawn.rgb, np.rint(drawn.mask * 255)
            normals[i, view] = normal_map(coarse.normals_camera)
    return views, mattes, normals


def load(folder: Path) -> Orbits:
    """The finished views of a run, memory-mapped and not to be written to.

    Raises:
        CheckpointError: they are missing, unfinished or damaged; says what to do.
    """
    names = (VIEWS, MATTES, NORMALS, PLACES, PEOPLE)
    try:
        found = Orbits(*(np.load(folder / name, mmap_mode="r") for name in names))
    except FileNotFoundError:
        raise CheckpointError(f"{folder}: holds no training views; render them first") from None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{folder}: the views are damaged ({error}); remove it and render again") from error
    people = len(found.codes)
    if any(len(array) != people for array in found) or done(folder) != people:
        raise CheckpointError(f"{folder}: the views of {done(folder)} of {people} people are rendered; render the rest")
    return found
