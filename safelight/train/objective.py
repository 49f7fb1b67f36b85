"""What a denoiser is taught: noise levels drawn, targets made, errors weighted.

Axes: B rows, then the axes of a latent. Source: Ho et al. 2020 (2006.11239, eq. 14); Salimans & Ho 2022 (2202.00512,
v); Hang et al. 2023 (2303.09556, section 3.4, min-SNR); Esser et al. 2024 (2403.03206, section 3.1, logit-normal).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from safelight.core.path import Level
from safelight.core.prediction import target
from safelight.errors import ConfigError, UnknownNameError

LEVELS = ("uniform", "logit_normal")


@dataclass(frozen=True)
class Objective:
    """How noise levels are drawn and errors weighted.

    Attributes:
        levels: ``uniform`` in the network's own time, or ``logit_normal`` (mean 0, deviation 1): the middle more often.
        min_snr: errors are weighted so that in x0 they count min(SNR, this), 5 in the paper; 0 leaves the prediction's
            own weighting.

    Raises:
        UnknownNameError: no such distribution of levels. ConfigError: ``min_snr`` is negative or no number.
    """

    levels: str = "uniform"
    min_snr: float = 5.0

    def __post_init__(self) -> None:
        if self.levels not in LEVELS:
            raise UnknownNameError("distribution of levels", self.levels, LEVELS)
        if not 0 <= self.min_snr < math.inf:
            raise ConfigError(f"min_snr = {self.min_snr} must be a number, 0 and up")


def draw_shares(objective: Objective, count: int, generator: torch.Generator) -> Tensor:
    """``count`` places on the way from clean (0) to noise (1), in float32."""
    if objective.levels == "uniform":
        return torch.rand(count, generator=generator)
    return torch.randn(count, generator=generator).sigmoid()


def weight(kind: str, min_snr: float, level: Level) -> float:
    """The factor on the squared error of a ``kind`` prediction that makes it count min(SNR, ``min_snr``) in x0.

    Where the data is gone (SNR 0) an eps prediction has no x0; its factor is the limit, 1.

    Raises:
        UnknownNameError: no such kind, or none that is weighted here.
    """
    if not min_snr:
        return 1.0
    snr = (level.alpha / level.sigma) ** 2 if level.sigma else float("inf")
    capped = min(snr, min_snr)
    match kind:
        case "x0":
            return capped
        case "eps":
            return capped / snr if snr else 1.0
        case "v":  # min(SNR, gamma) / (SNR + 1) where alpha^2 + sigma^2 = 1
            return capped * (level.sigma / (level.alpha**2 + level.sigma**2)) ** 2
        case "flow":
            return capped * (level.sigma / (level.alpha + level.sigma)) ** 2
    raise UnknownNameError("prediction to weight", kind, ("eps", "v", "x0", "flow"))


def error(
    kind: str,
    objective: Objective,
    output: Tensor,
    x0: Tensor,
    eps: Tensor,
    levels: Sequence[Level],
    places: Tensor | None = None,
) -> Tensor:
    """The weighted mean squared error of a network's output [B, ...] against its target: a number, in float32.

    Args:
        places: how much each place counts, of a shape that multiplies the output's; None counts all the same.
    """
    squares = (output.float() - target(kind, x0, eps, levels).float()).square()
    squares = (squares if places is None else squares * places).flatten(1).mean(1)
    weights = [weight(kind, objective.min_snr, level) for level in levels]
    return (squares * torch.tensor(weights, device=squares.device)).mean()
