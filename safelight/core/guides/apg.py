"""Adaptive projected guidance: less burning at high scales, by leaving out what only makes a picture louder.

Letters: delta = cond - uncond, the direction of the guidance; w its scale. In x0, as the paper has it.
Source: Sadat et al. 2410.02416, section 4 and algorithm 1. Shapes: x and every x0 are [1, ...], one picture.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from safelight.core.guides.scale import Scale, always, checked, plus, strength, times
from safelight.core.run import Denoised
from safelight.errors import RequestError

if TYPE_CHECKING:
    from torch import Tensor

    from safelight.core.guidance import Guidance
    from safelight.core.path import Level


@dataclass(frozen=True)
class APG:
    """cond + (w - 1) delta', where delta' is delta with momentum, of bounded length, and mostly across cond.

    Args:
        scale: w; 1 follows "cond" alone and asks nothing else.
        eta: how much of the part along cond stays, 0 none (the paper's choice) to 1 all.
        threshold: longest delta, above 0; inf for any length. Lengths are of the whole picture and grow with it.
        momentum: weight of the earlier directions, between -1 and 1; negative ones damp what repeats, 0 is off. It
            counts evaluations, so it is a function of one picture's own run: see ``begin``.
        both: ask "uncond" even where the scale is 1, for the samplers that need it.

    With eta 1, threshold inf and momentum 0 it is classifier-free guidance.

    Raises:
        RequestError: a number outside its range.
    """

    scale: Scale
    eta: float = 0.0
    threshold: float = math.inf
    momentum: float = 0.0
    both: bool = False

    def __post_init__(self) -> None:
        checked(self.scale)
        if not 0.0 <= self.eta <= 1.0:
            raise RequestError(f"eta of projected guidance lies between 0 and 1, not {self.eta}")
        if not self.threshold > 0.0:
            raise RequestError(f"the threshold of projected guidance is above 0, not {self.threshold}")
        if not -1.0 < self.momentum < 1.0:
            raise RequestError(f"the momentum of projected guidance lies between -1 and 1, not {self.momentum}")

    def branches(self, level: Level) -> tuple[str, ...]:
        """("cond", "uncond"), or ("cond",) where the scale is 1."""
        single = always(strength(self.scale, level), 1.0) and not self.both
        return ("cond",) if single else ("cond", "uncond")

    def combine(self, x: Tensor, level: Level, x0_by_branch: Mapping[str, Tensor]) -> Denoised:
        """The answer to a first question, which has no earlier directions."""
        return self.begin().combine(x, level, x0_by_branch)

    def begin(self) -> Guidance:
        """The rule for one run, which remembers the directions of that run alone."""
        return _Run(self)


class _Run:
    """One picture's own course through the rule."""

    def __init__(self, rule: APG) -> None:
        self.rule, self.before = rule, None

    rule: APG
    before: Tensor | None

    def branches(self, level: Level) -> tuple[str, ...]:
        return self.rule.branches(level)

    def combine(self, x: Tensor, level: Level, x0_by_branch: Mapping[str, Tensor]) -> Denoised:
        cond, rule = x0_by_branch["cond"], self.rule
        scale = strength(rule.scale, level)
        if always(scale, 1.0):
            return Denoised(cond, x0_by_branch.get("uncond"))
        uncond = x0_by_branch["uncond"]
        delta = cond - uncond
        if rule.momentum:
            delta = delta if self.before is None else delta + rule.momentum * self.before
            self.before = delta
        delta = across(shortened(delta, rule.threshold), cond, rule.eta)
        return Denoised(cond + times(plus(scale, -1.0), delta), uncond)


def shortened(delta: Tensor, longest: float) -> Tensor:
    """delta, of length ``longest`` where it was longer."""
    if longest == math.inf:
        return delta
    length = delta.pow(2).sum(tuple(range(1, delta.ndim)), keepdim=True).sqrt()
    return delta * (longest / length).clamp(max=1.0)


def across(delta: Tensor, cond: Tensor, eta: float) -> Tensor:
    """The part of delta at a right angle to cond, and ``eta`` of the part along it."""
    axes = tuple(range(1, cond.ndim))
    length = cond.pow(2).sum(axes, keepdim=True).sqrt().clamp(min=1e-12)
    unit = cond / length
    along = (delta * unit).sum(axes, keepdim=True) * unit
    return delta - along + eta * along
