"""What a run draws: rows and noise of (seed, step) alone, so that a resumed run goes on as if never stopped."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from safelight.core.noise import key


def generator(seed: int, step: int, purpose: str) -> torch.Generator:
    """A CPU generator for one purpose (``"noise"``, ``"levels"``, ...) at one step."""
    return torch.Generator("cpu").manual_seed(key(seed, purpose, step))


@contextmanager
def first_weights(seed: int) -> Iterator[None]:
    """While it is entered, modules that are built on the CPU get the first weights of ``seed``.

    Modules know no other generator than the CPU's global one; it is given back as it was found.
    """
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(seed)
        yield


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


def alike(seed: int, step: int, batch: int, groups: Sequence[Sequence[int]]) -> list[int]:
    """The ``batch`` rows of step ``step``, all of one group, such as pictures of one size.

    A pass has as many steps for each group as hold its rows, in an order that is shuffled anew; within a group no row
    is left out, as in `rows`. Each group has a shuffle of its own.

    Args:
        groups: the rows of each, at least one row in every group.
    """
    counts = [-(-len(group) // batch) for group in groups]
    slots = [place for place, count in enumerate(counts) for _ in range(count)]
    turn, at = divmod(step, len(slots))
    order = torch.randperm(len(slots), generator=generator(seed, turn, "groups")).tolist()
    mine = slots[order[at]]
    before = sum(slots[place] == mine for place in order[:at])
    found = rows(key(seed, "group", mine), turn * counts[mine] + before, batch, len(groups[mine]))
    return [groups[mine][row] for row in found]
