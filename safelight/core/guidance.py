"""Guidance: which branches of the network to ask at a level, and how to combine what they say. Never calls a network.

Sources: classifier-free guidance, Ho & Salimans 2207.12598 eq. 6; rescale, Lin et al. 2305.08891 eq. 15-16.
Shapes: x and every x0 are [1, ...], one picture.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from safelight.core.prediction import denoised, said
from safelight.core.run import Denoised
from safelight.errors import RequestError

if TYPE_CHECKING:
    from torch import Tensor

    from safelight.core.path import Level


class Guidance(Protocol):
    """Which branches to ask, and what their answers mean together."""

    def branches(self, level: Level) -> tuple[str, ...]:
        """Names of the conditions to ask at this level: "cond", "uncond", and others of later methods."""

    def combine(self, x: Tensor, level: Level, x0_by_branch: Mapping[str, Tensor]) -> Denoised:
        """One answer from those of the branches."""


@dataclass(frozen=True)
class Unguided:
    """Only the condition is asked, and its answer stands."""

    def branches(self, level: Level) -> tuple[str, ...]:
        """("cond",) at every level."""
        return ("cond",)

    def combine(self, x: Tensor, level: Level, x0_by_branch: Mapping[str, Tensor]) -> Denoised:
        """The answer of "cond"."""
        return Denoised(x0_by_branch["cond"])


@dataclass(frozen=True)
class CFG:
    """Classifier-free guidance: uncond + scale (cond - uncond).

    Args:
        scale: 0 follows "uncond" alone, 1 "cond" alone (and asks nothing else), more exaggerates their difference.
        rescale: 0 (off) to 1: how far the spread of what the network is made to say is pulled back to that of "cond".
            It acts on the network's own output, as the paper and diffusers' ``rescale_noise_cfg`` do, hence:
        prediction: kind of the network (see ``core/prediction.py``); matters only where rescale > 0.
        both: ask "uncond" even where the scale is 1, for samplers that need its answer (``Sampler.uncond``: CFG++).

    Raises:
        RequestError: scale or rescale is not a finite number, or rescale is outside 0..1.
    """

    scale: float
    rescale: float = 0.0
    prediction: str = "eps"
    sigma_data: float = 0.5
    both: bool = False

    def __post_init__(self) -> None:
        if not math.isfinite(self.scale):
            raise RequestError(f"the guidance scale is a finite number, not {self.scale}")
        if not 0.0 <= self.rescale <= 1.0:
            raise RequestError(f"guidance rescale lies between 0 and 1, not {self.rescale}")

    def branches(self, level: Level) -> tuple[str, ...]:
        """("cond", "uncond"), or ("cond",) where the scale is 1 and nobody else wants the other."""
        return ("cond",) if self.scale == 1.0 and not self.both else ("cond", "uncond")

    def combine(self, x: Tensor, level: Level, x0_by_branch: Mapping[str, Tensor]) -> Denoised:
        """The guided answer; ``uncond`` comes along where it was asked."""
        cond = x0_by_branch["cond"]
        if self.scale == 1.0:
            return Denoised(cond, x0_by_branch["uncond"] if self.both else None)
        uncond = x0_by_branch["uncond"]
        guided = uncond + self.scale * (cond - uncond)
        if self.rescale:
            guided = self._rescaled(x, level, cond, guided)
        return Denoised(guided, uncond)

    def _rescaled(self, x: Tensor, level: Level, cond: Tensor, guided: Tensor) -> Tensor:
        # x0 is an affine function of what the network says, so the way there and back is exact.
        text = said(self.prediction, x, cond, level, self.sigma_data)
        out = said(self.prediction, x, guided, level, self.sigma_data)
        axes = tuple(range(1, x.ndim))
        factor = text.std(axes, keepdim=True) / out.std(axes, keepdim=True)
        out = self.rescale * (out * factor) + (1.0 - self.rescale) * out
        return denoised(self.prediction, x, out, level, self.sigma_data)
