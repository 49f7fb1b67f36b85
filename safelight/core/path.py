"""Gaussian noise paths x = alpha x0 + sigma eps, and the levels on them, as plain Python floats.

Letters (as in the papers, here and in all of ``core``): ``x`` a noisy state, ``x0`` the clean data, ``eps`` unit
noise, ``alpha`` and ``sigma`` how much of each is in x, ``lam`` = log(alpha / sigma) half the log signal-to-noise,
``t`` the number by which a network calls a level, ``k`` a position in a training table (0 = cleanest).

Sources: VP, Ho et al. 2006.11239; cosine, Nichol & Dhariwal 2102.09672 eq. 17; zero terminal SNR, Lin et al.
2305.08891 algorithm 1; VE and EDM, Karras et al. 2206.00364; flow, Liu et al. 2209.03003; its shift, Esser et al.
2403.03206 eq. 23.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple, Protocol

from safelight.errors import RequestError


class Level(NamedTuple):
    """A place on a noise path.

    Attributes:
        alpha: how much of the data is left, 0 (pure noise) to 1.
        sigma: standard deviation of the noise, 0 (clean) upwards.
        t: what the network calls this level; may be fractional.
    """

    alpha: float
    sigma: float
    t: float = 0.0

    @property
    def lam(self) -> float:
        """log(alpha / sigma): -inf where nothing of the data is left, +inf where nothing of the noise is."""
        if self.sigma == 0.0:
            return math.inf
        return -math.inf if self.alpha == 0.0 else math.log(self.alpha / self.sigma)


CLEAN = Level(1.0, 0.0, 0.0)
"""The clean end of every path. No network is ever asked there."""


class Path(Protocol):
    """What samplers and schedules ask of a path. ``steps`` is the length of the training table."""

    @property
    def steps(self) -> int: ...

    @property
    def ends(self) -> tuple[Level, Level]:
        """The noisiest and the cleanest level seen in training."""

    def level(self, t: float) -> Level:
        """The level that the network calls ``t``."""

    def trained(self, k: float) -> Level:
        """Row k of the training table, 0 (cleanest) to steps - 1 (noisiest); fractional k between rows."""

    def at(self, lam: float) -> Level:
        """The level with log(alpha / sigma) = lam, -inf to inf. Outside the table t stops at the table's end."""

    def clock(self, level: Level) -> float:
        """The time in which the path's ODE is dy/dclock = (y - x0) / clock: sigma/alpha, or sigma/(alpha + sigma)."""

    def at_clock(self, clock: float) -> Level:
        """The level at a reading of the clock."""


def _preserving(lam: float) -> tuple[float, float]:
    """alpha and sigma with alpha^2 + sigma^2 = 1; no overflow for any lam."""
    e = math.exp(-abs(lam))
    large = 1.0 / math.sqrt(1.0 + e * e)
    return (large, e * large) if lam > 0 else (e * large, large)


def _clock_to_lam(clock: float) -> float:
    return math.inf if clock == 0.0 else -math.log(clock)


