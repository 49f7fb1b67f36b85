"""Which rows a step sees: a function of (seed, step) alone, so that a resumed run goes on as if never stopped."""

from __future__ import annotations

import torch

from safelight.core.noise import key


def generator(seed: int, step: int, purpose: str) -> torch.Generator:
    """A CPU generator for one purpose (``"noise"``, ``"levels"``, ...) at one step."""
    return torch.Generator("cpu").manual_seed(key(seed, purpose, step))


def rows(seed: int, step: int, batch: int, count: int) -> list[int]:
    """The ``batch`` row numbers of step ``step`` from a table of ``count`` rows (1 and up).

    Every pass is shuffled anew and leaves none out; a batch may reach over the end of a pass into the next.
    """
    wanted = range(step * batch, (step + 1) * batch)
    shuffles: dict[int, list[int]] = {}
    found = []
    for position in wanted:
        turn, place = divmod(position, count)
        if turn not in shuffles:
            shuffles[turn] = torch.randperm(count, generator=generator(seed, turn, "order")).tolist()
        found.append(shuffles[turn][place])
    return found
