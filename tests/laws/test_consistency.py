"""Laws of the samplers that leap: with an exact network every level has exactly its law."""

from __future__ import annotations

import math

import pytest
import torch

from safelight.core.path import CLEAN, Level, vp_scaled_linear
from safelight.core.run import Denoised
from safelight.core.samplers.consistency import landed, trained_row
from safelight.core.samplers.row import Bound
from safelight.core.samplers.table import SAMPLERS
from safelight.core.schedule import SCHEDULES, trailing
from safelight.core.steps import ratio
from safelight.errors import RequestError, UnknownNameError
from tests.laws.world import PATHS, Gaussian, Mixture, answer, silent

WORLD, PATH = Gaussian(), vp_scaled_linear()


def carried(x: torch.Tensor, s: Level, t: Level) -> torch.Tensor:
    """Where the curve through x at s goes on to t, on Gaussian data, exactly."""
    (mean, variance), (new_mean, new_variance) = WORLD.law(s), WORLD.law(t)
    return new_mean + math.sqrt(new_variance / variance) * (x - mean)


def spread(solver: Bound, levels: list[Level], eta: float | None) -> tuple[float, float]:
    """Mean and variance that come out when the network is exact and the start has its law; no sample is drawn.

    Args:
        eta: for TCD, whose network is exact when its answer leads to the level that it leaps to.
    """
    low = solver.path.ends[1] if solver.options.get("landing") == "trained" else CLEAN
    rows, asked = 2 + 2 * len(levels), [0]

    def impulse(s: Level, t: Level) -> torch.Tensor:
        z = torch.zeros(rows, dtype=torch.float64)
        z[2 + asked[0]] = 1.0
        asked[0] += 1
        return z

    (mean, variance), start = WORLD.law(levels[0]), torch.zeros(rows, dtype=torch.float64)
    start[1] = 1.0
    run = solver(start, levels, impulse)
    x, s = next(run)
    for t in levels[1:]:
        if eta is None:
            x0 = carried(x, s, low) / low.alpha
        else:
            goal, q = landed(solver.path, t, eta), ratio(s, landed(solver.path, t, eta))
            x0 = (carried(x, s, goal) - goal.sigma / s.sigma * x) / (goal.alpha * (1.0 - q))
        try:
            x, s = run.send(Denoised(x0))
        except StopIteration as end:
            out = end.value
    gains = out - out[0]
    return (out[0] + gains[1] * mean).item(), (gains[1] ** 2 * variance + (gains[2:] ** 2).sum()).item()


@pytest.mark.parametrize("road", sorted(PATHS))
@pytest.mark.parametrize(("name", "eta"), [("lcm", None), ("consistency", None), ("tcd", 0.3), ("tcd", 1.0)])
def test_an_exact_network_keeps_the_law_of_the_data(name: str, eta: float | None, road: str) -> None:
    path = PATHS[road]
    solver = SAMPLERS[name].bind(path, {} if eta is None else {"eta": eta})
    for n in range(1, 6):
        levels = SCHEDULES["trailing"](path, n)
        mean, variance = spread(solver, levels, eta)
        end = path.ends[1] if name == "consistency" else CLEAN
        true_mean, true_variance = WORLD.law(end)
        assert math.isclose(mean, true_mean / end.alpha, rel_tol=1e-9), (n, mean)
        assert math.isclose(variance, true_variance / end.alpha**2, rel_tol=1e-9), (n, variance)


def test_tcd_without_its_noise_is_ddim() -> None:
    levels, start = trailing(PATH, 7), torch.linspace(-2, 2, 9, dtype=torch.float64)
    tcd = answer(SAMPLERS["tcd"].bind(PATH, {"eta": 0.0})(start, levels, silent), Mixture().denoise)
    assert torch.equal(tcd, answer(SAMPLERS["ddim"].bind(PATH)(start, levels, silent), Mixture().denoise))


def test_tcd_lands_on_a_whole_row_below_the_next_level() -> None:
    assert landed(PATH, PATH.level(749), 0.3) == PATH.level(524)
    assert landed(PATH, PATH.level(90), 0.3) == PATH.level(63), "0.7 * 90 is a whole number, whatever floats say"
    assert landed(PATH, PATH.level(499), 1.0) == PATH.level(0)
    assert landed(PATH, PATH.level(0), 0.3) == PATH.level(0)
    assert landed(PATH, CLEAN, 0.3) == CLEAN
    between = PATH.level(10.2)
    assert landed(PATH, between, 1e-8) == between, "never noisier than the level wanted"


@pytest.mark.parametrize("road", sorted(PATHS))
def test_the_row_of_a_trained_level_is_its_own(road: str) -> None:
    path = PATHS[road]
    for k in (0, 1, 17, 500, 998, 999):
        assert trained_row(path, path.trained(k)) == k
    assert trained_row(path, path.trained(3.5)) == 4
    assert trained_row(path, CLEAN) == 0


def test_the_boundary_keeps_the_cleanest_row_and_hardly_touches_others() -> None:
    solver = SAMPLERS["lcm_boundary"].bind(PATH)
    x = torch.ones(9, dtype=torch.float64)
    out = answer(solver(x, [PATH.level(0), CLEAN], silent), lambda x, _: torch.full_like(x, 5.0))
    assert torch.equal(out, x)
    out = answer(solver(x, [PATH.level(999), CLEAN], silent), lambda x, _: torch.full_like(x, 5.0))
    torch.testing.assert_close(out, torch.full_like(x, 5.0), rtol=1e-8, atol=0)


def test_options_that_are_none_are_refused() -> None:
    with pytest.raises(RequestError, match="between 0 and 1"):
        next(SAMPLERS["tcd"].bind(PATH, {"eta": 1.2})(torch.zeros(1), trailing(PATH, 2), silent))
    with pytest.raises(UnknownNameError, match="landing"):
        next(SAMPLERS["lcm"].bind(PATH, {"landing": "moon"})(torch.zeros(1), trailing(PATH, 2), silent))
