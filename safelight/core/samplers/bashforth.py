"""Adams-Bashforth methods: one evaluation per step, and a polynomial through the last few slopes of the path's ODE.

In the path's clock c (sigma / alpha for VP and VE, sigma / (alpha + sigma) for flow) the ODE reads dy/dc =
(y - x0) / c; that slope is eps for VP and VE, and the velocity for flow. ``OVER`` says in which variable the polynomial
is laid:

    clock    LMS = DEIS rho-AB              each step has weights from its own nodes
    steps    iPNDM, PLMS                    the count of steps, as if they were even: Adams's classic weights
    log      DEIS log-rho, DPM-Solver       lam, on eps whatever the path

Sources: Katherine Crowson's ``sample_lms``; PNDM 2202.09778 eq. 12 and 13; DEIS 2204.13902 section 3; DPM-Solver
2206.00927; iPNDM-v, diff-sampler of Zhou et al. (2312.00094); gradient estimation, Permenter & Yuan 2306.04848.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from safelight.core.samplers.adams import half_curvature, midpoint, rule_named
from safelight.core.samplers.row import Names, Option, Sampler
from safelight.core.steps import Rule, average, move, through, weights
from safelight.errors import RequestError, UnknownNameError

if TYPE_CHECKING:
    from torch import Tensor

    from safelight.core.path import Level, Path
    from safelight.core.run import Noise, Run


def published(nodes: Sequence[float], a: float, b: float, k: float) -> list[float]:
    """iPNDM-v's weights as they were published, in Newton's form.

    Two slips: of three slopes and more, the second divided difference is scaled by products where quotients belong;
    of four, the oldest slope has the ratio of the wrong two steps, so that the weights need not even sum to 1.
    """
    if len(nodes) < 3:
        return weights(nodes, a, b, k)
    h = [b - a, *(new - old for new, old in pairwise(nodes))]  # this step, the last, the one before ...
    one, two = h[0] / h[1], h[1] / h[2]
    slip = (1.0 - one * h[0] / (3.0 * (h[1] + h[2]))) / 2.0
    w = [1.0 + one / 2.0 + slip, -one / 2.0 - (1.0 + two) * slip, two * slip]
    if len(nodes) == 3:
        return w
    both, all_ = h[0] + h[1], h[0] + h[1] + h[2]
    third = (1.0 - h[0] / (3.0 * both)) / 2.0 + (1.0 - h[0] / (2.0 * both)) * h[0] / (6.0 * all_)
    third *= h[0] * both * all_ / (h[1] * (h[1] + h[2]) * (h[1] + h[2] + h[3]))
    bend = h[1] * (h[1] + h[2]) / (h[2] * (h[2] + h[3]))
    w[0] += third
    w[1] -= (1.0 + two + bend) * third
    w[2] += (two + bend * (1.0 + h[2] / h[3])) * third
    return [*w, -bend * two * third]


def vp_time(nodes: Sequence[float], a: float, b: float, k: float) -> list[float]:
    """The polynomial laid in the time of a VP SDE, averaged in the clock (DEIS tAB)."""
    start = vp_time_of(a)
    known = average(lambda c: [(vp_time_of(c) - start) ** j for j in range(len(nodes))], a, b)
    return through([vp_time_of(node) - start for node in nodes], known)


def vp_time_of(clock: float) -> float:
    """t of log(1 + clock^2) = grow t^2 / 2 + start t; clock 0.002 at t = 0.001, 80 at t = 1 (2206.00364, table 1)."""
    low, high, first = math.log1p(0.002**2), math.log1p(80.0**2), 1e-3
    grow = 2.0 * (low / first - high) / (first - 1.0)
    start = high - grow / 2.0
    return (math.sqrt(start * start + 2.0 * grow * math.log1p(clock * clock)) - start) / grow


RULES: dict[str, Rule] = {
    "exact": weights,
    "midpoint": midpoint,
    "half curvature": half_curvature,
    "published": published,
    "vp time": vp_time,
}
"""How slopes are weighed."""


class _Over(NamedTuple):
    """A variable for the polynomial: where a level lies in it, the exponent of ``average``, and the clock of slopes."""

    place: Callable[[Path, Level, int], float]
    k: float
    clock: Callable[[Path, Level], float]


def _own_clock(path: Path, level: Level) -> float:
    return path.clock(level)


def _sigma_over_alpha(path: Path, level: Level) -> float:
    return level.sigma / level.alpha if level.alpha else math.inf


OVER = {
    "clock": _Over(lambda path, level, i: path.clock(level), 0.0, _own_clock),
    "steps": _Over(lambda path, level, i: float(i), 0.0, _own_clock),
    "log": _Over(lambda path, level, i: level.lam, -1.0, _sigma_over_alpha),
}
"""In which variable the polynomial is laid; see the module."""
FINALS = ("slope", "prediction", "lowered")
_FEW = 15
"""Runs of fewer steps than this are lowered."""


def _slope(x: Tensor, x0: Tensor, s: Level, clock: float) -> Tensor:
    """dy/dclock at s: eps for VP and VE, the velocity for flow; finite at pure noise."""
    return x / s.sigma - x0 / clock


def bashforth(
    x: Tensor,
    levels: Sequence[Level],
    noise: Noise,
    *,
    path: Path,
    order: int = 4,
    over: str = "clock",
    rule: str = "exact",
    final: str = "slope",
) -> Run:
    """One evaluation per step; the first steps are of lower order.

    Args:
        x: state [1, ...] at levels[0].
        order: how many slopes are used, 1 (Euler) to 4.
        over: a name of ``OVER``; rule: a name of ``RULES``.
        final: how a step to the clean end is taken: "slope" as any other, "prediction" to the last prediction itself,
            "lowered" like that, and the last steps of a run below 15 are of falling order (diffusers).

    Raises:
        UnknownNameError: no such variable, rule or final step. RequestError: a rule that is not for that variable.
    """
    weigh = rule_named(rule, RULES)
    if over not in OVER:
        raise UnknownNameError("over", over, OVER)
    if final not in FINALS:
        raise UnknownNameError("final", final, FINALS)
    if weigh in (published, vp_time) and over != "clock":
        raise RequestError(f"rule {rule!r} weighs slopes by the clock; it does not go with over {over!r}")
    place, k, clock = OVER[over]
    steps = len(levels) - 1
    lowered = final == "lowered" and steps < _FEW
    past: list[tuple[float, Tensor]] = []
    for i, (s, t) in enumerate(pairwise(levels)):
        x0 = (yield x, s).x0
        slope = _slope(x, x0, s, clock(path, s))
        past = [(place(path, s, i), slope), *past[: order - 1]]
        a, b = place(path, s, i), place(path, t, i + 1)
        known = [entry for entry in past if math.isfinite(entry[0])] if math.isfinite(b - a) else []
        known = known[: steps - i] if lowered else known
        if len(known) > 1 and (t.sigma or final == "slope"):
            mixed = sum(w * value for w, (_, value) in zip(weigh([u for u, _ in known], a, b, k), known))
            x0 = _with_slope(x0, slope, mixed, clock(path, s))
        x = move(x, x0, s, t)
    return x


def _with_slope(x0: Tensor, slope: Tensor, wanted: Tensor | float, clock: float) -> Tensor:
    """The prediction with which ``move`` follows the wanted slope instead of the one that belongs to x0."""
    return x0 + clock * (slope - wanted)


def plms(x: Tensor, levels: Sequence[Level], noise: Noise, *, path: Path) -> Run:
    """Four slopes over the count of steps; the first step is Heun's, and asked anew where it has come to.

    That is PNDM as Stable Diffusion runs it: n + 1 evaluations, the second one used for nothing but the first step.

    Args:
        x: state [1, ...] at levels[0].
    """
    past: list[tuple[float, Tensor]] = []
    for i, (s, t) in enumerate(pairwise(levels)):
        x0, clock = (yield x, s).x0, path.clock(s)
        slope = _slope(x, x0, s, clock)
        past = [(float(-i), slope), *past[:3]]
        if i == 0:
            if _starts_twice(levels, path):
                there = move(x, x0, s, t)
                second = _slope(there, (yield there, t).x0, t, path.clock(t))
                x0 = _with_slope(x0, slope, (slope + second) / 2.0, clock)
        else:
            w = weights([float(j) for j in range(0, -len(past), -1)], 0.0, 1.0, 0.0)
            x0 = _with_slope(x0, slope, sum(v * value for v, (_, value) in zip(w, past)), clock)
        x = move(x, x0, s, t)
    return x


def _starts_twice(levels: Sequence[Level], path: Path) -> bool:
    """Whether ``plms`` asks twice for its first step: not from an infinite clock, nor where there is no second step."""
    return len(levels) > 2 and math.isfinite(path.clock(levels[0]))


def plms_evaluations(levels: Sequence[Level], path: Path) -> int:
    """Evaluations of ``plms``: n + 1, or n."""
    return len(levels) - 1 + _starts_twice(levels, path)


def gradient_estimation(x: Tensor, levels: Sequence[Level], noise: Noise, *, path: Path, gamma: float = 2.0) -> Run:
    """The newest slope, and gamma - 1 times what it changed by; a step to the clean end takes the prediction.

    Args:
        x: state [1, ...] at levels[0].
        gamma: 1 is Euler, 1.5 Adams-Bashforth of order 2 on even steps, 2 the paper's choice (order 1).
    """
    old: Tensor | None = None
    for s, t in pairwise(levels):
        x0, clock = (yield x, s).x0, path.clock(s)
        slope = _slope(x, x0, s, clock)
        if old is not None and t.sigma:
            x0 = _with_slope(x0, slope, slope + (gamma - 1.0) * (slope - old), clock)
        x, old = move(x, x0, s, t), slope
    return x


def _row(name: str, paper: str, orders: tuple[int, int], options: dict[str, Option], names: Names) -> Sampler:
    """A row of ``bashforth``; orders: of a whole run, and of one step."""
    return Sampler(
        name=name,
        function=bashforth,
        order=orders[0],
        rule_order=orders[1],
        paper=paper,
        options={"order": 4, "over": "clock", "rule": "exact", "final": "prediction", **options},
        names=names,
    )


ROWS = (
    _row(
        "lms",
        "Crowson, k-diffusion; = DEIS rho-AB (2204.13902)",
        (2, 4),
        {"final": "slope"},
        Names(
            a1111=("LMS", "k_lms"),
            comfyui=("lms",),
            diffusers=("LMSDiscreteScheduler",),
            k_diffusion=("sample_lms",),
        ),
    ),
    _row(
        "ipndm",
        "Zhang & Chen 2204.13902",
        (2, 1),
        {"over": "steps"},
        Names(comfyui=("ipndm",), diffusers=("IPNDMScheduler",), sd_cpp=("ipndm",)),
    ),
    replace(
        _row(
            "ipndm_v",
            "Zhou et al. 2312.00094, diff-sampler",
            (1, 0),
            {"rule": "published"},
            Names(comfyui=("ipndm_v",), sd_cpp=("ipndm_v",)),
        ),
        instead="lms",
    ),
    _row(
        "deis_log",
        "Zhang & Chen 2204.13902, log-rho",
        (2, 3),
        {"order": 3, "over": "log"},
        Names(diffusers=("DEISMultistepScheduler",)),
    ),
    _row(
        "deis",
        "Zhang & Chen 2204.13902, tAB",
        (2, 3),
        {"order": 3, "rule": "vp time"},
        Names(comfyui=("deis",)),
    ),
    _row(
        "dpm_solver_2m",
        "Lu et al. 2206.00927",
        (2, 2),
        {"order": 2, "over": "log", "rule": "midpoint"},
        Names(),
    ),
    Sampler(
        name="plms",
        function=plms,
        order=2,
        rule_order=1,
        paper="Liu et al. 2202.09778",
        evaluations=plms_evaluations,
        names=Names(a1111=("PLMS",), diffusers=("PNDMScheduler",)),
    ),
    Sampler(
        name="gradient_estimation",
        function=gradient_estimation,
        order=1,
        rule_order=1,
        paper="Permenter & Yuan 2306.04848",
        options={"gamma": 2.0},
        names=Names(comfyui=("gradient_estimation",)),
    ),
)
"""The rows of this family."""
