"""Ancestral steps: go too far down, then add noise back up. How far down, and by which method, makes the names.

    DDIM(eta), DDPM (eta = 1)    the exact posterior of any path
    Euler, DPM2, 2S ancestral    on VP and VE paths the same level; on a flow path (RF) sigma_low = sigma_t
                                 (1 + (sigma_t / sigma_s - 1) eta) and alpha_low = 1 - sigma_low

Sources: DDIM 2010.02502 eq. 12 and 16; DDPM 2006.11239 eq. 7 (eta = 1); k-diffusion's ``sample_euler_ancestral``,
``sample_dpm_2_ancestral`` and ``sample_dpmpp_2s_ancestral``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING

from safelight.core.path import Flow
from safelight.core.samplers.row import Names, Sampler
from safelight.core.samplers.stages import euler_step, midpoint_stages, midpoint_step, stages, two_stage
from safelight.core.steps import move, ratio, renoise
from safelight.errors import RequestError, UnknownNameError

if TYPE_CHECKING:
    from torch import Tensor

    from safelight.core.path import Level, Path
    from safelight.core.run import Noise, Run


VARIANCES = ("fixed_large", "fixed_small", "learned_range")


def below(s: Level, t: Level, eta: float) -> Level:
    """How far down a step from s to t goes so that the noise which brings it back up is that of the posterior.

    Args:
        eta: 0 is t itself; 1 is the posterior of DDPM; larger ends at no noise at all.
    """
    q = ratio(s, t)
    return t._replace(sigma=t.sigma * math.sqrt(max(1.0 - eta * eta * (1.0 - q * q), 0.0)))


def lower(path: Path, s: Level, t: Level, eta: float) -> Level:
    """How far down the ancestral samplers go: ``below``, but on a flow path by the rule of rectified flow."""
    if not isinstance(path, Flow):
        return below(s, t, eta)
    clock = path.clock(t) * max(1.0 + (path.clock(t) / path.clock(s) - 1.0) * eta, 0.0)
    return path.at_clock(clock) if clock < path.clock(t) else t


def lift(x: Tensor, low: Level, t: Level, s: Level, noise: Noise, s_noise: float) -> Tensor:
    """Back up from low to t, with the noise of the step from s to t; nothing where they are equally noisy."""
    return renoise(x, low, t, s_noise * noise(s, t)) if low.lam > t.lam else x


def descend(x: Tensor, x0: Tensor, s: Level, t: Level, eta: float, noise: Noise, s_noise: float) -> Tensor:
    """From s to t while the prediction x0 stands still: down to ``below``, and up again."""
    low = below(s, t, eta)
    return lift(move(x, x0, s, low), low, t, s, noise, s_noise)


def ancestral(
    x: Tensor, levels: Sequence[Level], noise: Noise, *, path: Path, eta: float = 1.0, s_noise: float = 1.0
) -> Run:
    """One evaluation per step: DDIM with eta, by the posterior of any path.

    Args:
        x: state [1, ...] at levels[0].
        eta: 0 is DDIM without noise (= Euler), 1 is DDPM; above 1 all noise is replaced sooner.
        s_noise: factor of the added noise; 1 is the theory.
    """
    for s, t in pairwise(levels):
        x = descend(x, (yield x, s).x0, s, t, eta, noise, s_noise)
    return x


def ddpm(
    x: Tensor,
    levels: Sequence[Level],
    noise: Noise,
    *,
    path: Path,
    eta: float = 1.0,
    variance: str = "fixed_small",
    s_noise: float = 1.0,
) -> Run:
    """``ancestral``, with all choices of how much noise is added (2006.11239, section 3.2; 2102.09672, eq. 15).

    Args:
        x: state [1, ...] at levels[0].
        eta: as in ``ancestral``; multiplies the deviation of the added noise.
        variance: "fixed_small" is right where the data are one point, and makes this ``ancestral``; "fixed_large" is
            the variance of the forward step from t up to s, right where the data are noise. Short steps make them
            equal, but for the last ones. "learned_range" lets the network say where between the two, on a scale of
            logarithms, each element lies.
        s_noise: factor of the added noise; 1 is the theory.

    Raises:
        UnknownNameError: no such variance. RequestError: a learned one, of a network that says none.
    """
    if variance not in VARIANCES:
        raise UnknownNameError("variance", variance, VARIANCES)
    for s, t in pairwise(levels):
        x0, _, spread = yield x, s
        if variance == "learned_range" and spread is None:
            raise RequestError("this network says no variance of its own; take fixed_small or fixed_large")
        if variance == "fixed_small" or not eta or t.sigma == 0.0:
            x = descend(x, x0, s, t, eta, noise, s_noise)
            continue
        drawn = eta * math.sqrt(s.sigma**2 - (s.alpha / t.alpha * t.sigma) ** 2) * s_noise * noise(s, t)
        if spread is not None and variance == "learned_range":  # the small deviation is sigma_t / sigma_s of the large
            drawn = drawn * ((spread - 1.0) * (0.5 * math.log(s.sigma / t.sigma))).exp()
        x = move(x, x0, s, below(s, t, eta)) + drawn
    return x


def overshoot(
    x: Tensor,
    levels: Sequence[Level],
    noise: Noise,
    *,
    path: Path,
    step: Callable[[Tensor, Level, Level, Path], Run],
    eta: float = 1.0,
    s_noise: float = 1.0,
) -> Run:
    """A step of the ODE down to ``lower``, then noise up to the level wanted.

    Args:
        x: state [1, ...] at levels[0].
        step: the method that goes down.
        eta: 0 is the ODE; 1 replaces as much noise as DDPM does; ``step`` must look once where eta is above 1.
        s_noise: factor of the added noise; 1 is the theory.

    Raises:
        RequestError: eta above 1 where the method looks twice: there may be no level left to look at.
    """
    if eta > 1.0 and step is not euler_step:
        raise RequestError(f"eta lies between 0 and 1 for ancestral samplers that look twice a step, not {eta:g}")
    for s, t in pairwise(levels):
        low = lower(path, s, t, eta)
        x = yield from step(x, s, low, path)
        x = lift(x, low, t, s, noise, s_noise)
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
        function=ddpm,
        order=1,
        rule_order=1,
        paper="Ho et al. 2006.11239",
        options={"eta": 1.0, "s_noise": 1.0, "variance": "fixed_small"},
        stochastic=True,
        names=Names(comfyui=("ddpm",), diffusers=("DDPMScheduler",)),
    ),
    Sampler(
        name="euler_ancestral",
        function=partial(overshoot, step=euler_step),
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
    Sampler(
        name="dpm_2_ancestral",
        function=partial(overshoot, step=midpoint_step),
        order=2,
        rule_order=2,
        paper="Crowson, k-diffusion; Lu et al. 2206.00927",
        options={"eta": 1.0, "s_noise": 1.0},
        stochastic=True,
        evaluations=midpoint_stages,
        names=Names(
            a1111=("DPM2 a", "k_dpm_2_a"),
            comfyui=("dpm_2_ancestral",),
            diffusers=("KDPM2AncestralDiscreteScheduler",),
            k_diffusion=("sample_dpm_2_ancestral",),
        ),
    ),
    Sampler(
        name="dpmpp_2s_ancestral",
        function=partial(overshoot, step=two_stage),
        order=2,
        rule_order=2,
        paper="Crowson, k-diffusion; Lu et al. 2211.01095",
        options={"eta": 1.0, "s_noise": 1.0},
        stochastic=True,
        evaluations=partial(stages, 2),
        names=Names(
            a1111=("DPM++ 2S a", "k_dpmpp_2s_a"),
            comfyui=("dpmpp_2s_ancestral",),
            k_diffusion=("sample_dpmpp_2s_ancestral",),
            sd_cpp=("dpm++2s_a",),
        ),
    ),
)
"""The rows of this family."""
