"""CFG++: solve as if there were no guidance, and add after every step what guidance changes.

    x_t = (the base method's step with the unguided predictions u) + alpha_t (x0 - u),   x0 guided, u not

So guidance is no part of the equation that is solved: it is added anew at every step, and its strength follows the
step size. Of first order it is ordinary guidance whose scale is divided by 1 - e^-h at every step. More steps mean more
guidance, so there is no limit to converge to unless guidance does nothing; then each is its base.

Source: Chung et al. 2406.08070, algorithm 2 (first order), eq. 14-15 (terms of higher order from u alone).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from safelight.core.samplers.ancestral import below
from safelight.core.samplers.row import Names, Sampler
from safelight.core.steps import blend, move, ratio, renoise
from safelight.errors import RequestError, UnknownNameError

if TYPE_CHECKING:
    from torch import Tensor

    from safelight.core.path import Level, Path
    from safelight.core.run import Denoised, Noise, Run

RULES = ("heun", "midpoint")


def unguided(answer: Denoised) -> Tensor:
    """The unguided prediction in an answer.

    Raises:
        RequestError: it is not there.
    """
    if answer.uncond is None:
        raise RequestError("CFG++ needs the unguided answer; ask with CFG(scale, both=True), or take another sampler")
    return answer.uncond


def pushed(x: Tensor, answer: Denoised, t: Level) -> Tensor:
    """The state at t with what guidance changes; at a clean t it is the guided prediction itself, exactly."""
    if t.sigma == 0.0:
        return t.alpha * answer.x0
    return x + t.alpha * (answer.x0 - unguided(answer))


def gain(levels: Sequence[Level]) -> float:
    """How much ordinary guidance the scale 1 is: the mean of 1 / (1 - e^-h) over the steps, 1 or more.

    With Stable Diffusion's table and 50 even steps it is 12; the paper found 12.5 by trial.
    """
    return sum(1.0 / (1.0 - ratio(s, t)) for s, t in pairwise(levels)) / (len(levels) - 1)


def euler(
    x: Tensor, levels: Sequence[Level], noise: Noise, *, path: Path, eta: float = 0.0, s_noise: float = 1.0
) -> Run:
    """One evaluation per step; the base is ``ancestral``.

    Args:
        x: state [1, ...] at levels[0].
        eta: 0 is DDIM without noise (= Euler), 1 is DDPM (= Euler ancestral).
        s_noise: factor of the added noise; 1 is the theory.

    Raises:
        RequestError: an answer without the unguided prediction.
    """
    for s, t in pairwise(levels):
        answer = yield x, s
        low = below(s, t, eta)
        x = pushed(move(x, unguided(answer), s, low), answer, low)
        if low.sigma < t.sigma:
            x = renoise(x, low, t, s_noise * noise(s, t))
    return x


def two_stage(
    x: Tensor, levels: Sequence[Level], noise: Noise, *, path: Path, eta: float = 1.0, s_noise: float = 1.0
) -> Run:
    """Two evaluations per step, one where it starts at pure noise or ends clean; the base is DPM++ 2S ancestral.

    Args:
        x: state [1, ...] at levels[0].
        eta: 0 adds no noise, 1 is ancestral.
        s_noise: factor of the added noise; 1 is the theory.

    Raises:
        RequestError: an answer without the unguided prediction, or eta above 1: there may be no level to look at.
    """
    if eta > 1.0:
        raise RequestError(f"eta lies between 0 and 1 for ancestral samplers that look twice a step, not {eta:g}")
    for s, t in pairwise(levels):
        answer = yield x, s
        u, low = unguided(answer), below(s, t, eta)
        if math.isfinite(t.lam - s.lam):
            middle = path.at((s.lam + low.lam) / 2)
            u = unguided((yield move(x, u, s, middle), middle))
        x = pushed(move(x, u, s, low), answer, low)
        if low.sigma < t.sigma:
            x = renoise(x, low, t, s_noise * noise(s, t))
    return x


def two_stage_evaluations(levels: Sequence[Level], path: Path) -> int:
    """Evaluations of ``two_stage``."""
    return sum(2 if math.isfinite(t.lam - s.lam) else 1 for s, t in pairwise(levels))


def two_step(x: Tensor, levels: Sequence[Level], noise: Noise, *, path: Path, rule: str = "midpoint") -> Run:
    """One evaluation per step; the base is DPM++ 2M, or RES multistep with the rule "heun".

    Args:
        x: state [1, ...] at levels[0].
        rule: "midpoint" extrapolates the line through two predictions to the middle of the step; "heun" averages it
            over the step with the weight that the solution gives it.

    Raises:
        RequestError: an answer without the unguided prediction. UnknownNameError: no such rule.
    """
    if rule not in RULES:
        raise UnknownNameError("rule", rule, RULES)
    past: tuple[float, Tensor] | None = None
    for s, t in pairwise(levels):
        answer = yield x, s
        u, h = unguided(answer), t.lam - s.lam
        mixed = u
        if past is not None and math.isfinite(h):
            if rule == "midpoint":
                mixed = u + (h / (2.0 * (s.lam - past[0]))) * (u - past[1])
            else:
                mixed = blend([(s.lam, u), past], s.lam, t.lam, 1.0)
        x = pushed(move(x, mixed, s, t), answer, t)
        past = (s.lam, u)
    return x


PAPER = "Chung et al. 2406.08070"

ROWS = (
    Sampler(
        name="euler_cfg_pp",
        function=euler,
        order=1,
        rule_order=1,
        paper=PAPER,
        options={"eta": 0.0, "s_noise": 1.0},
        uncond=True,
        names=Names(comfyui=("euler_cfg_pp",)),
    ),
    Sampler(
        name="euler_ancestral_cfg_pp",
        function=euler,
        order=1,
        rule_order=1,
        paper=PAPER,
        options={"eta": 1.0, "s_noise": 1.0},
        stochastic=True,
        uncond=True,
        names=Names(comfyui=("euler_ancestral_cfg_pp",)),
    ),
    Sampler(
        name="cfg_pp_2m",
        function=two_step,
        order=2,
        rule_order=2,
        paper=PAPER,
        options={"rule": "midpoint"},
        uncond=True,
    ),
    Sampler(
        name="cfg_pp_2s_ancestral",
        function=two_stage,
        order=2,
        rule_order=2,
        paper=PAPER,
        options={"eta": 1.0, "s_noise": 1.0},
        stochastic=True,
        evaluations=two_stage_evaluations,
        uncond=True,
    ),
    Sampler(
        name="cfg_pp_res_multistep",
        function=two_step,
        order=2,
        rule_order=2,
        paper=PAPER,
        options={"rule": "heun"},
        uncond=True,
    ),
)
"""The rows of this family. Other programs have methods of second order under like names, which add other terms."""
