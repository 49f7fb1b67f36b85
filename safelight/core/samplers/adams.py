"""Exponential Adams methods: one evaluation per step, and a polynomial in lam through the last few predictions of x0.

The solution of the reverse equation weighs the prediction at each lam of a step with e^((1 + eta) lam); an exact method
of order n takes the weighted average of the polynomial through n predictions (``blend``). The names that people know
take simpler weights in some places; a ``rule`` says which.

Sources: SA-Solver 2309.05019 eq. 14 (the exact rule); DPM-Solver++ 2211.01095, algorithm 2 and section 4.4 (2M and its
SDE); RES 2308.02157; k-diffusion's ``sample_dpmpp_2m``, ``_2m_sde`` and ``_3m_sde``; UniPC 2302.04867 (bh1).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

from safelight.core.samplers.row import Names, Sampler
from safelight.core.steps import Rule, blend, moments, move, ratio, renoise, weights
from safelight.errors import UnknownNameError

if TYPE_CHECKING:
    from torch import Tensor

    from safelight.core.path import Level, Path
    from safelight.core.run import Noise, Run


def midpoint(nodes: Sequence[float], a: float, b: float, k: float) -> list[float]:
    """Of two predictions, the line through them at the middle of the step (DPM-Solver++ 2M; UniPC's bh2)."""
    if len(nodes) != 2:
        return weights(nodes, a, b, k)
    other = (b - a) / (2.0 * (nodes[1] - nodes[0]))
    return [1.0 - other, other]


def bh1(nodes: Sequence[float], a: float, b: float, k: float) -> list[float]:
    """Of two predictions, ``midpoint`` with its slope stretched by the length of the step (UniPC's bh1)."""
    if len(nodes) != 2:
        return weights(nodes, a, b, k)
    other = midpoint(nodes, a, b, k)[1] * k * (b - a) / -math.expm1(-k * (b - a))
    return [1.0 - other, other]


def half_curvature(nodes: Sequence[float], a: float, b: float, k: float) -> list[float]:
    """Of three predictions, the parabola through them with half its curvature at a: DPM-Solver++ 3M as published.

    Its D2 is h^2 D'' / 2 where the derivation needs h^2 D'', so the method stays of order 2.
    """
    exact = weights(nodes, a, b, k)
    if len(nodes) != 3:
        return exact
    square = moments(a, b, k, 3)[2]
    curved = [1.0 / math.prod(node - v for v in nodes if v != node) for node in nodes]
    return [w - square / 2.0 * c for w, c in zip(exact, curved)]


RULES: dict[str, Rule] = {
    "exact": weights,
    "heun": weights,  # DPM-Solver++'s name for the exact rule of two predictions
    "midpoint": midpoint,
    "bh1": bh1,
    "half curvature": half_curvature,
}
"""How predictions are weighed; all but the exact ones only differ at one count of predictions."""


def rule_named(rule: str, rules: dict[str, Rule]) -> Rule:
    """The rule of that name.

    Raises:
        UnknownNameError: no such rule.
    """
    if rule not in rules:
        raise UnknownNameError("rule", rule, rules)
    return rules[rule]


def adams(
    x: Tensor,
    levels: Sequence[Level],
    noise: Noise,
    *,
    path: Path,
    order: int = 2,
    eta: float = 0.0,
    rule: str = "exact",
    s_noise: float = 1.0,
) -> Run:
    """One evaluation per step; the first steps, and any step of infinite length in lam, are of lower order.

    Args:
        x: state [1, ...] at levels[0].
        order: how many predictions are used, 1 (DDIM) to 4.
        eta: rate of the reverse SDE; 0 is the ODE, 1 the SDE of the papers.
        rule: a name of ``RULES``.
        s_noise: factor of the added noise; 1 is the theory.

    Raises:
        UnknownNameError: no such rule.
    """
    weigh = rule_named(rule, RULES)
    past: list[tuple[float, Tensor]] = []
    for s, t in pairwise(levels):
        x0 = (yield x, s).x0
        past = [(s.lam, x0), *past[: order - 1]]
        z = s_noise * noise(s, t) if eta and t.sigma else None
        x = move(x, blend(past, s.lam, t.lam, 1.0 + eta, weigh), s, t, eta, z)
    return x


def res_ancestral(
    x: Tensor, levels: Sequence[Level], noise: Noise, *, path: Path, eta: float = 1.0, s_noise: float = 1.0
) -> Run:
    """``adams`` of order 2 that goes too far down, then adds noise back up.

    The older prediction counts as lying one whole last move behind, as far as the move itself went: that is what makes
    mean and variance converge at order 2.

    Args:
        x: state [1, ...] at levels[0].
        eta: 0 is ``adams`` without noise, 1 replaces as much as DDPM does.
        s_noise: factor of the added noise; 1 is the theory.
    """
    past: list[tuple[float, Tensor]] = []
    length = 0.0
    for s, t in pairwise(levels):
        x0 = (yield x, s).x0
        q = ratio(s, t)
        low = t._replace(sigma=t.sigma * math.sqrt(max(1.0 - eta * eta * (1.0 - q * q), 0.0)))
        past = [(s.lam, x0), *((s.lam - length, old) for _, old in past)]
        x = move(x, blend(past, s.lam, low.lam, 1.0), s, low)
        past, length = past[:1], low.lam - s.lam
        if low.sigma < t.sigma:
            x = renoise(x, low, t, s_noise * noise(s, t))
    return x


def _row(name: str, order: int, orders: tuple[int, int], eta: float, rule: str, paper: str, names: Names) -> Sampler:
    """A row of ``adams``; orders: of a whole run, and of one step."""
    return Sampler(
        name=name,
        function=adams,
        order=orders[0],
        rule_order=orders[1],
        paper=paper,
        options={"order": order, "eta": eta, "rule": rule, "s_noise": 1.0},
        stochastic=eta > 0.0,
        noise="path",
        names=names,
    )


ROWS = (
    _row(
        "dpmpp_2m",
        2,
        (2, 2),
        0.0,
        "midpoint",
        "Lu et al. 2211.01095",
        Names(
            a1111=("DPM++ 2M", "k_dpmpp_2m"),
            comfyui=("dpmpp_2m",),
            diffusers=("DPMSolverMultistepScheduler",),
            k_diffusion=("sample_dpmpp_2m",),
            sd_cpp=("dpm++2m",),
        ),
    ),
    _row(
        "dpmpp_2m_sde",
        2,
        (2, 2),
        1.0,
        "midpoint",
        "Lu et al. 2211.01095",
        Names(
            a1111=("DPM++ 2M SDE", "k_dpmpp_2m_sde"),
            comfyui=("dpmpp_2m_sde", "dpmpp_2m_sde_gpu"),
            k_diffusion=("sample_dpmpp_2m_sde",),
            sd_cpp=("dpm++2m_sde",),
        ),
    ),
    _row(
        "dpmpp_2m_sde_heun",
        2,
        (2, 2),
        1.0,
        "heun",
        "Lu et al. 2211.01095",
        Names(a1111=("DPM++ 2M SDE Heun",), comfyui=("dpmpp_2m_sde_heun", "dpmpp_2m_sde_heun_gpu")),
    ),
    replace(
        _row(
            "dpmpp_3m_sde",
            3,
            (2, 2),
            1.0,
            "half curvature",
            "Crowson, k-diffusion, after Lu et al. 2211.01095",
            Names(
                a1111=("DPM++ 3M SDE", "k_dpmpp_3m_sde"),
                comfyui=("dpmpp_3m_sde", "dpmpp_3m_sde_gpu"),
                k_diffusion=("sample_dpmpp_3m_sde",),
            ),
        ),
        instead="adams3_sde",
    ),
    _row("adams2", 2, (2, 2), 0.0, "exact", "Xue et al. 2309.05019 with tau = 0", Names()),
    _row("adams3", 3, (2, 3), 0.0, "exact", "Xue et al. 2309.05019 with tau = 0", Names()),
    _row("adams4", 4, (2, 4), 0.0, "exact", "Xue et al. 2309.05019 with tau = 0", Names()),
    _row("adams2_sde", 2, (2, 2), 1.0, "exact", "Xue et al. 2309.05019 with tau = 1", Names()),
    _row("adams3_sde", 3, (2, 3), 1.0, "exact", "Xue et al. 2309.05019 with tau = 1", Names()),
    _row(
        "res_multistep",
        2,
        (2, 2),
        0.0,
        "exact",
        "Zhang et al. 2308.02157",
        Names(comfyui=("res_multistep",), sd_cpp=("res_multistep",)),
    ),
    Sampler(
        name="res_multistep_ancestral",
        function=res_ancestral,
        order=2,
        rule_order=2,
        paper="Zhang et al. 2308.02157, with ancestral noise",
        options={"eta": 1.0, "s_noise": 1.0},
        stochastic=True,
        names=Names(comfyui=("res_multistep_ancestral",)),
    ),
)
"""The rows of this family."""
