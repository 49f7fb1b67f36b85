"""Several conditions at once, each with its own weight: what follows another guidance as one.

    cond = uncond + sum over i of w_i (cond_i - uncond)

Source: Liu et al. 2206.01714 eq. 11 ("Compositional Visual Generation with Composable Diffusion Models"), with the
scale of its guidance left to the guidance inside. Shapes: x and every x0 are [1, ...], one picture.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from safelight.core.guidance import Guidance, begin
from safelight.errors import RequestError

if TYPE_CHECKING:
    from torch import Tensor

    from safelight.core.path import Level
    from safelight.core.run import Denoised


def names(count: int) -> tuple[str, ...]:
    """The branches of so many conditions, the first as everywhere."""
    return ("cond", *(f"cond {number}" for number in range(2, count + 1)))


@dataclass(frozen=True)
class Together:
    """Another guidance, whose "cond" is made of several.

    Args:
        inside: the other guidance.
        weights: of each condition; a weight of 1 for one alone changes nothing, below 0 it is led away from.

    Raises:
        RequestError: no weights, or one that is not finite.
    """

    inside: Guidance
    weights: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.weights or not all(map(math.isfinite, self.weights)):
            raise RequestError(f"weights of conditions are finite numbers, one for each, not {self.weights}")

    def branches(self, level: Level) -> tuple[str, ...]:
        """Every condition and "uncond", and what else the inside asks."""
        return tuple(dict.fromkeys((*names(len(self.weights)), "uncond", *self.inside.branches(level))))

    def combine(self, x: Tensor, level: Level, x0_by_branch: Mapping[str, Tensor]) -> Denoised:
        """The answer of the inside, to which all conditions are one."""
        uncond = x0_by_branch["uncond"]
        cond = uncond
        for weight, name in zip(self.weights, names(len(self.weights)), strict=True):
            cond = cond + weight * (x0_by_branch[name] - uncond)
        return self.inside.combine(x, level, {**x0_by_branch, "cond": cond})

    def begin(self) -> Guidance:
        """The same for one run."""
        return replace(self, inside=begin(self.inside))
