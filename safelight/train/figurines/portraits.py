"""The training pictures, rendered once: ``portraits.npy`` uint8 [N, S, S, 3] and ``people.npy`` int64 [N, 16] codes.

Axes: N people, S pixels. ``portraits.done`` holds how many are finished, so that a run that was stopped goes on there.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import numpy as np

from safelight.core.noise import key
from safelight.errors import CheckpointError, FileError
from safelight.figurines.person import Person, random_people
from safelight.figurines.render import portrait
from safelight.weights.save import write

PICTURES, PEOPLE, DONE = "portraits.npy", "people.npy", "portraits.done"
CHUNK = 250
"""Portraits that are drawn between two reports."""


class Portraits(NamedTuple):
    """Pictures [N, S, S, 3] (uint8, on disk) and the codes [N, 16] of the people in them."""

    pictures: np.ndarray
    codes: np.ndarray

    def people(self) -> list[Person]:
        """The people as records."""
        return [Person.from_codes(row) for row in self.codes]


def render_all(folder: Path, count: int, size: int, seed: int, workers: int) -> Iterator[int]:
    """Render ``count`` training people; yields how many are done. What an earlier run finished is kept.

    A picture is a function of (seed, its number), so any number of workers, 1 and up, gives the same files. Closing the
    iterator stops after the pictures that are being drawn.

    Raises:
        CheckpointError: the folder holds portraits of other people or of another size.
        FileError: the disk has no room for all portraits, or the folder cannot be written to.
    """
    codes = np.stack([person.codes() for person in random_people(np.random.default_rng(key(seed, "people")), count)])
    pictures = claimed(folder, codes, size)
    finished = done(folder)
    if finished:
        yield finished
    parts = [codes[i : i + CHUNK] for i in range(finished, count, CHUNK)]
    sizes = [size] * len(parts)
    pool = started(workers) if workers > 1 else None
    try:
        for drawn in (pool.map if pool else map)(render_some, parts, sizes):
            pictures[finished : finished + len(drawn)] = drawn
            finished += len(drawn)
            pictures.flush()
            write(folder / DONE, [str(finished).encode()])
            yield finished
    finally:
        if pool:
            pool.shutdown(cancel_futures=True)


def started(workers: int) -> ProcessPoolExecutor:
    """Processes to share the work between.

    They are started afresh: copies of a process that computed with several threads may never wake.
    """
    return ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=unstopped)


def unstopped() -> None:
    """Let Ctrl-C, which reaches every process of a terminal, mean something to the first of them only."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def claimed(folder: Path, codes: np.ndarray, size: int) -> np.memmap:
    """The file of the pictures of these people, [N, S, S, 3] and writable: an earlier run's, or a new one.

    Raises:
        CheckpointError, FileError: see `render_all`.
    """
    place, shape = folder / PICTURES, (len(codes), size, size, 3)
    try:
        if (folder / DONE).exists():
            pictures, people = np.load(place, mmap_mode="r+"), np.load(folder / PEOPLE)
            if pictures.shape == shape and np.array_equal(people, codes):
                return pictures
            raise CheckpointError(
                f"{folder}: holds {len(pictures)} portraits of {pictures.shape[1]} pixels, of other people or another "
                "size than asked for; remove it or choose another run"
            )
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / PEOPLE, codes)
        pictures = np.lib.format.open_memmap(place, "w+", dtype=np.uint8, shape=shape)
        if hasattr(os, "posix_fallocate"):  # a full disk is an error now, not a broken mapping later
            with open(place, "r+b") as file:
                os.posix_fallocate(file.fileno(), 0, place.stat().st_size)
        write(folder / DONE, [b"0"])
        return pictures
    except (OSError, ValueError) as error:
        what = getattr(error, "strerror", None) or error
        raise FileError(f"{folder}: the portraits cannot be kept there ({what}); make room, or remove it") from error


def done(folder: Path) -> int:
    """How many portraits are finished; 0 where there are none."""
    place = folder / DONE
    text = place.read_text("utf-8").strip() if place.exists() else ""
    return int(text) if text.isdecimal() else 0


def render_some(codes: np.ndarray, size: int) -> np.ndarray:
    """Portraits uint8 [n, S, S, 3] of people given by codes [n, 16]."""
    return np.stack([portrait(Person.from_codes(row), size) for row in codes])


def load(folder: Path) -> Portraits:
    """The finished portraits of a run, memory-mapped.

    Raises:
        CheckpointError: they are missing, unfinished or damaged; says what to do.
    """
    try:
        pictures, codes = np.load(folder / PICTURES, mmap_mode="r"), np.load(folder / PEOPLE)
    except FileNotFoundError:
        raise CheckpointError(f"{folder}: holds no portraits; render them first") from None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{folder}: the portraits are damaged ({error}); remove it and render again") from error
    if len(codes) != len(pictures) or done(folder) != len(pictures):
        raise CheckpointError(f"{folder}: {done(folder)} of {len(pictures)} portraits are rendered; render the rest")
    return Portraits(pictures, codes)
