"""What a sampler is: a generator that asks for predictions, and the few words that all of ``core`` shares.

A sampler asks by ``x0 = (yield x, level).x0``: it hands out a state x [1, ...] at a level and is sent what the
network sees there. Its history lives in local variables; a method with two evaluations per step is two yields. Who
answers, how many strangers share a call, previews and cancelling are the driver's business (``core/sample.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from torch import Tensor

    from safelight.core.path import Level


class Denoised(NamedTuple):
    """The answer to one question.

    Attributes:
        x0: the predicted clean data, guidance included, shaped as x.
        uncond: the prediction of the unguided branch, for the samplers that declare they need it (CFG++).
        spread: what the network says on "cond" of the variance of a step, shaped as x, where it was trained to: -1 for
            the smallest that is right for some data, 1 for the largest (2102.09672 eq. 15).
    """

    x0: Tensor
    uncond: Tensor | None = None
    spread: Tensor | None = None


Noise = Callable[["Level", "Level"], "Tensor"]
"""(s, t) -> unit normal shaped as x for the step from s to t; a function of this picture's own seed only."""

Run = Generator[tuple["Tensor", "Level"], Denoised, "Tensor"]
"""Yields (x, level), is sent a Denoised, returns the state at the last level."""


class Solver(Protocol):
    """A sampler with its path and options fixed, ready to run."""

    def __call__(self, x: Tensor, levels: Sequence[Level], noise: Noise) -> Run:
        """Start from x at levels[0]; visit levels; return x at levels[-1]."""

    @property
    def uncond(self) -> bool:
        """Whether a run needs the unguided answer beside the guided one."""

    def evaluations(self, levels: Sequence[Level]) -> int | None:
        """How many questions a run over these levels asks; None where the run itself finds out (adaptive steps)."""
