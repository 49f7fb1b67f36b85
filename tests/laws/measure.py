"""Measures what rows of the table of samplers claim: how their errors shrink where the right answer is known."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from safelight.core.path import EDM, Level, Path
from safelight.core.samplers.row import Sampler
from safelight.core.samplers.table import SAMPLERS
from tests.laws.world import Gaussian, Impulses, Mixture, answer, geometric, silent, unanimous

VE_PATH = EDM()


def still(name: str) -> dict[str, float]:
    """Options under which a row solves the ODE."""
    row = SAMPLERS[name]
    quiet = {"eta": 0.0, "repeats": 0.0}
    return {option: value for option, value in quiet.items() if option in row.options} if row.stochastic else {}


def ode_errors(name: str, steps: Sequence[int]) -> list[float]:
    """The largest error of a run without noise on the mixture, for each number of steps."""
    world, errors = Mixture(), []
    for n in steps:
        levels = geometric(20.0, 0.1, n)
        start = world.points(levels[0])
        out = answer(SAMPLERS[name].bind(VE_PATH, still(name))(start, levels, silent), world.denoise)
        errors.append((out - world.flow(start, levels[0], levels[-1])).abs().max().item())
    return errors


# Where a step of length 0.8 is measured that starts at 0, in units of its length. Steps before it grow from almost
# nothing, so that methods whose first steps are of low order come to it without an error of their own; the tiny steps
# after it show what a corrector made of it, and leave lower orders at the end nothing to spoil.
ROAD = (-3.911, -3.91, -3.9, -3.8, -3.3, -2.3, -1.3, 0.0, 0.8, 0.8 + 1e-6, 0.8 + 2e-6, 0.8 + 3e-6)


def local_errors(name: str) -> list[float]:
    """The largest error of one step from an exact history, as the step halves four times."""
    world, errors, begin = Mixture(), [], ROAD.index(0.0)
    solver = SAMPLERS[name].bind(VE_PATH, still(name))
    for halving in range(5):
        h = 0.2 / 2**halving
        levels = [VE_PATH.at(h * part - math.log(2.0)) for part in ROAD]
        first = world.points(levels[0])
        before, run = solver.evaluations(levels[: begin + 1]), solver(first.clone(), levels, silent)
        x, level = next(run)
        for _ in range(before):
            # Whatever the run has come to, it is put on the exact curve and hears what the network sees there: a
            # sampler's state is the tensor that it shows.
            x.copy_(world.flow(first, levels[0], level))
            x, level = run.send(unanimous(world.denoise(x, level)))
        x.copy_(world.flow(first, levels[0], levels[begin]))
        try:
            while True:
                x, level = run.send(unanimous(world.denoise(x, level)))
        except StopIteration as end:
            errors.append((end.value - world.flow(first, levels[0], levels[-1])).abs().max().item())
    return errors


def spread_error(row: Sampler, levels: list[Level], path: Path = VE_PATH) -> float:
    """How wrong mean and variance of the output are on Gaussian data, without drawing a single sample.

    On a Gaussian every sampler is affine in its start and its noises, so a batch that holds 0, a unit start and one
    unit impulse for each independent noise measures all gains.
    """
    world, solver = Gaussian(), row.bind(path)
    asked: list[tuple[Level, Level]] = []

    def listen(s: Level, t: Level) -> torch.Tensor:
        asked.append((s, t))
        return torch.zeros(1, dtype=torch.float64)

    answer(solver(torch.zeros(1, dtype=torch.float64), levels, listen), world.denoise)
    impulses = Impulses(asked, row.noise == "path")

    def noise(s: Level, t: Level) -> torch.Tensor:
        return torch.cat([torch.zeros(2, dtype=torch.float64), impulses(s, t)])

    start = torch.zeros(2 + impulses.count, dtype=torch.float64)
    start[1] = 1.0
    out = answer(solver(start, levels, noise), world.denoise)
    gains = out - out[0]
    (mean, variance), (true_mean, true_variance) = world.law(levels[0]), world.law(levels[-1])
    got_mean = out[0] + gains[1] * mean
    got_variance = gains[1] ** 2 * variance + (gains[2:] ** 2).sum()
    return (got_mean - true_mean).abs().item() + (got_variance - true_variance).abs().item()


def spread_errors(name: str, steps: Sequence[int]) -> list[float]:
    """`spread_error` for each number of steps."""
    return [spread_error(SAMPLERS[name], geometric(20.0, 0.1, n)) for n in steps]
