"""ER-SDE against the paper's recursion, written out for alpha = 1 with sums of thin slices for its integrals."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from safelight.core.path import EDM, Level
from safelight.core.samplers.table import SAMPLERS
from tests.laws.world import Mixture, answer

SIGMAS = (9.0, 5.5, 2.0, 1.1, 0.3, 0.05)
START = torch.linspace(-9.0, 9.0, 5, dtype=torch.float64)


def noise(s: Level, t: Level) -> Tensor:
    return torch.cos(torch.arange(5, dtype=torch.float64) * round(100 * t.sigma))


def phi(u: float) -> float:
    return u * (math.exp(u**0.3) + 10.0)


def slices(a: float, b: float, power: int) -> float:
    """The integral of (u - b)^power / phi(u) from a to b."""
    n = 4000
    places = (a + (b - a) * (i + 0.5) / n for i in range(n))
    return sum((u - b) ** power / phi(u) for u in places) * (b - a) / n


def recursion(stages: int) -> Tensor:
    x, known = START, []
    for i, (s, t) in enumerate(pairwise(SIGMAS)):
        known.append(Mixture().denoise(x, Level(1.0, s)))
        slopes = [(known[j] - known[j - 1]) / (SIGMAS[j] - SIGMAS[j - 1]) for j in range(1, i + 1)]
        r = phi(t) / phi(s)
        x = r * x + (1.0 - r) * known[-1]
        if stages > 1 and i > 0:
            x = x + (t - s + phi(t) * slices(t, s, 0)) * slopes[-1]
        if stages > 2 and i > 1:
            curvature = (slopes[-1] - slopes[-2]) / ((s - SIGMAS[i - 2]) / 2.0)
            x = x + ((t - s) ** 2 / 2.0 + phi(t) * slices(t, s, 1)) * curvature
        x = x + math.sqrt(t * t - (s * r) ** 2) * noise(Level(1.0, s), Level(1.0, t))
    return x


@pytest.mark.parametrize("stages", [1, 2, 3])
def test_er_sde_is_the_papers_recursion(stages: int) -> None:
    levels = [Level(1.0, sigma) for sigma in SIGMAS]
    out = answer(SAMPLERS[f"er_sde{stages}"].bind(EDM())(START, levels, noise), Mixture().denoise)
    torch.testing.assert_close(out, recursion(stages), rtol=1e-6, atol=1e-6)
