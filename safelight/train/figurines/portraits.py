"""The training pictures, rendered once: ``portraits.npy`` uint8 [N, S, S, 3] and ``people.npy`` int64 [N, 16] codes.

Axes: N people, S pixels. ``portraits.done`` holds how many are finished, so that a run that was stopped goes on there.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from safelight.core.noise import key
from safelight.figurines.person import Person, random_people
from safelight.figurines.render import portrait
from safelight.train import rendered

WHAT, PEOPLE = "portraits", "people"
CHUNK = 250
"""Portraits that are drawn between two reports."""


class Pixels(Protocol):
    """Pictures, uint8 [N, S, S, 3], that may lie on disk."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, S, S, 3)."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, places: Any, /) -> Any: ...


class Portraits(NamedTuple):
    """Pictures [N, S, S, 3] and the codes [N, 16] of the people in them."""

    pictures: Pixels
    codes: np.ndarray

    def people(self) -> list[Person]:
        """The people as records."""
        return [Person.from_codes(row) for row in self.codes]


def render_all(folder: Path, count: int, size: int, seed: int, workers: int) -> Iterator[int]:
    """Render ``count`` training people; yields how many are done. What an earlier run finished is kept.

    A picture is a function of (seed, its number), so any number of workers, 1 and up, gives the same files.

    Raises:
        CheckpointError: the folder holds portraits of other people or of another size.
        FileError: the disk has no room for all portraits, or the folder cannot be written to.
    """
    kept = rendered.Kept(WHAT, {PEOPLE: codes_of(count, seed)}, {WHAT: (size, size, 3)})
    yield from rendered.fill(folder, kept, partial(render_some, size=size), workers, CHUNK)


def codes_of(count: int, seed: int) -> np.ndarray:
    """The codes of training people, int64 [count, 16]."""
    return np.stack([person.codes() for person in random_people(np.random.default_rng(key(seed, "people")), count)])


def render_some(codes: np.ndarray, size: int) -> dict[str, np.ndarray]:
    """Portraits uint8 [n, S, S, 3] of people given by codes [n, 16]."""
    return {WHAT: np.stack([portrait(Person.from_codes(row), size) for row in codes])}


def load(folder: Path) -> Portraits:
    """The finished portraits of a run, memory-mapped.

    Raises:
        CheckpointError: they are missing, unfinished or damaged; says what to do.
    """
    return Portraits(*rendered.load(folder, WHAT, (WHAT, PEOPLE)))
