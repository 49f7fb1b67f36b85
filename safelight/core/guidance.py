"""Guidance: which branches of the network to ask at a level, and how to combine what they say. Never calls a network.

Sources: classifier-free guidance, Ho & Salimans 2207.12598 eq. 6; rescale, Lin et al. 2305.08891 eq. 15-16.
The rules beyond these stand in ``core/guides/``. Shapes: x and every x0 are [1, ...], one picture.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import torch

from safelight.core.guides.scale import Scale, always, checked, strength, times
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


@runtime_checkable
class Remembers(Protocol):
    """A guidance whose answer also depends on the earlier answers of its own run, or one that wraps another."""

    def begin(self) -> Guidance:
        """The guidance for one run, with nothing to remember yet; two runs share nothing."""


def begin(guidance: Guidance) -> Guidance:
    """What the driver asks during one run: the guidance itself, or a fresh one where it remembers."""
    return guidance.begin() if isinstance(guidance, Remembers) else guidance


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
        scale: 0 follows "uncond" alone, 1 "cond" alone (and asks nothing else), more exaggerates their difference. One
            number, one for each view, or a function of the level; see ``core/guides/scale.py``.
        rescale: 0 (off) to 1: how far the spread of what the network is made to say is pulled back to that of "cond".
            It acts on the network's own output, as the paper and diffusers' ``rescale_noise_cfg`` do, hence:
        prediction: kind of the network (see ``core/prediction.py``); matters only where rescale > 0.
        both: ask "uncond" even where the scale is 1, for samplers that need its answer (``Sampler.uncond``: CFG++).

    Raises:
        RequestError: scale or rescale is not a finite number, or rescale is outside 0..1.
    """

    scale: Scale
    rescale: float = 0.0
    prediction: str = "eps"
    sigma_data: float = 0.5
    both: bool = False

    def __post_init__(self) -> None:
        checked(self.scale)
        amount(self.rescale)

    def branches(self, level: Level) -> tuple[str, ...]:
        """("cond", "uncond"), or ("cond",) where the scale is 1 and nobody else wants the other."""
        return ("cond",) if always(strength(self.scale, level), 1.0) and not self.both else ("cond", "uncond")

    def combine(self, x: Tensor, level: Level, x0_by_branch: Mapping[str, Tensor]) -> Denoised:
        """The guided answer; ``uncond`` comes along where it was asked."""
        cond, scale = x0_by_branch["cond"], strength(self.scale, level)
        if always(scale, 1.0):
            return Denoised(cond, x0_by_branch["uncond"] if self.both else None)
        uncond = x0_by_branch["uncond"]
        guided = uncond + times(scale, cond - uncond)
        if self.rescale:
            guided = rescaled(self, x, level, cond, guided)
        return Denoised(guided, uncond)


@dataclass(frozen=True)
class Rescaled:
    """Another guidance, whose answers get the spread that the network's own output has on "cond" (2305.08891).

    Args:
        inside: the other guidance. rescale, prediction, sigma_data: see `CFG`, which can do the same for itself.

    Raises:
        RequestError: rescale is outside 0..1.
    """

    inside: Guidance
    rescale: float
    prediction: str = "eps"
    sigma_data: float = 0.5

    def __post_init__(self) -> None:
        amount(self.rescale)

    def branches(self, level: Level) -> tuple[str, ...]:
        """Those of the inside."""
        return self.inside.branches(level)

    def combine(self, x: Tensor, level: Level, x0_by_branch: Mapping[str, Tensor]) -> Denoised:
        """The answer of the inside, rescaled; its ``uncond`` comes along as it is."""
        inside = self.inside.combine(x, level, x0_by_branch)
        if not self.rescale or inside.x0 is x0_by_branch["cond"]:
            return inside
        return Denoised(rescaled(self, x, level, x0_by_branch["cond"], inside.x0), inside.uncond)

    def begin(self) -> Guidance:
        """The same for one run."""
        return replace(self, inside=begin(self.inside))


def amount(rescale: float) -> None:
    """Raises: RequestError where a rescale is outside 0..1."""
    if not 0.0 <= rescale <= 1.0:
        raise RequestError(f"guidance rescale lies between 0 and 1, not {rescale}")


def rescaled(rule: CFG | Rescaled, x: Tensor, level: Level, cond: Tensor, guided: Tensor) -> Tensor:
    """The guided x0 with the spread of what the network says pulled towards that of "cond": eq. 15-16."""
    if level.sigma == 0.0 and rule.prediction != "x0":
        return guided  # a clean x is its own answer, whatever the network says
    # x0 is an affine function of what the network says, so the way there and back is exact.
    text = said(rule.prediction, x, cond, level, rule.sigma_data)
    out = said(rule.prediction, x, guided, level, rule.sigma_data)
    axes = tuple(range(1, x.ndim))
    spread = out.std(axes, keepdim=True)
    factor = torch.where(spread > 0.0, text.std(axes, keepdim=True) / spread, torch.ones_like(spread))
    out = rule.rescale * (out * factor) + (1.0 - rule.rescale) * out
    return denoised(rule.prediction, x, out, level, rule.sigma_data)
