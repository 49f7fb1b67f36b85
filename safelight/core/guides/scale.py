"""How strong a guidance is: one number, one for each view, or a function of the level.

Axes: x [1, ...] one picture, or [1, C, V, h, w] the V views of one scene.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from safelight.errors import RequestError

if TYPE_CHECKING:
    from torch import Tensor

    from safelight.core.path import Level

Strength = float | tuple[float, ...]
"""One number, or one for each view along axis 2 of x."""
Scale = Strength | Callable[["Level"], Strength]
"""A strength, or what gives one for a level."""


@dataclass(frozen=True)
class ByStep:
    """One strength for each step of a list of levels; a function of the level, so it holds for every sampler.

    A question between two levels has the strength of the step that it lies in; one noisier than the first level has
    the first, one cleaner than the last the last.

    Args:
        levels: those that are visited, noisiest first, the end included.
        strengths: one for each step, so one fewer than levels.

    Raises:
        RequestError: not one strength for each step, or one that is not finite.
    """

    levels: tuple[Level, ...]
    strengths: tuple[Strength, ...]

    def __post_init__(self) -> None:
        if len(self.strengths) != len(self.levels) - 1 or not self.strengths:
            raise RequestError(
                f"{len(self.strengths)} scales of guidance were given for {len(self.levels) - 1} steps; give one a step"
            )
        for each in self.strengths:
            checked(each)

    def __call__(self, level: Level) -> Strength:
        """The strength of the step that begins at this level or before it."""
        return self.strengths[step_at(self.levels, level)]


def step_at(levels: Sequence[Level], level: Level) -> int:
    """The step, from 0, that begins at this level or before it; the first for what is noisier than all of them."""
    return max(bisect_right([each.lam for each in levels[:-1]], level.lam) - 1, 0)


def checked(scale: Scale, what: str = "guidance scale") -> None:
    """Raises: RequestError where a scale that is no function is not finite."""
    if callable(scale):
        return
    for each in _numbers(scale):
        if not math.isfinite(each):
            raise RequestError(f"the {what} is a finite number, not {each}")


def strength(scale: Scale, level: Level) -> Strength:
    """What a scale is at a level."""
    return scale(level) if callable(scale) else scale


def always(scale: Strength, value: float) -> bool:
    """Whether a strength is this value, for every view."""
    return all(each == value for each in _numbers(scale))


def plus(scale: Strength, number: float) -> Strength:
    """A strength with a number added, for every view."""
    return tuple(each + number for each in scale) if isinstance(scale, tuple) else scale + number


def times(scale: Strength, difference: Tensor) -> Tensor:
    """The difference [1, ...] as strong as asked, view by view where there is a number for each.

    Raises:
        RequestError: not as many strengths as views.
    """
    if not isinstance(scale, tuple):
        return scale * difference
    views = difference.shape[2] if difference.ndim >= 5 else 1
    if difference.ndim < 5 or views != len(scale):
        raise RequestError(f"{len(scale)} scales of guidance were given for {views} views; give one a view, or one")
    return difference * difference.new_tensor(scale).reshape(1, 1, -1, *(1,) * (difference.ndim - 3))


def _numbers(scale: Strength) -> Sequence[float]:
    return scale if isinstance(scale, tuple) else (scale,)
