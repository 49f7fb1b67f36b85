"""One step away from a worse answer: what perturbed, smoothed, skipped, degraded and weaker networks have in common.

    x0 = inside + scale (base - branch)

    rule                       branch       base     Source
    perturbed attention (PAG)  "perturbed"  cond     Ahn et al. 2403.17377 eq. 15
    smoothed energy (SEG)      "smoothed"   cond     Hong 2408.00760 eq. 10
    skip-layer (SLG)           "skipped"    cond     Stability AI, Stable Diffusion 3.5
    self-attention (SAG)       "degraded"   uncond   Hong et al. 2210.00939 eq. 25 (base cond where nothing else guides)
    autoguidance, scale w - 1  "weak"       cond     Karras et al. 2406.02070 eq. 3

What a branch's network does otherwise stands in its condition; nothing of it is known here.
Shapes: x and every x0 are [1, ...], one picture.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from safelight.core.guidance import Guidance, begin
from safelight.core.guides import interval
from safelight.core.guides.scale import Scale, always, checked, strength, times
from safelight.core.run import Denoised

if TYPE_CHECKING:
    from torch import Tensor

    from safelight.core.path import Level


@dataclass(frozen=True)
class Push:
    """Another guidance, and a step away from one more branch.

    Args:
        inside: the other guidance.
        branch: what to go away from.
        scale: 0 asks and changes nothing, 1 goes once the way from ``branch`` to ``base``.
        base: the branch that the way is measured from; it is asked too.
        low, high: the noise, sigma / alpha, within which it works; see `Interval`.

    Raises:
        RequestError: the scale is not finite, or low is not below high.
    """

    inside: Guidance
    branch: str
    scale: Scale
    base: str = "cond"
    low: float = 0.0
    high: float = math.inf

    def __post_init__(self) -> None:
        checked(self.scale)
        interval.checked(self.low, self.high)

    def _works(self, level: Level) -> bool:
        return interval.within(level, self.low, self.high) and not always(strength(self.scale, level), 0.0)

    def branches(self, level: Level) -> tuple[str, ...]:
        """Those of the inside, and where this works ``base`` and ``branch``."""
        inside = self.inside.branches(level)
        return tuple(dict.fromkeys((*inside, self.base, self.branch))) if self._works(level) else inside

    def combine(self, x: Tensor, level: Level, x0_by_branch: Mapping[str, Tensor]) -> Denoised:
        """The answer of the inside, pushed; its ``uncond`` comes along."""
        inside = self.inside.combine(x, level, x0_by_branch)
        if not self._works(level):
            return inside
        way = x0_by_branch[self.base] - x0_by_branch[self.branch]
        return Denoised(inside.x0 + times(strength(self.scale, level), way), inside.uncond)

    def begin(self) -> Guidance:
        """The same for one run."""
        return replace(self, inside=begin(self.inside))
