"""FreeU: on the way up, half of the network's own features are made stronger and the lowest waves of skips weaker.

Axes: W rows of a call, C channels, h w grid. Source: Si et al. 2309.11497, equations 4 to 7, with one factor for all
places of the features, as its authors' first version and diffusers have it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from safelight.adapters.use import Aids, Call, Place
from safelight.core.path import Level
from safelight.errors import RequestError
from safelight.families.family import Model
from safelight.nn.ports import Ports

STAGES = ("up_blocks.0", "up_blocks.1")
"""The blocks that have factors: the two coarsest on the way up."""
MOST = 4.0


@dataclass(frozen=True)
class FreeU:
    """The use of it; nothing is loaded.

    Args:
        b1, b2: what half of the features are multiplied by, in the coarsest block of the way up and the next: 1 changes
            nothing, up to 4.
        s1, s2: what the lowest waves of the skip connections are multiplied by there: 0 takes them away, 1 changes
            nothing, up to 4.

    The authors give 1.5, 1.6, 0.9, 0.2 for Stable Diffusion 1, 1.4, 1.6, 0.9, 0.2 for 2 and 1.3, 1.4, 0.9, 0.2 for XL.
    """

    b1: float
    b2: float
    s1: float
    s2: float

    @property
    def seeded(self) -> bool:
        """It draws no noise."""
        return False

    def check(self, model: Model, size: tuple[int, int]) -> None:
        """Raises: RequestError where a factor is out of its range, or all of them are 1."""
        factors = (self.b1, self.b2, self.s1, self.s2)
        if not all(math.isfinite(each) and 0.0 <= each <= MOST for each in factors):
            given = ", ".join(f"{each:g}" for each in factors)
            raise RequestError(f"FreeU's factors lie between 0 and {MOST:g}, not {given}")
        if set(factors) == {1.0}:
            raise RequestError("FreeU with factors of 1 does nothing; change one, or leave it out")

    def ready(self, place: Place) -> Aids:
        """The same on both sides of the guidance."""
        stages = {STAGES[0]: (self.b1, self.s1), STAGES[1]: (self.b2, self.s2)}
        return Aids(*[Lift(stages)] * 2)

    def told(self) -> Mapping[str, Any]:
        """What a recipe says of it."""
        numbers = {"b1": self.b1, "b2": self.b2, "s1": self.s1, "s2": self.s2}
        return {"kind": "freeu", "name": ",".join(f"{each:g}" for each in numbers.values()), "files": {}, **numbers}


@dataclass(frozen=True, eq=False)
class Lift:
    """FreeU at work: block -> what its features and its skip connections are multiplied by."""

    stages: Mapping[str, tuple[float, float]]

    def on(self, level: Level) -> bool:
        """At every level."""
        return True

    def ports(self, call: Call, rows: Tensor, inner: Ports) -> Ports:
        """Ports that join what is lifted, in the rows of its own."""
        own = rows[:, None, None, None]

        def join(name: str, x: Tensor, skip: Tensor) -> tuple[Tensor, Tensor]:
            x, skip = (x, skip) if inner.join is None else inner.join(name, x, skip)
            if name not in self.stages:
                return x, skip
            features, lowest = self.stages[name]
            return torch.where(own, lifted(x, features), x), torch.where(own, dampened(skip, lowest), skip)

        return replace(inner, join=join)


def lifted(x: Tensor, factor: float) -> Tensor:
    """[W, C, h, w] with the first half of the channels multiplied."""
    first, second = x.tensor_split([x.shape[1] // 2], dim=1)
    return torch.cat([first * factor, second], dim=1)


def dampened(x: Tensor, factor: float) -> Tensor:
    """[W, C, h, w] with its lowest waves multiplied, in float32 or better.

    Those are the waves of 0 and -1 periods along each edge, all four pairs, as the released code cuts them out. With
    A = 1 + cos and B = sin of the angle between two places, their sum is (A x A' - B x B') / (h w).
    """
    wide = x.float() if x.dtype.itemsize < 4 else x
    (a, b), (c, d) = (waves(edge, wide) for edge in x.shape[-2:])
    lowest = (a @ wide @ c - b @ wide @ d.transpose(0, 1)) / (x.shape[-2] * x.shape[-1])
    return (wide + (factor - 1.0) * lowest).to(x.dtype)


def waves(edge: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """What two waves, or one where the edge is 1, say of each pair of places: [edge, edge] twice."""
    if edge == 1:
        return like.new_ones(1, 1), like.new_zeros(1, 1)
    places = torch.arange(edge, device=like.device, dtype=like.dtype)
    angle = (places[:, None] - places) * (2.0 * math.pi / edge)
    return 1.0 + angle.cos(), angle.sin()
