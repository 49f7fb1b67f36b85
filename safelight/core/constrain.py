"""Constraints: what must hold of the questions that a network is asked and of the answers it gives.

A constraint knows no family and no sampler. Shapes: x, x0, known, noise [1, C, H, W]; mask [1, 1 or C, H, W].
Source of the blended question: RePaint 2201.09865 eq. 8.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor

    from safelight.core.path import Level


class Constraint(Protocol):
    """Applied by the driver around every evaluation, and ``answer`` once more to the final state."""

    def question(self, x: Tensor, level: Level) -> Tensor:
        """What the network is shown instead of x at this level."""

    def answer(self, x0: Tensor, level: Level) -> Tensor:
        """What the sampler is told instead of x0."""


@dataclass(frozen=True)
class Keep:
    """Inpainting: part of the picture is known and comes back exactly.

    Args:
        known: clean data of the kept part.
        mask: 1 = repainted, 0 = kept, fractions are mixed.
        noise: unit normal; the kept part of a question is alpha known + sigma noise. Use the picture's start noise.
    """

    known: Tensor
    mask: Tensor
    noise: Tensor

    def question(self, x: Tensor, level: Level) -> Tensor:
        """x where repainted; the known picture at this noise level where kept."""
        return self.mask * x + (1.0 - self.mask) * (level.alpha * self.known + level.sigma * self.noise)

    def answer(self, x0: Tensor, level: Level) -> Tensor:
        """x0 where repainted; the known picture where kept."""
        return self.mask * x0 + (1.0 - self.mask) * self.known


@dataclass(frozen=True)
class Clamp:
    """Answers are cut to [-limit, limit]: for networks that draw pixels and were trained so (``clip_sample``)."""

    limit: float = 1.0

    def question(self, x: Tensor, level: Level) -> Tensor:
        """x itself."""
        return x

    def answer(self, x0: Tensor, level: Level) -> Tensor:
        """x0 within the limits."""
        return x0.clamp(-self.limit, self.limit)
