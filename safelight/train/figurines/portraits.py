"""The training pictures, rendered once: ``portraits.npy`` uint8 [N, S, S, 3] and ``people.npy`` int64 [N, 16] codes."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from safelight.core.noise import key
from safelight.figurines.person import Person, random_people
from safelight.figurines.render import portrait

CHUNK = 250


class Portraits(NamedTuple):
    """Pictures [N, S, S, 3] (uint8, on disk) and the codes [N, 16] of the people in them."""

    pictures: np.ndarray
    codes: np.ndarray

    def people(self) -> list[Person]:
        """The people as records."""
        return [Person.from_codes(row) for row in self.codes]


def render_all(folder: Path, count: int, size: int, seed: int, workers: int) -> Iterator[int]:
    """Render ``count`` training people; yields how many are done. What an earlier run finished is kept.

    A picture is a function of (seed, its number), so any number of workers gives the same files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    place, done = folder / "portraits.npy", folder / "portraits.done"
    codes = np.stack([person.codes() for person in random_people(np.random.default_rng(key(seed, "people")), count)])
    whole = place.exists() and np.load(place, mmap_mode="r").shape == (count, size, size, 3)
    finished = int(done.read_text()) if whole and done.exists() else 0
    shape = (count, size, size, 3)
    pictures = np.lib.format.open_memmap(place, "r+" if whole else "w+", dtype=np.uint8, shape=shape)
    np.save(folder / "people.npy", codes)
    parts = [codes[i : i + CHUNK] for i in range(finished, count, CHUNK)]
    with ProcessPoolExecutor(workers) as pool:
        for drawn in pool.map(render_some, parts, [size] * len(parts)):
            pictures[finished : finished + len(drawn)] = drawn
            finished += len(drawn)
            pictures.flush()
            done.write_text(str(finished))
            yield finished


def render_some(codes: np.ndarray, size: int) -> np.ndarray:
    """Portraits uint8 [n, S, S, 3] of people given by codes [n, 16]."""
    return np.stack([portrait(Person.from_codes(row), size) for row in codes])


def load(folder: Path) -> Portraits:
    """The finished portraits of a run, memory-mapped."""
    return Portraits(np.load(folder / "portraits.npy", mmap_mode="r"), np.load(folder / "people.npy"))


def to_tensor(pictures: np.ndarray) -> Tensor:
    """uint8 [n, S, S, 3] -> float32 [n, 3, S, S] in [-1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1
