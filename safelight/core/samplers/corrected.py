"""Predictor-corrector methods: exponential Adams, whose every step is taken again once its end has been seen.

What the network says at the end of a step joins the predictions behind it, and the step is redone from where it
started, with the same noise. "pec" goes on with that answer; "pece" asks again at the corrected state.

Sources: UniPC 2302.04867 (its B(h) cancels wherever its linear system is solved, and only changes orders 1 and 2);
SA-Solver 2309.05019 eq. 14 and 17, with eta = tau^2.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from safelight.core.samplers.adams import bh1, midpoint, rule_named
from safelight.core.samplers.row import Names, Sampler
from safelight.core.steps import Rule, blend, move, weights
from safelight.errors import UnknownNameError

if TYPE_CHECKING:
    from torch import Tensor

    from safelight.core.path import Level, Path
    from safelight.core.run import Noise, Run

RULES: dict[str, Rule] = {"exact": weights, "bh1": bh1, "bh2": midpoint}
"""How two predictions are weighed; more are always weighed exactly."""
MODES = ("pec", "pece")
WINDOWS = ("whole", "starts", "ends")
"""Where noise is added: everywhere, or in the steps that start (or end) in the middle 60 % of the training table."""


@dataclass(frozen=True)
class _Plan:
    """What the methods of this file differ in.

    Attributes:
        order: predictions behind a step that predict it.
        nodes: predictions that correct it, its own end included.
        eta: (s, t) -> rate of the reverse SDE in that step.
        rule: how predictions are weighed.
        again: whether the network is asked again at the corrected state.
        lower: whether the last steps are of falling order, the last of all Euler's.
    """

    order: int
    nodes: int
    eta: Callable[[Level, Level], float]
    rule: Rule = weights
    again: bool = False
    lower: bool = False


class _Taken(NamedTuple):
    """A step that may be taken again."""

    x: Tensor
    s: Level
    t: Level
    eta: float
    z: Tensor | None
    nodes: int

    def again(self, past: Sequence[tuple[float, Tensor]], x0: Tensor, rule: Rule) -> Tensor:
        """The state at t, now that x0 is known there; past begins with the prediction at s."""
        known = [past[0], (self.t.lam, x0), *past[1:]][: self.nodes]
        mixed = blend(known, self.s.lam, self.t.lam, 1.0 + self.eta, rule)
        return move(self.x, mixed, self.s, self.t, self.eta, self.z)


def _run(x: Tensor, levels: Sequence[Level], noise: Noise, plan: _Plan) -> Run:
    past: list[tuple[float, Tensor]] = []
    taken: _Taken | None = None
    for i, (s, t) in enumerate(pairwise(levels)):
        x0 = (yield x, s).x0
        if taken is not None:
            x = taken.again(past, x0, plan.rule)
            if plan.again:
                x0 = (yield x, s).x0
        past = [(s.lam, x0), *past[: max(plan.order, plan.nodes - 1) - 1]]
        order = min(plan.order, len(levels) - 1 - i) if plan.lower else plan.order
        eta = plan.eta(s, t)
        z = noise(s, t) if eta and t.sigma else None
        # A step from pure noise, or to the clean end, is infinitely long: nothing at its other end could correct it.
        nodes = min(plan.nodes, order + 1) if plan.lower else plan.nodes
        taken = _Taken(x, s, t, eta, z, nodes) if math.isfinite(t.lam - s.lam) else None
        x = move(x, blend(past[:order], s.lam, t.lam, 1.0 + eta, plan.rule), s, t, eta, z)
    return x


def _windowed(path: Path, eta: float, window: str) -> Callable[[Level, Level], float]:
    """eta in the steps of that window, 0 in others.

    Raises:
        UnknownNameError: no such window.
    """
    if window not in WINDOWS:
        raise UnknownNameError("window", window, WINDOWS)
    if window == "whole" or not eta:
        return lambda s, t: eta
    rows = path.steps - (window == "ends")
    low, high = path.trained(0.8 * rows).lam - 1e-6, path.trained(0.2 * rows).lam + 1e-6
    return lambda s, t: eta if low <= (s if window == "starts" else t).lam <= high else 0.0


def corrected(
    x: Tensor,
    levels: Sequence[Level],
    noise: Noise,
    *,
    path: Path,
    order: int = 3,
    eta: float = 0.0,
    window: str = "whole",
    mode: str = "pec",
) -> Run:
    """Exponential Adams of some order, corrected with one prediction more; SA-Solver where noise is added.

    Args:
        x: state [1, ...] at levels[0].
        order: of the predictor, 1 to 4; the corrector's is one higher.
        eta: rate of the reverse SDE (the paper's tau^2); 0 is the ODE.
        window: a name of ``WINDOWS``.
        mode: "pec", one evaluation per step, or "pece", two in all steps but the first.

    Raises:
        UnknownNameError: no such window or mode.
    """
    if mode not in MODES:
        raise UnknownNameError("mode", mode, MODES)
    plan = _Plan(order, order + 1, _windowed(path, eta, window), again=mode == "pece")
    return (yield from _run(x, levels, noise, plan))


def pece_evaluations(levels: Sequence[Level], path: Path) -> int:
    """Evaluations in mode "pece": 2 n - 1, less one if the first step starts at pure noise."""
    return len(levels) - 1 + sum(math.isfinite(t.lam - s.lam) for s, t in pairwise(levels[:-1]))


def unipc(x: Tensor, levels: Sequence[Level], noise: Noise, *, path: Path, order: int = 3, rule: str = "bh1") -> Run:
    """UniPC: as ``corrected``, with simpler weights where only two predictions are known, and lower orders at the end.

    Args:
        x: state [1, ...] at levels[0].
        order: of the predictor, 1 to 4; the corrector's is one higher.
        rule: "bh1" or "bh2", the paper's two choices of B(h), or "exact".

    Raises:
        UnknownNameError: no such rule.
    """
    plan = _Plan(order, order + 1, lambda s, t: 0.0, rule_named(rule, RULES), lower=True)
    return (yield from _run(x, levels, noise, plan))


def sa_two(
    x: Tensor, levels: Sequence[Level], noise: Noise, *, path: Path, eta: float = 1.0, window: str = "starts"
) -> Run:
    """SA-Solver as diffusers runs it: two predictions to predict, two to correct, weighed as in bh1.

    Args:
        x: state [1, ...] at levels[0].
        eta: rate of the reverse SDE (tau^2); 0 is the ODE.
        window: a name of ``WINDOWS``.

    Raises:
        UnknownNameError: no such window.
    """
    return (yield from _run(x, levels, noise, _Plan(2, 2, _windowed(path, eta, window), bh1, lower=True)))


def _unipc(name: str, order: int, rule: str, names: Names) -> Sampler:
    return Sampler(
        name=name,
        function=unipc,
        order=2,
        rule_order=order + 1,
        paper="Zhao et al. 2302.04867",
        options={"order": order, "rule": rule},
        names=names,
    )


ROWS = (
    Sampler(
        name="adams2_corrected",
        function=corrected,
        order=3,
        rule_order=3,
        paper="Xue et al. 2309.05019 with tau = 0",
        options={"order": 2, "eta": 0.0, "window": "whole", "mode": "pec"},
        noise="path",
    ),
    Sampler(
        name="adams3_corrected",
        function=corrected,
        order=3,
        rule_order=4,
        paper="Xue et al. 2309.05019 with tau = 0",
        options={"order": 3, "eta": 0.0, "window": "whole", "mode": "pec"},
        noise="path",
    ),
    Sampler(
        name="sa_solver",
        function=corrected,
        order=2,
        rule_order=4,
        paper="Xue et al. 2309.05019",
        options={"order": 3, "eta": 1.0, "window": "ends", "mode": "pec"},
        stochastic=True,
        noise="path",
        names=Names(comfyui=("sa_solver",)),
    ),
    Sampler(
        name="sa_solver_pece",
        function=corrected,
        order=2,
        rule_order=4,
        paper="Xue et al. 2309.05019",
        options={"order": 3, "eta": 1.0, "window": "ends", "mode": "pece"},
        stochastic=True,
        evaluations=pece_evaluations,
        noise="path",
        names=Names(comfyui=("sa_solver_pece",)),
    ),
    Sampler(
        name="sa_solver_p2c2",
        function=sa_two,
        order=2,
        rule_order=2,
        paper="Xue et al. 2309.05019",
        options={"eta": 1.0, "window": "starts"},
        stochastic=True,
        noise="path",
        names=Names(diffusers=("SASolverScheduler",)),
    ),
    _unipc("unipc", 3, "bh1", Names(a1111=("UniPC",), comfyui=("uni_pc",))),
    _unipc("unipc_bh2", 3, "bh2", Names(comfyui=("uni_pc_bh2",))),
    _unipc("unipc2_bh2", 2, "bh2", Names(diffusers=("UniPCMultistepScheduler",))),
)
"""The rows of this family."""
