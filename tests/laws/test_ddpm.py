"""DDPM's two variances: one for data that are a point, one for data that are noise."""

from __future__ import annotations

import pytest
import torch

from safelight.core.path import Level, vp_scaled_linear
from safelight.core.run import Denoised
from safelight.core.samplers.table import SAMPLERS
from safelight.core.schedule import trailing
from safelight.errors import RequestError, UnknownNameError
from tests.laws.world import answer, silent

PATH = vp_scaled_linear()


def spread(variance: str, answers: str, levels: list[Level]) -> float:
    """Variance of the output, from a start of unit variance, with the exact network for these data."""
    asked = [0]

    def impulse(s: Level, t: Level) -> torch.Tensor:
        z = torch.zeros(40, dtype=torch.float64)
        z[1 + asked[0]] = 1.0
        asked[0] += 1
        return z

    start = torch.zeros(40, dtype=torch.float64)
    start[0] = 1.0
    run = SAMPLERS["ddpm"].bind(PATH, {"variance": variance})(start, levels, impulse)
    exact = {"noise": lambda x, level: level.alpha * x, "point": lambda x, level: torch.zeros_like(x)}[answers]
    return (answer(run, exact) ** 2).sum().item()


def test_each_variance_is_exact_for_its_own_data() -> None:
    levels = trailing(PATH, 30)[:-1]
    small, large = levels[-1].sigma ** 2, 1.0
    assert spread("fixed_small", "point", levels) == pytest.approx(small, rel=1e-2)  # the start is not all noise
    assert spread("fixed_large", "noise", levels) == pytest.approx(large, rel=1e-12)
    assert spread("fixed_large", "point", levels) > 1.3 * small
    assert spread("fixed_small", "noise", levels) < 0.9 * large


def test_an_unknown_variance_is_refused() -> None:
    run = SAMPLERS["ddpm"].bind(PATH, {"variance": "fixed_huge"})(torch.zeros(1), trailing(PATH, 2), silent)
    with pytest.raises(UnknownNameError, match="fixed_large"):
        next(run)


def test_a_learned_variance_lies_between_the_fixed_ones_where_the_network_says() -> None:
    s, t = PATH.level(600), PATH.level(300)
    x, x0, z = (torch.full((3,), value, dtype=torch.float64) for value in (0.3, -0.7, 1.3))

    def end(variance: str, spread: torch.Tensor | None = None) -> torch.Tensor:
        run = SAMPLERS["ddpm"].bind(PATH, {"variance": variance})(x, [s, t], lambda s, t: z)
        next(run)
        with pytest.raises(StopIteration) as stop:
            run.send(Denoised(x0, None, spread))
        return stop.value.value

    ends = torch.tensor([-1.0, 0.0, 1.0], dtype=torch.float64)
    small, large, learned = end("fixed_small"), end("fixed_large"), end("learned_range", ends)
    ratio = s.sigma / t.sigma  # of the two deviations, which say what the mean is
    mean = (large - ratio * small) / (1.0 - ratio)
    torch.testing.assert_close(learned[[0, 2]], torch.stack([small[0], large[0]]), rtol=1e-12, atol=1e-12)
    between = ((small - mean) * (large - mean)).sqrt()  # halfway between logarithms is the geometric mean
    torch.testing.assert_close(learned[1] - mean[1], between[1], rtol=1e-12, atol=1e-12)


def test_a_learned_variance_of_a_network_that_says_none_is_refused() -> None:
    run = SAMPLERS["ddpm"].bind(PATH, {"variance": "learned_range"})(torch.zeros(1), trailing(PATH, 2), silent)
    next(run)
    with pytest.raises(RequestError, match="says no variance of its own"):
        run.send(Denoised(torch.zeros(1)))
