"""Draw prompts many at a time, and read pictures back on every core.

Axes: pictures are uint8 [S, S, 3].
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from multiprocessing import get_context

import numpy as np

from safelight.figurines.checker import read
from safelight.figurines.scores import Scores
from safelight.generate.pipe import Pipe
from safelight.generate.request import Request

Tell = Callable[[str, int, int], None]
"""Told (what is done, how much of it, of how much)."""


@dataclass(frozen=True)
class Settings:
    """How pictures are drawn; None leaves it to the model.

    Attributes:
        seed: of the first picture; picture i has the seed ``seed + i``.
        rows: of every network call: more draw faster, and change the last bits (see `Request`).
        workers: processes that read pictures.
    """

    steps: int | None = None
    guidance: float | None = None
    seed: int = 0
    sampler: str | None = None
    rows: int = 16
    workers: int = 1

    def request(self, prompt: str, index: int) -> Request:
        """The request of picture ``index``."""
        return Request(
            prompt,
            steps=self.steps,
            guidance=self.guidance,
            seed=self.seed + index,
            sampler=self.sampler,
            rows=self.rows,
        )


def draw(pipe: Pipe, texts: Sequence[str], settings: Settings, tell: Tell) -> list[np.ndarray]:
    """Draw every text once."""
    requests = [settings.request(text, index) for index, text in enumerate(texts)]
    pictures: list[np.ndarray] = []
    for begin in range(0, len(requests), settings.rows):
        drawn = pipe.draw_many(requests[begin : begin + settings.rows])
        pictures += [np.asarray(one.image) for one in drawn]
        tell("drawn", len(pictures), len(requests))
    return pictures


def read_all(pictures: Sequence[np.ndarray], workers: int, tell: Tell) -> list[dict[str, str]]:
    """What the checker sees in each picture: a value for every attribute."""
    found: list[dict[str, str]] = []
    with pool(workers) as executor:
        for one in executor.map(read, pictures, chunksize=4) if executor else map(read, pictures):
            found.append(one)
            tell("read", len(found), len(pictures))
    return found


def pool(workers: int) -> AbstractContextManager[Executor | None]:
    """Processes to share work between; None where one worker, this process, is enough.

    They are started afresh: copies of a process that computed with several threads may never wake.
    """
    return ProcessPoolExecutor(workers, mp_context=get_context("spawn")) if workers > 1 else nullcontext()


def compare(found: Sequence[Mapping[str, str]], stated: Sequence[Mapping[str, str]]) -> Scores:
    """Count what was stated and found, figure by figure."""
    pairs = zip(found, stated, strict=True)
    return Scores.of((said, {name: seen[name] == value for name, value in said.items()}) for seen, said in pairs)
