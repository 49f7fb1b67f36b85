"""Restart: solve down to a low level, go back up with new noise, solve that part again.

The noise on the way up makes what was wrong forgotten, the solver between makes few errors of its own. Any solver does:
Restart is solver, ``renoise``, solver.

Source: Xu et al. 2306.14878, section 3.1 and algorithm 1, with the main grid's own levels on the way
down again.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from safelight.core.samplers.karras import ROWS as KARRAS
from safelight.core.samplers.row import Sampler
from safelight.core.steps import renoise
from safelight.errors import RequestError

if TYPE_CHECKING:
    from torch import Tensor

    from safelight.core.path import Level, Path
    from safelight.core.run import Noise, Run, Solver

HEUN = next(row for row in KARRAS if row.name == "heun")


@dataclass(frozen=True)
class Restart:
    """A solver that repeats a part of the levels: a ``Solver`` itself.

    Args:
        solver: what goes down; one that draws no noise of its own, for a step that is repeated would draw the same.
        path: of the levels.
        low, high: sigma / alpha of the repeated part: from ``high`` itself, or the first level where a run begins below
            it, to the last level not below ``low``. Where no step lies between them nothing is repeated.
        repeats: how often, 0 (never, which is the solver itself) upwards.

    Raises:
        RequestError: low is not below high, or fewer than 0 repeats.
    """

    solver: Solver
    path: Path
    low: float = 0.1
    high: float = 2.0
    repeats: int = 1

    def __post_init__(self) -> None:
        if not 0.0 < self.low < self.high or self.repeats < 0:
            raise RequestError(f"a restart needs 0 < low < high and 0 or more repeats, not {self.low:g}, {self.high:g}")

    def part(self, levels: Sequence[Level]) -> tuple[int, list[Level]]:
        """The place of the last level not below ``low``, and what is repeated to get there; (0, []) for nothing."""
        ratios = [level.sigma / level.alpha if level.alpha else math.inf for level in levels]
        inside = [i for i, each in enumerate(ratios) if self.low <= each < self.high]
        if not inside or not self.repeats or inside[-1] == 0:
            return 0, []
        # A run over a picture begins lower, and must not forget more of it than was asked for.
        above = [self.path.at(-math.log(self.high))] if inside[0] else []
        return inside[-1], [*above, *levels[inside[0] : inside[-1] + 1]]

    def __call__(self, x: Tensor, levels: Sequence[Level], noise: Noise) -> Run:
        """Start from x at levels[0]; visit levels, a part of them repeatedly; return x at the last."""
        bottom, again = self.part(levels)
        x = yield from self.solver(x, levels[: bottom + 1], noise)
        for turn in range(self.repeats if again else 0):
            x = self._up(x, levels[bottom], again[0], noise, (turn + 1) / (self.repeats + 1))
            x = yield from self.solver(x, again, noise)
        return (yield from self.solver(x, levels[bottom:], noise))

    def _up(self, x: Tensor, s: Level, t: Level, noise: Noise, part: float) -> Tensor:
        # Noise is a function of the levels of its step. By another stop on every way up each has noise of its own.
        stop = self.path.at(s.lam + part * (t.lam - s.lam))
        return renoise(renoise(x, s, stop, noise(s, stop)), stop, t, noise(stop, t))

    @property
    def uncond(self) -> bool:
        """Whether the solver needs the unguided answer."""
        return self.solver.uncond

    def evaluations(self, levels: Sequence[Level]) -> int | None:
        """How often a run asks, or None where the solver cannot tell."""
        bottom, again = self.part(levels)
        parts = [levels[: bottom + 1], levels[bottom:], *[again] * (self.repeats if again else 0)]
        asked = [self.solver.evaluations(part) for part in parts]
        known = [count for count in asked if count is not None]
        return sum(known) if len(known) == len(asked) else None


def restart_heun(x: Tensor, levels: Sequence[Level], noise: Noise, *, path: Path) -> Run:
    """Heun, with the levels of sigma / alpha from 2 to 0.1 once more; other solvers and parts by ``Restart``.

    Args:
        x: state [1, ...] at levels[0].
    """
    return (yield from Restart(HEUN.bind(path), path)(x, levels, noise))


def restart_evaluations(levels: Sequence[Level], path: Path) -> int:
    """Evaluations of ``restart_heun``: those of Heun, and of the repeated part."""
    return Restart(HEUN.bind(path), path).evaluations(levels) or 0


ROWS = (
    Sampler(
        name="restart_heun",
        function=restart_heun,
        order=2,
        rule_order=2,
        paper="Xu et al. 2306.14878",
        stochastic=True,
        evaluations=restart_evaluations,
    ),
)
"""The rows of this family."""
