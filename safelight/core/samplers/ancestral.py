"""Ancestral steps: go too far down, then add noise back up. DDIM(eta), DDPM (eta = 1) and Euler ancestral are this one.

Sources: DDIM 2010.02502 eq. 12 and 16; DDPM 2006.11239 eq. 7 (eta = 1); k-diffusion's ``sample_euler_ancestral``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from safelight.core.samplers.row import Names, Sampler
from safelight.core.steps import move, ratio, renoise

if TYPE_CHECKING:
    from torch import Tensor

    from safelight.core.path import Level, Path
    from safelight.core.run import Noise, Run


def ancestral(
    x: Tensor, levels: Sequence[Level], noise: Noise, *, path: Path, eta: float = 1.0, s_noise: float = 1.0
) -> Run:
    """One evaluation per step.

    Args:
        x: state [1, ...] at levels[0].
        eta: 0 is DDIM without noise (= Euler), 1 is DDPM; above 1 all noise is replaced sooner.
        s_noise: factor of the added noise; 1 is the theory.
    """
    for s, t in pairwise(levels):
        x0 = (yield x, s).x0
        q = ratio(s, t)
        low = t._replace(sigma=t.sigma * math.sqrt(max(1.0 - eta * eta * (1.0 - q * q), 0.0)))
        x = move(x, x0, s, low)
        if low.sigma < t.sigma:
            x = renoise(x, low, t, s_noise * noise(s, t))
    return x


ROWS = (
    Sampler(
        name="ddim",
        function=ancestral,
        order=1,
        rule_order=1,
        paper="Song et al. 2010.02502",
        options={"eta": 0.0, "s_noise": 1.0},
        names=Names(a1111=("DDIM",), comfyui=("ddim",), diffusers=("DDIMScheduler",), sd_cpp=("ddim_trailing",)),
    ),
    Sampler(
        name="ddpm",
        function=ancestral,
        order=1,
        rule_order=1,
        paper="Ho et al. 2006.11239",
        options={"eta": 1.0, "s_noise": 1.0},
        stochastic=True,
        names=Names(comfyui=("ddpm",), diffusers=("DDPMScheduler",)),
    ),
    Sampler(
        name="euler_ancestral",
        function=ancestral,
        order=1,
        rule_order=1,
        paper="Crowson, k-diffusion; = DDIM (2010.02502) with eta",
        options={"eta": 1.0, "s_noise": 1.0},
        stochastic=True,
        names=Names(
            a1111=("Euler a", "k_euler_a"),
            comfyui=("euler_ancestral", "k_euler_ancestral"),
            diffusers=("EulerAncestralDiscreteScheduler",),
            k_diffusion=("sample_euler_ancestral",),
            sd_cpp=("euler_a",),
        ),
    ),
)
"""The rows of this family."""
