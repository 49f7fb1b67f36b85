"""The noise path of Stable Cascade: a cosine in a continuous time, 0 (clean) to 1 (noise), that never gets to its ends.

Source: Nichol & Dhariwal 2102.09672, equation 17; the released ``scheduler_config.json`` of DDPMWuerstchenScheduler.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from safelight.core.path import Level
from safelight.errors import ConfigError, RequestError

CUT = (1e-4, 0.9999)
"""From where to where alpha^2 goes."""
ROWS = 1000
"""Rows of a table for schedules that ask for one; the network was trained on all times between."""


@dataclass(frozen=True)
class Ratio:
    """alpha^2 = cos^2(pi / 2 (t + s) / (1 + s)) by its value at t = 0, cut to CUT; t is bent by ``scaler`` first.

    Args:
        s: above 0; how far from its flat top the cosine begins.
        scaler: above 0; 1 leaves t as it is, more draws out the noisy end: 1 - (1 - t)^scaler, less: t^scaler.

    Raises:
        RequestError: numbers out of range.
    """

    s: float = 0.008
    scaler: float = 1.0

    def __post_init__(self) -> None:
        if not 0.0 < self.s < 1.0 or not 0.01 <= self.scaler <= 100.0:
            raise RequestError(f"no path of noise has s = {self.s:g} and scaler = {self.scaler:g}")

    @property
    def steps(self) -> int:
        """Rows of the table."""
        return ROWS

    @property
    def ends(self) -> tuple[Level, Level]:
        """The noisiest and the cleanest level."""
        return self.level(1.0), self.level(0.0)

    def level(self, t: float) -> Level:
        """The level called t, 0 to 1."""
        if not 0.0 <= t <= 1.0:
            raise RequestError(f"time {t} is outside 0..1 of this path")
        bent = 1.0 - (1.0 - t) ** self.scaler if self.scaler > 1.0 else t**self.scaler
        square = math.cos((bent + self.s) / (1.0 + self.s) * math.pi / 2) ** 2 / self._top
        square = min(max(square, CUT[0]), CUT[1])
        return Level(math.sqrt(square), math.sqrt(1.0 - square), float(t))

    def trained(self, k: float) -> Level:
        """Row k of a table that is even in t, 0 (cleanest) to steps - 1 (noisiest)."""
        return self.level(k / (ROWS - 1))

    def at(self, lam: float) -> Level:
        """The level with log(alpha / sigma) = lam; t stops where the cosine is cut."""
        e = math.exp(-abs(lam))
        large = 1.0 / math.sqrt(1.0 + e * e)
        alpha, sigma = (large, e * large) if lam > 0 else (e * large, large)
        square = min(max(alpha * alpha, CUT[0]), CUT[1])
        bent = math.acos(min(math.sqrt(square * self._top), 1.0)) / (math.pi / 2) * (1.0 + self.s) - self.s
        bent = min(max(bent, 0.0), 1.0)
        t = 1.0 - (1.0 - bent) ** (1.0 / self.scaler) if self.scaler > 1.0 else bent ** (1.0 / self.scaler)
        return Level(alpha, sigma, t)

    def clock(self, level: Level) -> float:
        """sigma / alpha; inf where alpha is 0."""
        return level.sigma / level.alpha if level.alpha else math.inf

    def at_clock(self, clock: float) -> Level:
        """The level with sigma / alpha = clock."""
        return self.at(math.inf if clock == 0.0 else -math.log(clock))

    def even(self, n: int) -> list[Level]:
        """The n + 1 levels from t = 1 down to 0, even in t.

        Raises:
            RequestError: n is not between 1 and the rows of the table.
        """
        if not 1 <= n <= ROWS:
            raise RequestError(f"{n} steps; this path takes 1 to {ROWS}")
        return [self.level((n - k) / n) for k in range(n + 1)]

    @property
    def _top(self) -> float:
        return math.cos(self.s / (1.0 + self.s) * math.pi / 2) ** 2


def read(config: Mapping[str, Any]) -> Ratio:
    """The path in a ``scheduler_config.json``.

    Raises:
        ConfigError: another class, an unknown key, or numbers that are no path.
    """
    if config.get("_class_name") != "DDPMWuerstchenScheduler":
        raise ConfigError(f"names {config.get('_class_name')!r}; Stable Cascade has a DDPMWuerstchenScheduler")
    told: dict[str, float] = {}
    for key, value in config.items():
        if key.startswith("_"):
            continue
        if key not in ("s", "scaler"):
            raise ConfigError(f"unknown key {key!r}")
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise ConfigError(f"{key} = {value!r} is not a number")
        told[key] = float(value)
    try:
        return Ratio(**told)
    except RequestError as error:
        raise ConfigError(str(error)) from None
