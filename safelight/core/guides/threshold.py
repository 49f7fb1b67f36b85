"""Dynamic thresholding: guided predictions that leave the range of the data are cut at a percentile and scaled back.

Source: Saharia et al. 2205.11487 section 2.3. Shapes: x and every x0 are [1, ...], one picture.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from safelight.core.guidance import Guidance, begin
from safelight.core.run import Denoised
from safelight.errors import RequestError

if TYPE_CHECKING:
    from torch import Tensor

    from safelight.core.path import Level


@dataclass(frozen=True)
class Threshold:
    """Another guidance, whose answers are brought back to -limit .. limit.

    Args:
        inside: the other guidance.
        percentile: above 0 to 1, the share of values that is not cut (0.995 in the paper); 1 only scales.
        limit: the largest value of clean data: 1 for pixels; latents are wider. Answers within it are not changed.

    Raises:
        RequestError: a number outside its range.
    """

    inside: Guidance
    percentile: float = 0.995
    limit: float = 1.0

    def __post_init__(self) -> None:
        if not 0.0 < self.percentile <= 1.0:
            raise RequestError(f"the percentile of a threshold lies above 0 and up to 1, not {self.percentile}")
        if not 0.0 < self.limit < float("inf"):
            raise RequestError(f"the limit of a threshold is a finite number above 0, not {self.limit}")

    def branches(self, level: Level) -> tuple[str, ...]:
        """Those of the inside."""
        return self.inside.branches(level)

    def combine(self, x: Tensor, level: Level, x0_by_branch: Mapping[str, Tensor]) -> Denoised:
        """The answer of the inside, brought back; its ``uncond`` comes along as it is."""
        inside = self.inside.combine(x, level, x0_by_branch)
        reach = quantile(inside.x0.abs(), self.percentile).clamp(min=self.limit)
        return Denoised(inside.x0.clamp(-reach, reach) * (self.limit / reach), inside.uncond)

    def begin(self) -> Guidance:
        """The same for one run."""
        return replace(self, inside=begin(self.inside))


def quantile(x: Tensor, share: float) -> Tensor:
    """The value below which this share of x [1, ...] lies, linear between two values: [1, 1, ...].

    ``torch.quantile`` refuses large pictures.
    """
    ordered = x.flatten(1).sort(dim=1).values
    place = share * (ordered.shape[1] - 1)
    low = int(place)
    high = min(low + 1, ordered.shape[1] - 1)
    found = ordered[:, low] + (place - low) * (ordered[:, high] - ordered[:, low])
    return found.reshape(1, *(1,) * (x.ndim - 1))
