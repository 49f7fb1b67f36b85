"""Grids over the path's clock c: sigma / alpha on VP and VE paths, sigma on a flow; largest first.

    karras            even in c^(1/rho)                                 2206.00364 eq. 5
    exponential       even in log c
    polyexponential   log c along a power of an even ramp               Crowson, k-diffusion
    beta_sigma        c at the quantiles of a beta distribution         diffusers' use_beta_sigmas
    kl_optimal        even in atan c                                    2404.14507, theorem 3.1
    laplace           lam at the quantiles of a Laplace distribution    2407.03297, table 1
    linear_quadratic  c falls linearly, then like a parabola            Genmo, Mochi 1

All begin and end at the path's own ends unless told otherwise; other programs take over the ends of another grid.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from safelight.core.path import CLEAN, Level, Path
from safelight.core.samplers.row import Names, Options
from safelight.core.schedules.positions import check
from safelight.core.schedules.quantile import quantile
from safelight.core.schedules.row import Schedule
from safelight.errors import RequestError

_MOST = 10_000


def karras(path: Path, n: int, rho: float = 7.0, sigma_min: float = 0.0, sigma_max: float = 0.0) -> list[Level]:
    """Even in clock^(1/rho): short steps near the clean end.

    Args:
        n: 1 to 10000.
        rho: 7 is the paper's; larger shortens the last steps; 1 is even in the clock.
        sigma_min, sigma_max: where to end before clean and where to start, on the clock; 0 for the path's ends. A path
            that starts at pure noise with an infinite clock keeps that first level, and the grid begins one row below.
    """
    return _bent(path, n, (sigma_min, sigma_max), lambda c: c ** (1.0 / rho), lambda u: u**rho)


def exponential(path: Path, n: int, sigma_min: float = 0.0, sigma_max: float = 0.0) -> list[Level]:
    """Even in log(clock); arguments as in ``karras``."""
    return _bent(path, n, (sigma_min, sigma_max), math.log, math.exp)


def kl_optimal(path: Path, n: int, sigma_min: float = 0.0, sigma_max: float = 0.0) -> list[Level]:
    """Even in atan(clock): optimal for data that are one Gaussian of variance 1; arguments as in ``karras``."""
    return _bent(path, n, (sigma_min, sigma_max), math.atan, math.tan)


def polyexponential(
    path: Path, n: int, rho: float = 1.0, sigma_min: float = 0.0, sigma_max: float = 0.0
) -> list[Level]:
    """log(clock) along ramp^rho with the ramp even from 1 to 0: 1 is ``exponential``, larger falls faster at first."""

    def clock(low: float, high: float, part: float) -> float:
        return low * math.exp((1.0 - part) ** rho * math.log(high / low))

    return _laid(path, n, (sigma_min, sigma_max), clock)


def beta_sigma(
    path: Path, n: int, a: float = 0.6, b: float = 0.6, sigma_min: float = 0.0, sigma_max: float = 0.0
) -> list[Level]:
    """The clock itself at quantiles of a beta distribution, both ends visited; ``beta`` spreads rows of the table."""

    def clock(low: float, high: float, part: float) -> float:
        return low + quantile(1.0 - part, a, b) * (high - low)

    return _laid(path, n, (sigma_min, sigma_max), clock)


def linear_quadratic(path: Path, n: int, threshold: float = 0.025, linear_steps: float = 0.0) -> list[Level]:
    """Small equal steps down to (1 - threshold) of the noisiest level, then larger and larger ones to clean.

    Args:
        n: 1 to 10000.
        threshold: share of the way that the linear steps take, between 0 and 1.
        linear_steps: how many of them, 0 for half of n.

    Raises:
        RequestError: as many linear steps as steps, or so few that the parabola would turn back.
    """
    check(n, _MOST)
    linear = int(linear_steps) or n // 2
    if linear >= max(n, 2):
        raise RequestError(f"{linear} linear steps leave none of {n} to end with; take fewer")
    rest = n - linear
    slope = threshold / linear if linear else 0.0  # the parabola goes on with the slope of the line and ends at 1
    bow = (1.0 - threshold - slope * rest) / rest**2 if linear else 0.0
    if linear and slope + 2 * bow * rest <= 0.0:
        raise RequestError(f"after {linear} linear steps of {n} the rest would turn back; take more, or less threshold")
    shares = [*(slope * i for i in range(linear)), *(slope * (linear + i) + bow * i * i for i in range(rest))]
    return _laid(path, n, (0.0, 0.0), lambda low, high, part: (1.0 - shares[round(part * (n - 1))]) * high)


def laplace(path: Path, n: int, mu: float = 0.0, beta: float = 0.5) -> list[Level]:
    """lam at the quantiles of a Laplace distribution, most steps around one level; both ends are the path's.

    Args:
        n: 1 to 10000.
        mu: where the steps crowd, as log(sigma / alpha): 0 where there is as much noise as data.
        beta: how wide they spread.

    Raises:
        RequestError: so wide that steps fall outside the path.
    """
    check(n, _MOST)
    noisiest, cleanest = path.ends
    levels = []
    for i in range(1, n - 1):
        side = 1.0 - 2.0 * i / (n - 1)  # 1 at the noisy end, -1 at the clean one
        level = path.at(beta * math.copysign(math.log1p(-abs(side)), -side) - mu)
        if not noisiest.lam < level.lam < cleanest.lam:
            raise RequestError(f"laplace with mu {mu:g} and beta {beta:g} leaves the path; lower beta or the steps")
        levels.append(level)
    return [noisiest, *levels, *([cleanest] if n > 1 else []), CLEAN]


def _bent(
    path: Path,
    n: int,
    ends: tuple[float, float],
    bend: Callable[[float], float],
    unbend: Callable[[float], float],
) -> list[Level]:
    """A grid even in bend(clock)."""

    def clock(low: float, high: float, part: float) -> float:
        return unbend(bend(high) + (bend(low) - bend(high)) * part)

    return _laid(path, n, ends, clock)


def _laid(path: Path, n: int, ends: tuple[float, float], clock: Callable[[float, float, float], float]) -> list[Level]:
    """n levels at clock(low, high, part) for parts from 0 to 1, and the clean end."""
    check(n, _MOST)
    noisiest, cleanest = path.ends
    low, high = ends[0] or path.clock(cleanest), ends[1] or path.clock(noisiest)
    infinite = math.isinf(high)
    if infinite:
        high = path.clock(path.trained(path.steps - 2))
    if not 0.0 < low <= high or (n > 1 and low == high):
        raise RequestError(f"sigma_min must lie between 0 and sigma_max, but they are {low:g} and {high:g}")
    levels = [path.at_clock(min(clock(low, high, i / (n - 1) if n > 1 else 0.0), high)) for i in range(n)]
    if infinite:
        levels[0] = noisiest
    return [*levels, CLEAN]


_ENDS: Options = {"sigma_min": 0.0, "sigma_max": 0.0}

ROWS = (
    Schedule(
        "beta_sigma",
        beta_sigma,
        "Lee et al. 2407.12173",
        {"a": 0.6, "b": 0.6, **_ENDS},
        Names(diffusers=("use_beta_sigmas=True",)),
    ),
    Schedule(
        "exponential",
        exponential,
        "Crowson, k-diffusion",
        _ENDS,
        Names(
            ("Exponential",),
            ("exponential",),
            ("use_exponential_sigmas=True",),
            ("get_sigmas_exponential",),
            ("exponential",),
        ),
    ),
    Schedule(
        "karras",
        karras,
        "Karras et al. 2206.00364",
        {"rho": 7.0, **_ENDS},
        Names(("Karras",), ("karras",), ("use_karras_sigmas=True",), ("get_sigmas_karras",), ("karras",)),
    ),
    Schedule(
        "kl_optimal",
        kl_optimal,
        "Sabour et al. 2404.14507",
        _ENDS,
        Names(("KL Optimal",), ("kl_optimal",), sd_cpp=("kl_optimal",)),
    ),
    Schedule("laplace", laplace, "Hang et al. 2407.03297", {"mu": 0.0, "beta": 0.5}, Names(comfyui=("laplace",))),
    Schedule(
        "linear_quadratic",
        linear_quadratic,
        "Genmo, Mochi 1",
        {"threshold": 0.025, "linear_steps": 0},
        Names(comfyui=("linear_quadratic",)),
    ),
    Schedule(
        "polyexponential",
        polyexponential,
        "Crowson, k-diffusion",
        {"rho": 1.0, **_ENDS},
        Names(("Polyexponential",), ("polyexponential",), k_diffusion=("get_sigmas_polyexponential",)),
    ),
)
"""The rows of this family."""
