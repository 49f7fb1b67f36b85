"""DPM-Solver: single steps of order 2 or 3 that average eps in lam, on a grid, across a grid, or without one.

    dpm_solver_2, dpm_solver_3    every step of the grid has two or three looks
    dpm_singlestep                every step has one look; steps of order 1, 2 and 3 in turn start at the same level
    dpm_fast                      as many looks as the grid has steps, spread evenly in lam between the grid's ends

Sources: Lu et al. 2206.00927, algorithms 1 and 2 and appendix D.3 (fast); 2211.01095 (x0, for ``dpm_singlestep``);
k-diffusion's ``sample_dpm_fast``; diffusers' ``DPMSolverSinglestepScheduler``.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING

from safelight.core.samplers.ancestral import lift, lower
from safelight.core.samplers.row import Names, Sampler
from safelight.core.samplers.stages import eps_step, finite, stages
from safelight.core.steps import blend, move
from safelight.errors import RequestError, UnknownNameError

if TYPE_CHECKING:
    from torch import Tensor

    from safelight.core.path import Level, Path
    from safelight.core.run import Noise, Run

RULES = ("heun", "midpoint")


def dpm_solver(x: Tensor, levels: Sequence[Level], noise: Noise, *, path: Path, order: int) -> Run:
    """``order`` evaluations per step, without noise.

    Args:
        x: state [1, ...] at levels[0].
        order: 1 to 3.
    """
    for s, t in pairwise(levels):
        x0 = (yield x, s).x0
        _, x = yield from eps_step(x, x0, s, t, path, order if finite(s, t) else 1)
    return x


def singlestep(
    x: Tensor,
    levels: Sequence[Level],
    noise: Noise,
    *,
    path: Path,
    order: int = 2,
    rule: str = "midpoint",
) -> Run:
    """One evaluation per step, on x0; a group of ``order`` steps is one step of that order with the grid as its middle.

    Within a group the first step goes on by what was seen at its start, the second goes again from the start of the
    group with two looks, the third with three. A step of infinite length is of order 1 and ends its group. Order 3 is
    reached on grids that are even in lam; elsewhere the third look is not where it should be, and 2 is left.

    Args:
        x: state [1, ...] at levels[0].
        order: 1 to 3.
        rule: how looks are mixed: "heun" averages the polynomial through all of them, "midpoint" takes its middle
            (two looks) or leaves the second one out (three).

    Raises:
        RequestError: order is above 3, or a rule is chosen for order 1, which mixes nothing. UnknownNameError: no such
            rule.
    """
    if order > 3:
        raise RequestError(f"option order of dpm_singlestep is 1, 2 or 3, not {order:g}")
    if rule not in RULES:
        raise UnknownNameError("rule", rule, RULES)
    if order == 1 and rule != "midpoint":
        raise RequestError("option rule of dpm_singlestep does nothing at order 1; raise that or leave it out")
    seen: list[tuple[Level, Tensor]] = []
    begin = x
    for s, t in pairwise(levels):
        if len(seen) == order or not (seen and finite(s, t)):
            seen, begin = [], x
        seen.append((s, (yield x, s).x0))
        first = seen[0][0]
        if len(seen) == 2 and rule == "midpoint":
            r = (s.lam - first.lam) / (t.lam - first.lam)
            mixed = seen[0][1] + 1.0 / (2.0 * r) * (seen[1][1] - seen[0][1])
        else:
            used = seen if rule == "heun" else [seen[0], seen[-1]][: len(seen)]
            mixed = blend([(level.lam, x0) for level, x0 in used], first.lam, t.lam, 1.0)
        x = move(begin, mixed, first, t)
        if not finite(s, t):
            seen = []
    return x


def stretch(levels: Sequence[Level]) -> tuple[int, int]:
    """Between which indices of the levels the way is finite in lam: without a step from pure noise or to clean."""
    last = len(levels) - 1 - (levels[-1].sigma == 0.0)
    return int(levels[0].alpha == 0.0 and last > 0), max(last, 0)


def fast_plan(levels: Sequence[Level], path: Path) -> list[tuple[Level, Level, int]]:
    """The steps (s, t, order) of ``dpm_fast``: of order 3 and, in the end, what is left."""
    first, last = stretch(levels)
    plan = [(s, t, 1) for s, t in pairwise(levels[: first + 1])]
    if n := last - first:
        orders = [3] * (n // 3 - 1) + [2, 1] if n % 3 == 0 else [3] * (n // 3) + [n % 3]
        start, end = levels[first].lam, levels[last].lam
        inner = [path.at(start + (end - start) * i / len(orders)) for i in range(1, len(orders))]
        plan += [(s, t, order) for (s, t), order in zip(pairwise([levels[first], *inner, levels[last]]), orders)]
    return plan + [(s, t, 1) for s, t in pairwise(levels[last:])]


def dpm_fast(
    x: Tensor, levels: Sequence[Level], noise: Noise, *, path: Path, eta: float = 0.0, s_noise: float = 1.0
) -> Run:
    """Exactly as many evaluations as the grid has steps; the grid between its ends is not looked at.

    A last step to clean, and a first from pure noise, are kept as they are, for lam is infinite there.

    Args:
        x: state [1, ...] at levels[0].
        eta: 0 is the ODE; above, every step goes too far down and noise brings it back up, but never below the end.
        s_noise: factor of the added noise; 1 is the theory.
    """
    _, last = stretch(levels)
    end = levels[last]
    for s, t, order in fast_plan(levels, path):
        low = t
        if t.lam < end.lam:
            low = lower(path, s, t, eta)
            low = end if low.lam > end.lam else low
        x0 = (yield x, s).x0
        _, x = yield from eps_step(x, x0, s, low, path, order)
        x = lift(x, low, t, s, noise, s_noise)
    return x


ROWS = (
    Sampler(
        name="dpm_fast",
        function=dpm_fast,
        order=2,
        rule_order=3,
        paper="Lu et al. 2206.00927",
        options={"eta": 0.0, "s_noise": 1.0},
        names=Names(a1111=("DPM fast", "k_dpm_fast"), comfyui=("dpm_fast",), k_diffusion=("sample_dpm_fast",)),
    ),
    Sampler(
        name="dpm_singlestep",
        function=singlestep,
        order=2,
        rule_order=2,
        paper="Lu et al. 2211.01095",
        options={"order": 2, "rule": "midpoint"},
        names=Names(diffusers=("DPMSolverSinglestepScheduler",)),
    ),
    Sampler(
        name="dpm_solver_2",
        function=partial(dpm_solver, order=2),
        order=2,
        rule_order=2,
        paper="Lu et al. 2206.00927",
        evaluations=partial(stages, 2),
    ),
    Sampler(
        name="dpm_solver_3",
        function=partial(dpm_solver, order=3),
        order=3,
        rule_order=3,
        paper="Lu et al. 2206.00927",
        evaluations=partial(stages, 3),
    ),
)
"""The rows of this family."""
