"""The two primitives, ``move`` and ``renoise``, and the weight rule ``blend``: all samplers are made of them.

With q = e^-h = sigma_t alpha_s / (alpha_t sigma_s) every formula is finite at alpha_s = 0 (pure noise) and sigma_t = 0
(clean); coefficients are Python floats, so the state keeps the dtype and device it came with.

Sources: DDIM 2010.02502 eq. 12; DPM-Solver++ 2211.01095 eq. 9 and its SDE form, appendix A; exponential Adams weights
as in SA-Solver 2309.05019 eq. 14.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from safelight.core.path import Level

# Nodes in (0, 1) and weights of the 24-point Gauss-Legendre rule; the other half is its mirror image.
_GAUSS = (
    (0.06405689286260563, 0.12793819534675202),
    (0.1911188674736163, 0.12583745634682825),
    (0.3150426796961634, 0.1216704729278033),
    (0.4337935076260451, 0.11550566805372552),
    (0.5454214713888396, 0.10744427011596556),
    (0.6480936519369755, 0.09761865210411393),
    (0.7401241915785544, 0.0861901615319532),
    (0.820001985973903, 0.07334648141108016),
    (0.8864155270044011, 0.05929858491543636),
    (0.9382745520027328, 0.04427743881741941),
    (0.9747285559713095, 0.02853138862893356),
    (0.9951872199970213, 0.01234122979998869),
)
_POINTS = [((1.0 + sign * node) / 2.0, weight / 2.0) for node, weight in _GAUSS for sign in (1.0, -1.0)]
"""The same rule on [0, 1]."""


def ratio(s: Level, t: Level) -> float:
    """q = e^-h of a step from s to a cleaner t: 0 (from pure noise, or to clean) to 1 (no step)."""
    return t.sigma * s.alpha / (t.alpha * s.sigma)


def move(x: Tensor, x0: Tensor, s: Level, t: Level, eta: float = 0.0, z: Tensor | None = None) -> Tensor:
    """The exact reverse step from s to a cleaner t while the prediction x0 stands still.

    Args:
        x: state at s; x0 and z are shaped alike.
        eta: rate of the reverse SDE; 0 is the ODE (DDIM), 1 the SDE that DDPM discretises.
        z: unit normal; needed where eta > 0 and t is not clean.

    Returns:
        The state at t. At a clean t it is x0 itself, exactly.
    """
    q = ratio(s, t)
    y = (t.sigma / s.sigma * q**eta) * x + (t.alpha * (1.0 - q ** (1.0 + eta))) * x0
    if z is None:
        return y
    return y + (t.sigma * math.sqrt(max(1.0 - q ** (2.0 * eta), 0.0))) * z


def renoise(x: Tensor, s: Level, t: Level, z: Tensor) -> Tensor:
    """The exact forward step from s up to a noisier t: keeps the signal of x, adds the missing noise.

    Args:
        x: state at s, which still holds data (s.alpha > 0); z: unit normal shaped as x.
    """
    r = t.alpha / s.alpha
    return r * x + math.sqrt(max(t.sigma**2 - (r * s.sigma) ** 2, 0.0)) * z


def average(values: Callable[[float], Sequence[float]], a: float, b: float) -> list[float]:
    """Averages over [a, b] of several smooth functions of u, which ``values`` gives at once."""
    columns = zip(*([weight * value for value in values(a + (b - a) * v)] for v, weight in _POINTS))
    return [sum(column) for column in columns]


def moments(a: float, b: float, k: float, count: int) -> list[float]:
    """Averages over [a, b] of 1, (u - a), (u - a)^2 ..., weighed by e^(k u).

    Args:
        a, b: where the step begins and ends, finite.
        k: the exponent; 1 + eta for predictions of x0 in lam, -1 for eps in lam, 0 for no weighting.
        count: how many, 1 or more.
    """
    h = b - a
    if k == 0.0:
        return [h**j / (j + 1) for j in range(count)]
    sums = [0.0] * count
    for v, weight in _POINTS:
        mass = weight * math.exp(k * h * (v - 1.0))
        for j in range(count):
            sums[j] += mass
            mass *= v
    return [h**j * value / sums[0] for j, value in enumerate(sums)]


def through(nodes: Sequence[float], known: Sequence[float]) -> list[float]:
    """What a linear rule gives to each node of the polynomial through all of them; the weights sum to known[0].

    Args:
        nodes: distinct places.
        known: what the rule makes of 1, u, u^2 ..., as many as there are nodes.
    """
    found = []
    for i, node in enumerate(nodes):
        powers = [1.0]  # of the Lagrange polynomial of this node, highest first
        for j, other in enumerate(nodes):
            if j != i:
                scale = 1.0 / (node - other)
                powers = [scale * (p - other * q) for p, q in zip([*powers, 0.0], [0.0, *powers])]
        found.append(sum(p * value for p, value in zip(reversed(powers), known)))
    return found


def weights(nodes: Sequence[float], a: float, b: float, k: float) -> list[float]:
    """Average over [a, b] against e^(k u) of the Lagrange polynomials through the nodes; they sum to 1.

    Args:
        nodes: distinct, finite places of the known values.
        a, b, k: as in ``moments``.
    """
    return through([node - a for node in nodes], moments(a, b, k, len(nodes)))


Rule = Callable[[Sequence[float], float, float, float], list[float]]
"""(places, a, b, k) -> weights that sum to 1, one per place; ``weights`` is the exact one."""


def blend(past: Sequence[tuple[float, Tensor]], a: float, b: float, k: float, rule: Rule = weights) -> Tensor:
    """The weight rule: which mix of known predictions ``move`` should take as standing still.

    Args:
        past: (place, prediction), newest first. Places are lam where k = 1 + eta.
        a, b, k: as in ``moments``. Over an infinite step only the newest prediction counts; places at -inf are left
            out.
        rule: which weights.

    Returns:
        The mix, shaped as a prediction. A constant prediction comes back unchanged; of one, that very tensor.
    """
    finite = [entry for entry in past if math.isfinite(entry[0])] if math.isfinite(b - a) else []
    if len(finite) < 2:
        return past[0][1]
    (_, first), *rest = finite
    mixed = first
    for w, (_, value) in zip(rule([u for u, _ in finite], a, b, k)[1:], rest):
        mixed = mixed + w * (value - first)
    return mixed
