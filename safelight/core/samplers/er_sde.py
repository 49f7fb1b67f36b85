"""ER-SDE: solvers of an extended reverse SDE, whose noise is set by a free function of sigma / alpha (2309.06169).

With u = sigma / alpha and phi(u) = u g(u)^eta the exact solution is, from u_s down to u_t,

    y_t = r y_s + (1 - r) x0 + phi(u_t) (integrals of the rest of x0 over du / phi) + noise,    r = phi(u_t) / phi(u_s)

of which the terms up to the second derivative of x0 in u are kept; g = 1 (eta = 0) is the ODE. The integrals are taken
by Gauss's rule in log u (the authors sum 200 rectangles, which is what stops them at small steps).

Source: Cui et al. 2309.06169, algorithms 1 to 3; g is their choice "ER-SDE 5", e^(u^0.3) + 10.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from safelight.core.samplers.row import Names, Sampler
from safelight.core.steps import average
from safelight.errors import RequestError

if TYPE_CHECKING:
    from torch import Tensor

    from safelight.core.path import Level, Path
    from safelight.core.run import Noise, Run


def er_sde(
    x: Tensor,
    levels: Sequence[Level],
    noise: Noise,
    *,
    path: Path,
    order: int = 3,
    eta: float = 1.0,
    s_noise: float = 1.0,
) -> Run:
    """One evaluation per step; a step to the clean end, or near pure noise, uses fewer predictions.

    Args:
        x: state [1, ...] at levels[0].
        order: predictions used, 1 to 3. The third adds a term of the paper that does not raise the order: its slope is
            that of the middle of the last step, not of its end.
        eta: power of the noise function; 0 is the ODE, 1 the paper's.
        s_noise: factor of the added noise; 1 is the theory.

    Raises:
        RequestError: order is above 3.
    """
    if order > 3:
        raise RequestError(f"option order of er_sde is 1, 2 or 3, not {order:g}")
    past: list[tuple[float, Tensor, Tensor | None]] = []  # (u, prediction, its slope since the one before)
    for s, t in pairwise(levels):
        x0 = (yield x, s).x0
        u = s.sigma / s.alpha if s.alpha else math.inf
        slope = (x0 - past[0][1]) / (u - past[0][0]) if past and math.isfinite(past[0][0]) else None
        keep = (_g(t) / _g(s)) ** eta if s.alpha else 0.0
        r = keep * t.sigma * s.alpha / (t.alpha * s.sigma)
        y = (t.sigma / s.sigma * keep) * x + (t.alpha * (1.0 - r)) * x0
        if t.sigma and slope is not None and order > 1:
            first, second = _integrals(s, t, eta)
            y = y + (t.alpha * first) * slope
            if past[0][2] is not None and order > 2:
                y = y + (t.alpha * second) * ((slope - past[0][2]) / ((u - past[1][0]) / 2.0))
        if eta and t.sigma:
            y = y + (t.sigma * math.sqrt(max(1.0 - keep * keep, 0.0)) * s_noise) * noise(s, t)
        past = [(u, x0, slope), *past[:1]]
        x = y
    return x


def _g(level: Level) -> float:
    return math.exp(min((level.sigma / level.alpha) ** 0.3, 700.0)) + 10.0


def _integrals(s: Level, t: Level, eta: float) -> tuple[float, float]:
    """What the first and the second derivative of x0 at s are multiplied with."""
    start, end = s.sigma / s.alpha, t.sigma / t.alpha
    scale = end * _g(t) ** eta * (t.lam - s.lam)

    def integrand(lam: float) -> tuple[float, float]:
        u = math.exp(-lam)
        thin = (math.exp(min(u**0.3, 700.0)) + 10.0) ** -eta
        return thin, (u - start) * thin

    first, second = average(integrand, s.lam, t.lam)
    return end - start + scale * first, (end - start) ** 2 / 2.0 + scale * second


def _row(order: int, orders: tuple[int, int], names: Names) -> Sampler:
    return Sampler(
        name=f"er_sde{order}",
        function=er_sde,
        order=orders[0],
        rule_order=orders[1],
        paper="Cui et al. 2309.06169",
        options={"order": order, "eta": 1.0, "s_noise": 1.0},
        stochastic=True,
        noise="path",
        names=names,
    )


ROWS = (
    _row(1, (1, 1), Names()),
    _row(2, (2, 2), Names()),
    _row(3, (2, 2), Names(comfyui=("er_sde",), sd_cpp=("er_sde",))),
)
"""The rows of this family."""
