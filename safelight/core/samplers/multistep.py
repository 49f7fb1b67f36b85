"""Two-step exponential multistep methods on x0 in lam: DPM-Solver++ 2M and its SDE form.

Sources: Lu et al. 2211.01095, algorithm 2 (2M) and section 4.4 (SDE); k-diffusion's ``sample_dpmpp_2m`` and
``sample_dpmpp_2m_sde``. With the "heun" rule and eta = 0 it is exponential Adams of order 2, that is RES multistep.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from safelight.core.samplers.row import Names, Sampler
from safelight.core.steps import blend, move
from safelight.errors import UnknownNameError

if TYPE_CHECKING:
    from torch import Tensor

    from safelight.core.path import Level, Path
    from safelight.core.run import Noise, Run

RULES = ("heun", "midpoint")


def two_step(
    x: Tensor,
    levels: Sequence[Level],
    noise: Noise,
    *,
    path: Path,
    eta: float = 0.0,
    rule: str = "midpoint",
    s_noise: float = 1.0,
) -> Run:
    """One evaluation per step; the first step, and any step of infinite length in lam, is of order 1.

    Args:
        x: state [1, ...] at levels[0].
        eta: rate of the reverse SDE; 0 is the ODE, 1 the SDE of the paper.
        rule: "midpoint" extrapolates the line through two predictions to the middle of the step; "heun" averages it
            over the step with the weight that the solution gives it (``blend``).
        s_noise: factor of the added noise; 1 is the theory.

    Raises:
        UnknownNameError: no such rule.
    """
    if rule not in RULES:
        raise UnknownNameError("rule", rule, RULES)
    past: tuple[float, Tensor] | None = None
    for s, t in pairwise(levels):
        x0 = (yield x, s).x0
        mixed, h = x0, t.lam - s.lam
        # A past prediction at pure noise lies infinitely far away: both rules give it no weight.
        if past is not None and math.isfinite(h):
            if rule == "midpoint":
                mixed = x0 + (h / (2.0 * (s.lam - past[0]))) * (x0 - past[1])
            else:
                mixed = blend([(s.lam, x0), past], s.lam, t.lam, 1.0 + eta)
        z = s_noise * noise(s, t) if eta and t.sigma else None
        x = move(x, mixed, s, t, eta, z)
        past = (s.lam, x0)
    return x


ROWS = (
    Sampler(
        name="dpmpp_2m",
        function=two_step,
        order=2,
        rule_order=2,
        paper="Lu et al. 2211.01095",
        options={"eta": 0.0, "rule": "midpoint", "s_noise": 1.0},
        names=Names(
            a1111=("DPM++ 2M", "k_dpmpp_2m"),
            comfyui=("dpmpp_2m",),
            diffusers=("DPMSolverMultistepScheduler",),
            k_diffusion=("sample_dpmpp_2m",),
            sd_cpp=("dpm++2m",),
        ),
    ),
    Sampler(
        name="dpmpp_2m_sde",
        function=two_step,
        order=2,
        rule_order=2,
        paper="Lu et al. 2211.01095",
        options={"eta": 1.0, "rule": "midpoint", "s_noise": 1.0},
        stochastic=True,
        names=Names(
            a1111=("DPM++ 2M SDE", "k_dpmpp_2m_sde"),
            comfyui=("dpmpp_2m_sde", "dpmpp_2m_sde_gpu"),
            k_diffusion=("sample_dpmpp_2m_sde",),
            sd_cpp=("dpm++2m_sde",),
        ),
    ),
    Sampler(
        name="dpmpp_2m_sde_heun",
        function=two_step,
        order=2,
        rule_order=2,
        paper="Lu et al. 2211.01095",
        options={"eta": 1.0, "rule": "heun", "s_noise": 1.0},
        stochastic=True,
        names=Names(a1111=("DPM++ 2M SDE Heun",), comfyui=("dpmpp_2m_sde_heun", "dpmpp_2m_sde_heun_gpu")),
    ),
)
"""The rows of this family."""