@dataclass(frozen=True)
class VP:
    """A variance-preserving path (alpha^2 + sigma^2 = 1) given by its training table.

    Args:
        alphas_cumprod: alpha^2 of each training step, strictly falling, in (0, 1); the last may be 0 (zero terminal
            SNR).
        name: how the table was made, for recipes and errors.

    Raises:
        RequestError: the table has fewer than two rows, or does not fall within [0, 1).
    """

    alphas_cumprod: tuple[float, ...] = field(repr=False)
    name: str = "vp"

    def __post_init__(self) -> None:
        table = self.alphas_cumprod
        falls = all(a > b for a, b in pairwise(table))
        if len(table) < 2 or not falls or table[0] >= 1.0 or table[-1] < 0.0:
            raise RequestError(
                f"path {self.name!r}: alphas_cumprod must fall from below 1 to 0 or above, two rows or more"
            )

    @property
    def steps(self) -> int:
        """Rows of the training table."""
        return len(self.alphas_cumprod)

    @property
    def ends(self) -> tuple[Level, Level]:
        """Noisiest and cleanest level seen in training."""
        return self.level(self.steps - 1), self.level(0)

    @cached_property
    def _negative_lams(self) -> list[float]:
        return [-self._row(k).lam for k in range(self.steps)]

    def _row(self, k: int) -> Level:
        square = self.alphas_cumprod[k]
        return Level(math.sqrt(square), math.sqrt(1.0 - square), float(k))

    def level(self, t: float) -> Level:
        """The level called t, 0 to steps - 1. Between rows log(sigma / alpha) is linear in t (k-diffusion's rule)."""
        if not 0 <= t <= self.steps - 1:
            raise RequestError(f"timestep {t} is outside 0..{self.steps - 1} of path {self.name!r}")
        k = int(t)
        if k == t:
            return self._row(k)
        below, above, part = self._row(k), self._row(k + 1), t - k
        if above.alpha == 0.0:  # log(sigma / alpha) is infinite there: the angle on the unit circle is linear instead
            angle = _angle(below) + part * (math.pi / 2 - _angle(below))
            return Level(math.cos(angle), math.sin(angle), t)
        alpha, sigma = _preserving(below.lam + part * (above.lam - below.lam))
        return Level(alpha, sigma, t)

    trained = level

    def at(self, lam: float) -> Level:
        """The level with log(alpha / sigma) = lam; t is interpolated as in ``level`` and stops at the table's ends."""
        alpha, sigma = _preserving(lam)
        table, wanted = self._negative_lams, -lam
        if wanted <= table[0] or wanted >= table[-1]:
            return Level(alpha, sigma, 0.0 if wanted <= table[0] else float(self.steps - 1))
        k = bisect_right(table, wanted) - 1
        if math.isinf(table[k + 1]):
            start = _angle(self._row(k))
            return Level(alpha, sigma, k + (math.atan2(sigma, alpha) - start) / (math.pi / 2 - start))
        return Level(alpha, sigma, k + (wanted - table[k]) / (table[k + 1] - table[k]))

    def clock(self, level: Level) -> float:
        """sigma / alpha; inf where alpha is 0."""
        return level.sigma / level.alpha if level.alpha else math.inf

    def at_clock(self, clock: float) -> Level:
        """The level with sigma / alpha = clock."""
        return self.at(_clock_to_lam(clock))


def _angle(level: Level) -> float:
    return math.atan2(level.sigma, level.alpha)


@dataclass(frozen=True)
class VE:
    """A variance-exploding path (alpha = 1), labelled by sigma itself.

    Args:
        sigma_min, sigma_max: the cleanest and noisiest level seen in training.
        steps: length of the training table, log-uniform in sigma.
    """

    sigma_min: float = 0.01
    sigma_max: float = 50.0
    steps: int = 1000

    def __post_init__(self) -> None:
        if not 0.0 < self.sigma_min < self.sigma_max < math.inf:
            raise RequestError(f"a path needs 0 < sigma_min < sigma_max, not {self.sigma_min} and {self.sigma_max}")

    @property
    def ends(self) -> tuple[Level, Level]:
        """Noisiest and cleanest level seen in training."""
        return self._level(self.sigma_max), self._level(self.sigma_min)

    def _label(self, sigma: float) -> float:
        return sigma

    def _level(self, sigma: float) -> Level:
        return Level(1.0, sigma, self._label(sigma))

    def level(self, t: float) -> Level:
        """The level called t: sigma = t."""
        return self._level(t)

    def trained(self, k: float) -> Level:
        """Row k of a table that is uniform in log sigma, 0 (sigma_min) to steps - 1 (sigma_max)."""
        low, high = math.log(self.sigma_min), math.log(self.sigma_max)
        return self._level(math.exp(low + (high - low) * k / (self.steps - 1)))

    def at(self, lam: float) -> Level:
        """The level with log(alpha / sigma) = lam: sigma = exp(-lam)."""
        return self._level(math.exp(-lam))

    def clock(self, level: Level) -> float:
        """sigma."""
        return level.sigma

    def at_clock(self, clock: float) -> Level:
        """The level with sigma = clock."""
        return self._level(clock)


@dataclass(frozen=True)
class EDM(VE):
    """Karras et al.'s path: VE labelled by c_noise = log(sigma) / 4 (2206.00364, table 1)."""

    sigma_min: float = 0.002
    sigma_max: float = 80.0

    def _label(self, sigma: float) -> float:
        return 0.25 * math.log(sigma) if sigma > 0.0 else 0.0

    def level(self, t: float) -> Level:
        """The level called t: sigma = exp(4 t), -100 to 100."""
        if not abs(t) <= 100.0:
            raise RequestError(f"timestep {t} is outside -100..100 of the EDM path, where it is log(sigma) / 4")
        return Level(1.0, math.exp(4.0 * t), t)


