"""Similarities of space: turn, scale and move a whole world, points and cameras alike.

Axis legend: ``*B`` leading batch dimensions, N points, last axis x y z.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

F32 = torch.float32


@dataclass(frozen=True, eq=False)
class Similarity:
    """``x -> scale * rotation @ x + offset``: what keeps all angles, and all ratios of lengths.

    Attributes:
        rotation: [3, 3], a proper rotation.
        scale: a number above 0; 2 doubles the world.
        offset: [3], where the origin goes.
    """

    rotation: Tensor
    scale: Tensor
    offset: Tensor

    @classmethod
    def scaled(
        cls, factor: float, offset: Sequence[float] | Tensor = (0.0, 0.0, 0.0), dtype: torch.dtype = F32
    ) -> Similarity:
        """Only scaling by ``factor``, then moving by ``offset``."""
        return cls(torch.eye(3, dtype=dtype), torch.tensor(factor, dtype=dtype), torch.as_tensor(offset, dtype=dtype))

    @classmethod
    def turned(cls, degrees: float, dtype: torch.dtype = F32) -> Similarity:
        """Only a turn about the world's z axis, counter-clockwise seen from above: 90 takes -y to +x."""
        c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
        rotation = torch.tensor([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]], dtype=dtype)
        return cls(rotation, torch.ones((), dtype=dtype), torch.zeros(3, dtype=dtype))

    def apply(self, points: Tensor) -> Tensor:
        """Where points [..., 3] go."""
        return self.scale * points @ self.rotation.mT + self.offset

    def inverse(self) -> Similarity:
        """The way back."""
        turned = self.rotation.mT
        return Similarity(turned, 1.0 / self.scale, -(turned @ self.offset) / self.scale)
