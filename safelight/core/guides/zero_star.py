"""CFG-Zero*: guidance for flow networks that are not yet sure: a fitted uncond, and first steps that stand still.

Letters: c and u, what the network itself says on the branches "cond" and "uncond"; w the scale.
Source: Fan et al. 2503.18886 eq. 9-11 and section 4.2. Shapes: x and every x0 are [1, ...], one picture.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from safelight.core.guides.scale import Scale, always, checked, strength, times
from safelight.core.prediction import denoised, said
from safelight.core.run import Denoised

if TYPE_CHECKING:
    from torch import Tensor

    from safelight.core.path import Level

TINY = 1e-8
"""Keeps the fit finite where u is nothing; the value of the paper's own code."""


@dataclass(frozen=True)
class ZeroStar:
    """s u + w (c - s u), with s = <c, u> / <u, u>, and nothing at all while it is noisier than ``still``.

    Args:
        scale: w; 1 follows "cond" alone and asks nothing else.
        prediction: kind of the network (see ``core/prediction.py``); the rule was made for "flow".
        still: log(alpha / sigma) up to which the network is taken to say nothing (for a flow network: x does not
            move); -inf for never but at a level without signal, None for never.
        both: ask "uncond" even where the scale is 1, for the samplers that need it.

    Raises:
        RequestError: the scale is not finite.
    """

    scale: Scale
    prediction: str = "flow"
    still: float | None = None
    sigma_data: float = 0.5
    both: bool = False

    def __post_init__(self) -> None:
        checked(self.scale)

    def _stands(self, level: Level) -> bool:
        return self.still is not None and level.lam <= self.still and level.sigma > 0.0

    def branches(self, level: Level) -> tuple[str, ...]:
        """("cond", "uncond"), or ("cond",) where the scale is 1 or nothing moves."""
        single = self._stands(level) or always(strength(self.scale, level), 1.0)
        return ("cond",) if single and not self.both else ("cond", "uncond")

    def combine(self, x: Tensor, level: Level, x0_by_branch: Mapping[str, Tensor]) -> Denoised:
        """The guided answer; ``uncond`` comes along as it was said."""
        cond, uncond = x0_by_branch["cond"], x0_by_branch.get("uncond")
        scale = strength(self.scale, level)
        if self._stands(level):
            return Denoised(denoised(self.prediction, x, torch.zeros_like(x), level, self.sigma_data), uncond)
        if uncond is None or always(scale, 1.0) or level.sigma == 0.0:
            return Denoised(cond, uncond)
        c = said(self.prediction, x, cond, level, self.sigma_data)
        u = said(self.prediction, x, uncond, level, self.sigma_data)
        u = fitted(c, u) * u
        return Denoised(denoised(self.prediction, x, u + times(scale, c - u), level, self.sigma_data), uncond)


def fitted(c: Tensor, u: Tensor) -> Tensor:
    """The factor s by which s u comes nearest to c, [1, 1, ...]: eq. 10."""
    axes = tuple(range(1, c.ndim))
    return (c * u).sum(axes, keepdim=True) / (u.pow(2).sum(axes, keepdim=True) + TINY)


def still_until(levels: tuple[Level, ...], steps: int) -> float | None:
    """``still`` such that the first ``steps`` steps of these levels stand still."""
    return None if steps == 0 else levels[min(steps, len(levels)) - 1].lam if levels else -math.inf
