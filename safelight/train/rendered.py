"""Arrays that are rendered once, part by part: ``.npy`` files in a folder, and a count of what is finished.

An array is a function of its codes, so any number of processes gives the same files, and a run that was stopped goes
on where it stood.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from safelight.errors import CheckpointError, FileError
from safelight.weights.save import write


@dataclass(frozen=True)
class Kept:
    """What is kept in a folder.

    Attributes:
        what: the word for it, in errors and in the name of the count's file.
        codes: name -> what the rows are drawn from, [N, ...]; kept beside them, and compared when a run goes on.
        arrays: name -> shape of one row, all of uint8.
    """

    what: str
    codes: Mapping[str, np.ndarray]
    arrays: Mapping[str, tuple[int, ...]]

    @property
    def count(self) -> int:
        """How many rows."""
        return len(next(iter(self.codes.values())))


def fill(
    folder: Path,
    kept: Kept,
    draw: Callable[..., Mapping[str, np.ndarray]],
    workers: int,
    chunk: int,
) -> Iterator[int]:
    """Draw what is not there yet; yields how many rows are done. What an earlier run finished is kept.

    Closing the iterator stops after the parts that are being drawn.

    Args:
        draw: parts of the codes, in their order -> the rows of every array; can be sent to another process.
        workers: processes, 1 and up. chunk: rows that are drawn between two reports.

    Raises:
        CheckpointError: the folder holds rows of other codes or of other shapes.
        FileError: the disk has no room for all rows, or the folder cannot be written to.
    """
    arrays = claimed(folder, kept)
    finished = done(folder, kept.what)
    if finished:
        yield finished
    parts = [[codes[i : i + chunk] for i in range(finished, kept.count, chunk)] for codes in kept.codes.values()]
    pool = started(workers) if workers > 1 else None
    try:
        for drawn in (pool.map if pool else map)(draw, *parts):
            rows = len(next(iter(drawn.values())))
            for name, array in arrays.items():
                array[finished : finished + rows] = drawn[name]
                array.flush()
            finished += rows
            write(folder / f"{kept.what}.done", [str(finished).encode()])
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


def claimed(folder: Path, kept: Kept) -> dict[str, np.memmap]:
    """The writable files of these rows: an earlier run's, or new ones.

    Raises:
        CheckpointError, FileError: see `fill`.
    """
    places = {name: folder / f"{name}.npy" for name in (*kept.codes, *kept.arrays)}
    try:
        if (folder / f"{kept.what}.done").exists():
            found = {name: np.load(places[name], mmap_mode="r+") for name in kept.arrays}
            same = all(np.array_equal(np.load(places[name]), codes) for name, codes in kept.codes.items())
            if same and all(found[name].shape == (kept.count, *shape) for name, shape in kept.arrays.items()):
                return found
            size = next(iter(found.values())).shape
            raise CheckpointError(
                f"{folder}: holds {size[0]} {kept.what} of {size[-2]} pixels, of other people, cameras or size than "
                "asked for; remove it or choose another run"
            )
        folder.mkdir(parents=True, exist_ok=True)
        for name, codes in kept.codes.items():
            np.save(places[name], codes)
        found = {name: made(places[name], (kept.count, *shape)) for name, shape in kept.arrays.items()}
        write(folder / f"{kept.what}.done", [b"0"])
        return found
    except (OSError, ValueError) as error:
        what = getattr(error, "strerror", None) or error
        raise FileError(
            f"{folder}: the {kept.what} cannot be kept there ({what}); make room, or remove it"
        ) from error


def made(place: Path, shape: tuple[int, ...]) -> np.memmap:
    """A new file of zeros, with all its room taken: a full disk is an error now, not a broken mapping later."""
    array = np.lib.format.open_memmap(place, "w+", dtype=np.uint8, shape=shape)
    if hasattr(os, "posix_fallocate"):
        with open(place, "r+b") as file:
            os.posix_fallocate(file.fileno(), 0, place.stat().st_size)
    return array


def done(folder: Path, what: str) -> int:
    """How many rows are finished; 0 where there are none."""
    place = folder / f"{what}.done"
    text = place.read_text("utf-8").strip() if place.exists() else ""
    return int(text) if text.isdecimal() else 0


def load(folder: Path, what: str, names: Sequence[str]) -> list[np.ndarray]:
    """Finished arrays and their codes by name, memory-mapped.

    Raises:
        CheckpointError: they are missing, unfinished or damaged; says what to do.
    """
    try:
        found = [np.load(folder / f"{name}.npy", mmap_mode="r") for name in names]
    except FileNotFoundError:
        raise CheckpointError(f"{folder}: holds no {what}; render them first") from None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{folder}: the {what} are damaged ({error}); remove it and render again") from error
    count = len(found[0])
    if any(len(array) != count for array in found) or done(folder, what) != count:
        raise CheckpointError(f"{folder}: {done(folder, what)} of {count} {what} are rendered; render the rest")
    return found
