"""DPM adaptive: steps as long as their error allows, judged by two methods that share their looks.

Each step is taken by DPM-Solver of two orders; their difference, measured pixel by pixel against a tolerance, decides
whether the step stands and how long the next is. Only the ends of the grid are used. The tolerance is that of
x / alpha, the state of a variance-exploding path, whatever the path.

Source: Lu et al. 2206.00927, appendix C; k-diffusion's ``sample_dpm_adaptive`` (there the error is one number for the
whole batch, here every picture has its own steps, and a step that is tried again does not ask again at its start).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from safelight.core.samplers.ancestral import lift, lower
from safelight.core.samplers.dpm_solver import stretch
from safelight.core.samplers.row import Names, Sampler
from safelight.core.samplers.stages import eps_step, euler_step
from safelight.errors import PredictionError, RequestError

if TYPE_CHECKING:
    from torch import Tensor

    from safelight.core.path import Level, Path
    from safelight.core.run import Noise, Run

FIRST, SHORTEST, NEAR = 0.05, 1e-6, 1e-5
"""In lam: the first step that is tried, the shortest that makes sense, and what is left to the end for nothing."""
SAFETY = 0.81
"""A step stands unless the next should be shorter than this part of it."""


def dpm_adaptive(
    x: Tensor,
    levels: Sequence[Level],
    noise: Noise,
    *,
    path: Path,
    rtol: float = 0.05,
    atol: float = 0.0078,
    order: int = 3,
    eta: float = 0.0,
) -> Run:
    """As many evaluations as it takes, and one for a first step from pure noise and for a last step to clean.

    It reads its error from the device after every try, which no other sampler does.

    Args:
        x: state [1, ...] at levels[0].
        rtol, atol: what a step may be wrong by, as a part of a pixel and in itself; smaller is closer and slower.
        order: 2 (judged by order 1) or 3 (judged by 2).
        eta: 0 is the ODE; above, every step goes too far down and noise brings it back up, but never below the end.

    Raises:
        RequestError: another order, or a tolerance that the number format cannot meet. PredictionError: the network
            answered with something that is not a number.
    """
    if order not in (2, 3):
        raise RequestError(f"option order of dpm_adaptive is 2 or 3, not {order:g}")
    first, last = stretch(levels)
    for s, t in pairwise(levels[: first + 1]):
        x = yield from euler_step(x, s, t, path)
    s, end, h = levels[first], levels[last], FIRST
    before, x0 = x / s.alpha if s.alpha else x, None
    while s.lam < end.lam:
        t = path.at(s.lam + h) if end.lam - s.lam > h + NEAR else end
        low = t
        if t.lam < end.lam:
            low = lower(path, s, t, eta)
            low = end if low.lam > end.lam else low
        if x0 is None:
            x0 = (yield x, s).x0
        rough, fine = yield from eps_step(x, x0, s, low, path, order)
        rough, scaled = rough / low.alpha, fine / low.alpha
        allowed = (rtol * rough.abs().maximum(before.abs())).clamp_min(atol)
        factor = _factor(((rough - scaled) / allowed).square().mean().sqrt().item(), 1.5 if eta else order)
        if factor >= SAFETY:
            x, before, x0 = lift(fine, low, t, s, noise, 1.0), rough, None
            s = t
        h *= factor
        if h < SHORTEST:
            raise RequestError(
                f"dpm_adaptive cannot keep to rtol {rtol:g} and atol {atol:g} in {str(x.dtype)[6:]}; raise them"
            )
    for s, t in pairwise(levels[last:]):
        x = yield from euler_step(x, s, t, path)
    return x


def _factor(error: float, order: float) -> float:
    """How much longer the next step should be: the error falls as h^order; limited to 0.2 and 2.6 times."""
    if not math.isfinite(error):
        raise PredictionError("the picture became infinite or not a number; try --dtype float32 or less guidance")
    return 1.0 + math.atan((1.0 / (error + 1e-8)) ** (1.0 / order) - 1.0)


def unknown(levels: Sequence[Level], path: Path) -> int | None:
    """The run itself finds out, unless there is nothing between the ends."""
    first, last = stretch(levels)
    return None if levels[first].lam < levels[last].lam else len(levels) - 1


ROWS = (
    Sampler(
        name="dpm_adaptive",
        function=dpm_adaptive,
        order=3,
        rule_order=3,
        paper="Lu et al. 2206.00927",
        options={"rtol": 0.05, "atol": 0.0078, "order": 3, "eta": 0.0},
        evaluations=unknown,
        names=Names(
            a1111=("DPM adaptive", "k_dpm_ad"), comfyui=("dpm_adaptive",), k_diffusion=("sample_dpm_adaptive",)
        ),
    ),
)
"""The rows of this family."""