@dataclass(frozen=True)
class Flow:
    """The straight path of rectified flow: alpha = 1 - sigma, labelled t = scale * sigma.

    Args:
        shift: > 0; moves the training table by -log(shift) in lam. 1 leaves it uniform in sigma; 3 is SD3's.
        steps: rows of the training table; row k has u = (k + 1) / steps, sigma = shift u / (1 + (shift - 1) u).
        scale: what the network calls sigma = 1.
    """

    shift: float = 1.0
    steps: int = 1000
    scale: float = 1000.0

    def __post_init__(self) -> None:
        if not 0.0 < self.shift < math.inf:
            raise RequestError(f"the shift of a flow path is a positive number, not {self.shift}")

    @property
    def ends(self) -> tuple[Level, Level]:
        """Noisiest (pure noise) and cleanest level seen in training."""
        return self.trained(self.steps - 1), self.trained(0)

    def level(self, t: float) -> Level:
        """The level called t, 0 (clean) to scale (pure noise)."""
        if not 0 <= t <= self.scale:
            raise RequestError(f"timestep {t} is outside 0..{self.scale} of the flow path")
        return Level(1.0 - t / self.scale, t / self.scale, float(t))

    def trained(self, k: float) -> Level:
        """Row k of the training table, 0 (cleanest) to steps - 1 (pure noise)."""
        u = (k + 1) / self.steps
        return self.at_clock(self.shift * u / (self.shift * u + (1.0 - u)))  # exactly 1 at the noisy end

    def at(self, lam: float) -> Level:
        """The level with log(alpha / sigma) = lam."""
        e = math.exp(-abs(lam))
        small, large = e / (1.0 + e), 1.0 / (1.0 + e)
        alpha, sigma = (large, small) if lam > 0 else (small, large)
        return Level(alpha, sigma, self.scale * sigma)

    def clock(self, level: Level) -> float:
        """sigma / (alpha + sigma); 1 at pure noise."""
        return level.sigma / (level.alpha + level.sigma)

    def at_clock(self, clock: float) -> Level:
        """The level with sigma = clock."""
        return Level(1.0 - clock, clock, self.scale * clock)


def vp_from_betas(betas: Iterable[float], name: str = "vp") -> VP:
    """The path of a table of forward variances: alpha^2 at step k is the product of (1 - beta) up to k."""
    kept, table = 1.0, []
    for beta in betas:
        kept *= 1.0 - beta
        table.append(kept)
    return VP(tuple(table), name)


def _linear(start: float, end: float, steps: int) -> list[float]:
    return [start + (end - start) * i / (steps - 1) for i in range(steps)]


def vp_linear(beta_start: float = 1e-4, beta_end: float = 0.02, steps: int = 1000) -> VP:
    """DDPM's table: betas linear from beta_start to beta_end."""
    return vp_from_betas(_linear(beta_start, beta_end, steps), "linear")


def vp_scaled_linear(beta_start: float = 0.00085, beta_end: float = 0.012, steps: int = 1000) -> VP:
    """Stable Diffusion's table: square roots of the betas linear."""
    roots = _linear(math.sqrt(beta_start), math.sqrt(beta_end), steps)
    return vp_from_betas((root * root for root in roots), "scaled_linear")


def vp_cosine(steps: int = 1000, max_beta: float = 0.999) -> VP:
    """Nichol & Dhariwal's cosine table with offset 0.008; betas cut at max_beta."""

    def kept(u: float) -> float:
        return math.cos((u + 0.008) / 1.008 * math.pi / 2) ** 2

    betas = (min(1.0 - kept((k + 1) / steps) / kept(k / steps), max_beta) for k in range(steps))
    return vp_from_betas(betas, "cosine")


def zero_terminal_snr(path: VP) -> VP:
    """The table with alpha moved and stretched so that its noisiest row is pure noise (2305.08891, algorithm 1)."""
    roots = [math.sqrt(square) for square in path.alphas_cumprod]
    first, last = roots[0], roots[-1]
    table = tuple(((root - last) * first / (first - last)) ** 2 for root in roots)
    return VP(table, f"{path.name}, zero terminal SNR")
