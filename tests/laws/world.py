"""Small worlds in which the right answer is known: a constant, a Gaussian and a mixture of two, in float64.

All are one-dimensional; a batch of points is a state [B]. The law of x = alpha x0 + sigma eps has a closed form.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from safelight.core.path import (
    EDM,
    VE,
    Flow,
    Level,
    Path,
    vp_cosine,
    vp_linear,
    vp_scaled_linear,
    zero_terminal_snr,
)
from safelight.core.run import Denoised, Run

PATHS: dict[str, Path] = {
    "cosine": vp_cosine(),
    "edm": EDM(),
    "flow": Flow(),
    "flow shifted": Flow(shift=3.0),
    "linear": vp_linear(),
    "scaled linear": vp_scaled_linear(),
    "ve": VE(),
    "zero snr": zero_terminal_snr(vp_scaled_linear()),
}

Denoise = Callable[[Tensor, Level], Tensor]


def unanimous(x0: Tensor) -> Denoised:
    """The answer where all branches agree: what the samplers that need "uncond" must make of it is their base."""
    return Denoised(x0, x0)


def answer(run: Run, denoise: Denoise) -> Tensor:
    """Run a sampler to its end, answering every question."""
    try:
        x, level = next(run)
        while True:
            x, level = run.send(unanimous(denoise(x, level)))
    except StopIteration as end:
        return end.value


def silent(s: Level, t: Level) -> Tensor:
    """A source of noise for runs that must not need one."""
    raise AssertionError(f"noise was asked for between {s} and {t}")


def geometric(high: float, low: float, n: int) -> list[Level]:
    """n + 1 variance-exploding levels, even in log sigma."""
    return [Level(1.0, high * (low / high) ** (i / n)) for i in range(n + 1)]


class Impulses:
    """The noises that a run asked for, written as mixes of independent ones: a unit normal is a row of unit length.

    Args:
        asked: every (s, t) of the run.
        nested: read all off one path, the stationary process X(lam) with correlation e^-|difference|, as the increments
            X(t) - e^-h X(s): what overlaps is shared. Otherwise every (s, t) has its own.
    """

    def __init__(self, asked: Sequence[tuple[Level, Level]], nested: bool) -> None:
        self.nested = nested
        self.pairs = {(s.lam, t.lam): i for i, (s, t) in enumerate(dict.fromkeys(asked))}
        self.ends = sorted({lam for pair in self.pairs for lam in pair}) if nested else []
        self.count = max(len(self.ends) - 1, 0) if nested else len(self.pairs)

    def __call__(self, s: Level, t: Level) -> Tensor:
        """[count]: what each independent noise gives to the one for (s, t)."""
        z = torch.zeros(self.count, dtype=torch.float64)
        if not self.nested:
            z[self.pairs[s.lam, t.lam]] = 1.0
            return z
        for i, (a, b) in enumerate(pairwise(self.ends)):
            if s.lam <= a and b <= t.lam:
                z[i] = math.exp(b - t.lam) * math.sqrt(-math.expm1(2.0 * (a - b)))
        return z / math.sqrt(-math.expm1(2.0 * (s.lam - t.lam)))


class Gaussian:
    """Data N(0.7, 0.6^2): denoising is affine in x."""

    mean, deviation = 0.7, 0.6

    def law(self, level: Level) -> tuple[float, float]:
        """Mean and variance of x at a level."""
        return level.alpha * self.mean, (level.alpha * self.deviation) ** 2 + level.sigma**2

    def denoise(self, x: Tensor, level: Level) -> Tensor:
        mean, variance = self.law(level)
        return self.mean + level.alpha * self.deviation**2 / variance * (x - mean)


class Mixture:
    """Data 0.35 N(-1.2, 0.35^2) + 0.65 N(0.8, 0.5^2), whose probability-flow ODE is solved without an integrator.

    In one dimension the flow carries quantiles to quantiles, so x at t is F_t^-1(F_s(x)).
    """

    weight = torch.tensor([0.35, 0.65], dtype=torch.float64)
    mean = torch.tensor([-1.2, 0.8], dtype=torch.float64)
    deviation = torch.tensor([0.35, 0.5], dtype=torch.float64)

    def _parts(self, x: Tensor, level: Level) -> tuple[Tensor, Tensor]:
        spread = ((level.alpha * self.deviation) ** 2 + level.sigma**2).sqrt()
        return (x[..., None] - level.alpha * self.mean) / spread, spread

    def denoise(self, x: Tensor, level: Level) -> Tensor:
        z, spread = self._parts(x, level)
        share = torch.softmax(self.weight.log() - spread.log() - 0.5 * z * z, -1)
        return (share * (self.mean + level.alpha * self.deviation**2 / spread * z)).sum(-1)

    def below(self, x: Tensor, level: Level) -> Tensor:
        """F(x): the share of the law at a level that lies below x."""
        z, _ = self._parts(x, level)
        return (self.weight * torch.special.ndtr(z)).sum(-1)

    def density(self, x: Tensor, level: Level) -> Tensor:
        z, spread = self._parts(x, level)
        return (self.weight * torch.exp(-0.5 * z * z) / (spread * math.sqrt(2 * math.pi))).sum(-1)

    def quantile(self, share: Tensor, level: Level) -> Tensor:
        """F^-1 by bisection, polished by Newton."""
        reach = 12.0 * math.hypot(level.sigma, level.alpha) + 2.0
        low, high = torch.full_like(share, -reach), torch.full_like(share, reach)
        for _ in range(60):
            middle = (low + high) / 2
            lower = self.below(middle, level) < share
            low, high = torch.where(lower, middle, low), torch.where(lower, high, middle)
        x = (low + high) / 2
        for _ in range(2):
            x = x - (self.below(x, level) - share) / self.density(x, level)
        return x

    def points(self, level: Level) -> Tensor:
        """Nine points at a level that spread over its law."""
        return self.quantile(torch.linspace(0.06, 0.94, 9, dtype=torch.float64), level)

    def flow(self, x: Tensor, s: Level, t: Level) -> Tensor:
        """Where the probability-flow ODE carries x from s to t, exactly."""
        return self.quantile(self.below(x, s), t)


def slopes(errors: Sequence[float]) -> list[float]:
    """Orders of convergence between neighbours of a list whose step halves each time."""
    return [math.log2(a / b) for a, b in pairwise(errors)]
