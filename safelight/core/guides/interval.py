"""Guidance at some noise levels only, where it helps; elsewhere nothing more is asked than the condition.

Source: Kynkäänniemi et al. 2404.07724 eq. 6. Shapes: x and every x0 are [1, ...], one picture.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from safelight.core.guidance import Guidance, Unguided, begin
from safelight.errors import RequestError

if TYPE_CHECKING:
    from torch import Tensor

    from safelight.core.path import Level
    from safelight.core.run import Denoised


def within(level: Level, low: float, high: float) -> bool:
    """Whether the noise of a level, sigma / alpha, lies above low and up to high."""
    noise = math.inf if level.alpha == 0.0 else level.sigma / level.alpha
    return low < noise <= high


def checked(low: float, high: float) -> None:
    """Raises: RequestError where low and high are no interval of noise."""
    if not 0.0 <= low < high:
        raise RequestError(
            f"an interval of guidance goes from a lower noise (sigma / alpha, 0 or more) to a higher one, not from "
            f"{low:g} to {high:g}"
        )


@dataclass(frozen=True)
class Interval:
    """Another guidance between two noise levels.

    Args:
        inside: what guides there.
        low, high: of the noise sigma / alpha; a level at ``high`` is guided, one at ``low`` is not. 0 and inf guide
            everywhere.
        outside: what stands elsewhere.

    Raises:
        RequestError: low is not below high, or below 0.
    """

    inside: Guidance
    low: float = 0.0
    high: float = math.inf
    outside: Guidance = field(default_factory=Unguided)

    def __post_init__(self) -> None:
        checked(self.low, self.high)

    def _at(self, level: Level) -> Guidance:
        return self.inside if within(level, self.low, self.high) else self.outside

    def branches(self, level: Level) -> tuple[str, ...]:
        """Those of the guidance that stands at this level."""
        return self._at(level).branches(level)

    def combine(self, x: Tensor, level: Level, x0_by_branch: Mapping[str, Tensor]) -> Denoised:
        """The answer of the guidance that stands at this level."""
        return self._at(level).combine(x, level, x0_by_branch)

    def begin(self) -> Guidance:
        """The same for one run."""
        return replace(self, inside=begin(self.inside), outside=begin(self.outside))
