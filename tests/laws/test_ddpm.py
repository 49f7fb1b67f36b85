"""DDPM's two variances: one for data that are a point, one for data that are noise."""

from __future__ import annotations

import pytest
import torch

from safelight.core.path import Level, vp_scaled_linear
from safelight.core.samplers.table import SAMPLERS
from safelight.core.schedule import trailing
from safelight.errors import UnknownNameError
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
