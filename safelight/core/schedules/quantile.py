"""The beta distribution in plain Python: its distribution function and the inverse of that, to about 1e-12.

``a`` and ``b`` are its two exponents plus one; x and u lie in [0, 1]. Source: DLMF 8.17.22, the continued fraction of
the regularised incomplete beta function, evaluated by Lentz's method.
"""

from __future__ import annotations

import math
from functools import lru_cache

_TINY = 1e-300


def _log_complete(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


def below(x: float, a: float, b: float) -> float:
    """The share of the beta distribution that lies below x: I_x(a, b).

    Args:
        x: 0 (gives 0) to 1 (gives 1).
        a, b: > 0.
    """
    if x <= 0.0 or x >= 1.0:
        return 0.0 if x <= 0.0 else 1.0
    if x > (a + 1.0) / (a + b + 2.0):  # the fraction converges fast on the other side
        return 1.0 - below(1.0 - x, b, a)
    front = math.exp(a * math.log(x) + b * math.log1p(-x) - _log_complete(a, b)) / a
    value, c, d = 1.0, 1.0, 0.0
    for i in range(400):
        m = i // 2
        if i == 0:
            term = 1.0
        elif i % 2 == 0:
            term = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        else:
            term = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        d = 1.0 / _away(1.0 + term * d)
        c = _away(1.0 + term / c)
        change = c * d
        value *= change
        if i and abs(change - 1.0) < 1e-15:
            break
    return front * (value - 1.0)


def _away(value: float) -> float:
    """Lentz's rule: never divide by nothing."""
    return value if abs(value) > _TINY else _TINY


@lru_cache(maxsize=100_000)
def quantile(u: float, a: float, b: float) -> float:
    """Where the share u of the beta distribution lies below: the inverse of ``below``.

    Args:
        u: 0 (gives 0) to 1 (gives 1).
        a, b: > 0.
    """
    if u <= 0.0 or u >= 1.0:
        return 0.0 if u <= 0.0 else 1.0
    if u > below(0.5, a, b):
        return 1.0 - _lower(1.0 - u, b, a)
    return _lower(u, a, b)


def _lower(u: float, a: float, b: float) -> float:
    """The quantile where it is 0.5 or less: Newton's steps, kept between bounds that close in."""
    low, high = 0.0, 0.5
    x = min(math.exp((math.log(u * a) + _log_complete(a, b)) / a), high)  # exact as u goes to 0
    for _ in range(200):
        wrong = below(x, a, b) - u
        low, high = (low, x) if wrong > 0 else (x, high)
        if x <= 0.0:
            return 0.0
        slope = math.exp((a - 1.0) * math.log(x) + (b - 1.0) * math.log1p(-x) - _log_complete(a, b))
        step = x - wrong / slope if slope > 0.0 else math.nan
        if abs(step - x) <= 4e-16 * x:
            return step
        x = step if low < step < high else (low + high) / 2
    return x
