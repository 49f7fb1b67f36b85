"""Restart is a solver, new noise, and the solver again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from safelight.core.guidance import CFG, Unguided
from safelight.core.noise import Fresh, start_noise
from safelight.core.path import EDM, Level, Path, vp_scaled_linear
from safelight.core.sample import Job, sample
from safelight.core.samplers.restart import Restart
from safelight.core.samplers.table import SAMPLERS
from safelight.core.schedule import SCHEDULES
from safelight.core.steps import renoise
from safelight.errors import RequestError
from tests.laws.world import Mixture, answer

PATH = EDM()
LEVELS = [PATH.at_clock(sigma) for sigma in (20.0, 7.0, 1.9, 0.8, 0.3, 0.11, 0.05)]
START = torch.linspace(-30, 30, 9, dtype=torch.float64)
Draw = Callable[[Level, Level], torch.Tensor]


def wave(s: Level, t: Level) -> torch.Tensor:
    return torch.sin(torch.arange(9, dtype=torch.float64) * (s.sigma + 3 * t.sigma))


@pytest.mark.parametrize("base", ["heun", "dpmpp_2m", "euler"])
def test_a_restart_is_solver_noise_solver(base: str) -> None:
    solver = SAMPLERS[base].bind(PATH)

    def part(x: torch.Tensor, levels: list[Level]) -> torch.Tensor:
        return answer(solver(x, levels, wave), Mixture().denoise)

    got = answer(Restart(solver, PATH)(START, LEVELS, wave), Mixture().denoise)
    x = part(START, LEVELS[:6])  # to 0.11
    top = PATH.at_clock(2.0)
    stop = PATH.at((LEVELS[5].lam + top.lam) / 2)
    x = renoise(x, LEVELS[5], stop, wave(LEVELS[5], stop))
    x = renoise(x, stop, top, wave(stop, top))
    x = part(part(x, [top, *LEVELS[2:6]]), LEVELS[5:])
    torch.testing.assert_close(got, x, rtol=1e-13, atol=1e-13)
    if base == "heun":
        row = answer(SAMPLERS["restart_heun"].bind(PATH)(START, LEVELS, wave), Mixture().denoise)
        assert torch.equal(row, got)


@pytest.mark.parametrize(("low", "high", "repeats"), [(0.1, 2.0, 0), (0.31, 0.79, 4), (50.0, 60.0, 1)])
def test_where_nothing_is_repeated_it_is_the_solver(low: float, high: float, repeats: int) -> None:
    solver = SAMPLERS["euler"].bind(PATH)
    again = Restart(solver, PATH, low, high, repeats)
    got = answer(again(START, LEVELS, wave), Mixture().denoise)
    assert torch.equal(got, answer(solver(START, LEVELS, wave), Mixture().denoise))
    assert again.evaluations(LEVELS) == solver.evaluations(LEVELS)


def test_a_run_that_begins_low_goes_up_to_its_own_beginning_only() -> None:
    def asked(levels: list[Level]) -> list[float]:
        seen: list[float] = []

        def denoise(x: torch.Tensor, level: Level) -> torch.Tensor:
            seen.append(round(level.sigma, 9))
            return x * 0.5

        answer(Restart(SAMPLERS["euler"].bind(PATH), PATH)(START, levels, wave), denoise)
        return seen

    assert asked(LEVELS[1:]) == [7.0, 1.9, 0.8, 0.3, 2.0, 1.9, 0.8, 0.3, 0.11]
    assert asked(LEVELS[3:]) == [0.8, 0.3, 0.8, 0.3, 0.11]
    assert asked(LEVELS[5:]) == [0.11], "nothing lies between"


def test_the_way_up_keeps_the_signal_and_every_turn_has_noise_of_its_own() -> None:
    # With a constant answer nothing but noise is left: its variance is what the first way down left of the last way up.
    drawn: list[tuple[Level, Level]] = []

    def impulse(s: Level, t: Level) -> torch.Tensor:
        drawn.append((s, t))
        z = torch.zeros(9, dtype=torch.float64)
        z[len(drawn)] = 1.0
        return z

    again = Restart(SAMPLERS["euler"].bind(PATH), PATH, repeats=3)
    out = answer(again(torch.zeros(9, dtype=torch.float64), LEVELS, impulse), lambda x, _: torch.full_like(x, 0.4))
    assert len(set(drawn)) == len(drawn) == 6
    assert all(t.sigma > s.sigma for s, t in drawn)
    last = (2.0**2 - LEVELS[5].sigma ** 2) * (LEVELS[-1].sigma / 2.0) ** 2
    gains = out - out[0]
    assert torch.isclose((gains[5:] ** 2).sum(), torch.tensor(last, dtype=torch.float64), rtol=1e-12)


@pytest.mark.parametrize("path", [PATH, vp_scaled_linear()])
def test_the_evaluations_are_counted_before_they_are_made(path: Path) -> None:
    for base, repeats, n in (("heun", 2, 9), ("euler", 3, 14), ("dpmpp_2m", 1, 3)):
        again, levels, asked = (
            Restart(SAMPLERS[base].bind(path), path, repeats=repeats),
            SCHEDULES["karras"](path, n),
            [],
        )

        def denoise(x: torch.Tensor, level: Level, asked: list[Level] = asked) -> torch.Tensor:
            asked.append(level)
            return x * 0.5

        answer(again(START, levels, wave), denoise)
        assert len(asked) == again.evaluations(levels)


def test_a_restart_is_driven_like_any_sampler() -> None:
    path, shape = vp_scaled_linear(), (4, 2, 2)
    levels = SCHEDULES["karras"](path, 8)
    job = Job(
        Restart(SAMPLERS["euler"].bind(path), path),
        levels,
        start_noise(1, shape),
        Fresh(1, shape),
        CFG(3.0),
        {"cond": 0.0, "uncond": 0.0},
    )
    steps = list(sample(lambda x, levels, conds: torch.tanh(x), job))
    assert len(steps) == steps[-1].total > len(levels) - 1
    assert any(a.level.sigma < b.level.sigma for a, b in pairwise(steps)), "it went up once"
    needs = replace(job, sampler=Restart(SAMPLERS["euler_cfg_pp"].bind(path), path), guidance=CFG(1.0, both=True))
    assert list(sample(lambda x, levels, conds: torch.tanh(x), needs))[-1].x.isfinite().all()
    with pytest.raises(RequestError, match="unguided answer"):
        replace(needs, guidance=Unguided())


def test_parts_that_are_none_are_refused() -> None:
    solver = SAMPLERS["euler"].bind(PATH)
    for low, high, repeats in ((2.0, 1.0, 1), (0.0, 1.0, 1), (0.1, 1.0, -1)):
        with pytest.raises(RequestError, match="a restart needs"):
            Restart(solver, PATH, low, high, repeats)
