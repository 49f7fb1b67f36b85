"""Karras et al.'s samplers, each with churn (2206.00364, algorithm 2): Euler, Heun and what others made of them.

The ODE is solved in the path's clock (sigma / alpha for VP and VE, sigma / (alpha + sigma) for flow), where it reads
dx/dclock = (x - x0) / clock. Churn raises sigma / alpha by the factor 1 + gamma before the network is asked.

DPM2 is k-diffusion's ``sample_dpm_2``; Heun++ is Carzit's, from sd-webui-samplers-scheduler.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from safelight.core.samplers.row import Names, Options, Sampler
from safelight.core.samplers.stages import inside, midpoint_stages, midpoint_step
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
        if inside(path, s, t):
            second = (yield y, t).x0
            # The mean of both slopes, written as a mix of predictions: see docs of `move`.
            weight = path.clock(s) / (2.0 * path.clock(t))
            y = move(x, x0 + weight * (second - x0), s, t)
        x = y
    return x


def dpm_2(
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
    """The midpoint rule in log clock; as many evaluations as ``heun``, options as ``euler``.

    On VP and VE paths, where the clock is e^-lam, this is DPM-Solver-2.
    """
    gamma = _gamma(s_churn, len(levels) - 1)
    for s, t in pairwise(levels):
        if gamma and s_tmin <= _sigma_over_alpha(s) <= s_tmax:
            x, s = _churned(x, s, noise, path, gamma, s_noise)
        x = yield from midpoint_step(x, s, t, path)
    return x


def heunpp2(
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
    """Looks one step and two steps ahead, and weighs what it sees by how noisy that is; options as ``euler``.

    The weights are clock / (k first clock) for the k - 1 looks ahead, and what is left to 1 for the first. A mean of
    slopes whose weights do not become those of the step as it gets short is of order 1, however often it looks. The
    last step looks once, the last but one twice.
    """
    gamma, finite = _gamma(s_churn, len(levels) - 1), _looks(levels, path)
    top = next((path.clock(level) for level in levels if math.isfinite(path.clock(level))), 1.0)
    for i, (s, t) in enumerate(pairwise(levels)):
        if gamma and s_tmin <= _sigma_over_alpha(s) <= s_tmax:
            x, s = _churned(x, s, noise, path, gamma, s_noise)
        x0 = mixed = (yield x, s).x0
        if finite[i] > 1:
            y = move(x, x0, s, t)
            second = (yield y, t).x0
            change, part = second - x0, path.clock(s) / (finite[i] * top)
            if finite[i] > 2:
                u = levels[i + 2]
                third = (yield move(y, second, t, u), u).x0
                change = (1.0 + path.clock(u) / path.clock(t)) * change + (third - second)
            mixed = x0 + part * change
        x = move(x, mixed, s, t)
    return x


def _looks(levels: Sequence[Level], path: Path) -> list[int]:
    """Looks of ``heunpp2`` in each step: three, two in the last but one, one in the last and at an infinite clock."""
    n = len(levels) - 1
    return [min(n - i, 3) if math.isfinite(path.clock(s)) else 1 for i, s in enumerate(levels[:-1])]


def heunpp2_evaluations(levels: Sequence[Level], path: Path) -> int:
    """Evaluations of ``heunpp2``: 3 n - 3 for n > 1 steps from a finite clock."""
    return sum(_looks(levels, path))


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
            diffusers=("EulerDiscreteScheduler", "EDMEulerScheduler", "FlowMatchEulerDiscreteScheduler"),
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
        evaluations=midpoint_stages,
        names=Names(
            a1111=("Heun", "k_heun"),
            comfyui=("heun",),
            diffusers=("HeunDiscreteScheduler", "FlowMatchHeunDiscreteScheduler"),
            k_diffusion=("sample_heun",),
            sd_cpp=("heun",),
        ),
    ),
    Sampler(
        name="dpm_2",
        function=dpm_2,
        order=2,
        rule_order=2,
        paper="Crowson, k-diffusion; Lu et al. 2206.00927",
        options=_CHURN,
        evaluations=midpoint_stages,
        names=Names(
            a1111=("DPM2", "k_dpm_2"),
            comfyui=("dpm_2",),
            diffusers=("KDPM2DiscreteScheduler",),
            k_diffusion=("sample_dpm_2",),
            sd_cpp=("dpm2",),
        ),
    ),
    Sampler(
        name="heunpp2",
        function=heunpp2,
        order=1,
        rule_order=1,
        paper="Carzit, sd-webui-samplers-scheduler",
        options=_CHURN,
        evaluations=heunpp2_evaluations,
        names=Names(comfyui=("heunpp2",)),
        instead="heun",
    ),
)
"""The rows of this family."""
