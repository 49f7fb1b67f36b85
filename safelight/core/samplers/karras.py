"""Karras et al.'s samplers: Euler and Heun, each with churn (2206.00364, algorithm 2).

The ODE is solved in the path's clock (sigma / alpha for VP and VE, sigma / (alpha + sigma) for flow), where it reads
dx/dclock = (x - x0) / clock. Churn raises sigma / alpha by the factor 1 + gamma before the network is asked.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from safelight.core.samplers.row import Names, Options, Sampler
from safelight.core.steps import move, renoise

if TYPE_CHECKING:
    from torch import Tensor

    from safelight.core.path import Level, Path
    from safelight.core.run import Noise, Run


def euler(
    x: Tensor,
    levels: Sequence[Level],
    noise: Noise,
    *,
    path: Path,
    s_churn: float = 0.0,
    s_tmin: float = 0.0,
    s_tmax: float = math.inf,
    s_noise: float = 1.0,
) -> Run:
    """One evaluation per step; without churn the same as DDIM with eta = 0, in any chart.

    Args:
        x: state [1, ...] at levels[0].
        s_churn: 0 (none) upwards: how much noise is renewed over the whole run; at most a factor sqrt(2) per step.
        s_tmin, s_tmax: between which sigma / alpha churn is on.
        s_noise: factor of the added noise; 1 is the theory.
    """
    gamma = _gamma(s_churn, len(levels) - 1)
    for s, t in pairwise(levels):
        if gamma and s_tmin <= _sigma_over_alpha(s) <= s_tmax:
            x, s = _churned(x, s, noise, path, gamma, s_noise)
        x0 = (yield x, s).x0
        x = move(x, x0, s, t)
    return x


def heun(
    x: Tensor,
    levels: Sequence[Level],
    noise: Noise,
    *,
    path: Path,
    s_churn: float = 0.0,
    s_tmin: float = 0.0,
    s_tmax: float = math.inf,
    s_noise: float = 1.0,
) -> Run:
    """Two evaluations per step, one where a step ends clean or starts at an infinite clock; options as ``euler``."""
    gamma = _gamma(s_churn, len(levels) - 1)
    for s, t in pairwise(levels):
        if gamma and s_tmin <= _sigma_over_alpha(s) <= s_tmax:
            x, s = _churned(x, s, noise, path, gamma, s_noise)
        x0 = (yield x, s).x0
        y = move(x, x0, s, t)
        if _corrects(path, s, t):
            second = (yield y, t).x0
            # The mean of both slopes, written as a mix of predictions: see docs of `move`.
            weight = path.clock(s) / (2.0 * path.clock(t))
            y = move(x, x0 + weight * (second - x0), s, t)
        x = y
    return x


def heun_evaluations(levels: Sequence[Level], path: Path) -> int:
    """Evaluations of ``heun``: 2 n - 1 where the last level is clean and the first clock finite."""
    return sum(2 if _corrects(path, s, t) else 1 for s, t in pairwise(levels))


def _corrects(path: Path, s: Level, t: Level) -> bool:
    return t.sigma > 0.0 and math.isfinite(path.clock(s))


def _gamma(s_churn: float, n: int) -> float:
    return min(s_churn / n, math.sqrt(2.0) - 1.0) if n else 0.0


def _sigma_over_alpha(level: Level) -> float:
    return level.sigma / level.alpha if level.alpha else math.inf


def _churned(x: Tensor, s: Level, noise: Noise, path: Path, gamma: float, s_noise: float) -> tuple[Tensor, Level]:
    """The state a little up the path, with fresh noise; pure noise cannot get any noisier."""
    if s.alpha == 0.0:
        return x, s
    hat = path.at(s.lam - math.log1p(gamma))
    return renoise(x, s, hat, s_noise * noise(s, hat)), hat


_CHURN: Options = {"s_churn": 0.0, "s_tmin": 0.0, "s_tmax": math.inf, "s_noise": 1.0}

ROWS = (
    Sampler(
        name="euler",
        function=euler,
        order=1,
        rule_order=1,
        paper="Karras et al. 2206.00364",
        options=_CHURN,
        names=Names(
            a1111=("Euler", "k_euler"),
            comfyui=("euler",),
            diffusers=("EulerDiscreteScheduler", "FlowMatchEulerDiscreteScheduler"),
            k_diffusion=("sample_euler",),
            sd_cpp=("euler",),
        ),
    ),
    Sampler(
        name="heun",
        function=heun,
        order=2,
        rule_order=2,
        paper="Karras et al. 2206.00364",
        options=_CHURN,
        evaluations=heun_evaluations,
        names=Names(
            a1111=("Heun", "k_heun"),
            comfyui=("heun",),
            diffusers=("HeunDiscreteScheduler", "FlowMatchHeunDiscreteScheduler"),
            k_diffusion=("sample_heun",),
            sd_cpp=("heun",),
        ),
    ),
)
"""The rows of this family."""
