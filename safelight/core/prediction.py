"""What networks predict, and one formula that turns all of it into x0.

A network that predicts a x0 + b eps gives, with x = alpha x0 + sigma eps:

    x0 = (b x - sigma out) / (b alpha - a sigma)

    kind   a                       b
    eps    0                       1                       Ho et al. 2006.11239
    x0     1                       0
    v      -sigma                  alpha                   Salimans & Ho 2202.00512
    flow   -1                      1                       Liu et al. 2209.03003 (velocity from data to noise)
    edm    sigma / (sigma_d r)     -alpha sigma_d / r      Karras et al. 2206.00364, r^2 = sigma^2 + alpha^2 sigma_d^2

Rows: x [B, ...] with one Level per row.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from safelight.errors import PredictionError, UnknownNameError

if TYPE_CHECKING:
    from torch import Tensor

    from safelight.core.path import Level

KINDS = ("edm", "eps", "flow", "v", "x0")


def mix(kind: str, level: Level, sigma_data: float = 0.5) -> tuple[float, float]:
    """(a, b) of what a network of this kind predicts at a level: a x0 + b eps.

    Args:
        kind: one of KINDS.
        sigma_data: standard deviation of the data that an edm network was scaled for; ignored by the others.

    Raises:
        UnknownNameError: no such kind.
    """
    if kind == "eps":
        return 0.0, 1.0
    if kind == "x0":
        return 1.0, 0.0
    if kind == "v":
        return -level.sigma, level.alpha
    if kind == "flow":
        return -1.0, 1.0
    if kind == "edm":
        r = math.hypot(level.sigma, level.alpha * sigma_data)
        return level.sigma / (sigma_data * r), -level.alpha * sigma_data / r
    raise UnknownNameError("prediction", kind, KINDS)


def _unmix(kind: str, level: Level, sigma_data: float) -> tuple[float, float]:
    """(skip, scale) with x0 = skip x + scale out."""
    if kind == "x0":  # the formula would divide 0 by 0 at sigma = 0
        return 0.0, 1.0
    a, b = mix(kind, level, sigma_data)
    below = b * level.alpha - a * level.sigma
    if below == 0.0:
        raise PredictionError(
            f"a network that predicts {kind} says nothing about the picture at t = {level.t:g}, "
            "where the signal is zero; use a v, x0 or flow network, or a schedule that starts below pure noise"
        )
    return b / below, -level.sigma / below


def denoised(kind: str, x: Tensor, out: Tensor, level: Level, sigma_data: float = 0.5) -> Tensor:
    """x0 from what the network said about x, all at one level.

    Raises:
        PredictionError: an eps network at a level without signal (alpha = 0).
        UnknownNameError: no such kind.
    """
    skip, scale = _unmix(kind, level, sigma_data)
    return skip * x + scale * out


def denoised_rows(kind: str, x: Tensor, out: Tensor, levels: Sequence[Level], sigma_data: float = 0.5) -> Tensor:
    """``denoised`` for rows at different levels; row i has the same bits as ``denoised`` of row i alone.

    Args:
        x, out: [B, ...]; levels: B of them.
    """
    pairs = [_unmix(kind, level, sigma_data) for level in levels]
    return _column(x, [skip for skip, _ in pairs]) * x + _column(x, [scale for _, scale in pairs]) * out


def said(kind: str, x: Tensor, x0: Tensor, level: Level, sigma_data: float = 0.5) -> Tensor:
    """What a network of this kind must have said for ``denoised`` to give x0: the way back.

    Raises:
        PredictionError: at sigma = 0, where every answer gives the same x0 (unless kind is x0).
    """
    skip, scale = _unmix(kind, level, sigma_data)
    if scale == 0.0:
        raise PredictionError(f"at a clean level an {kind} network can say anything; there is no way back from x0")
    return (x0 - skip * x) * (1.0 / scale)


def target(kind: str, x0: Tensor, eps: Tensor, levels: Sequence[Level], sigma_data: float = 0.5) -> Tensor:
    """What a network of this kind should say: the training target a x0 + b eps, row by row.

    Args:
        x0, eps: [B, ...]; levels: B of them.
    """
    pairs = [mix(kind, level, sigma_data) for level in levels]
    return _column(x0, [a for a, _ in pairs]) * x0 + _column(x0, [b for _, b in pairs]) * eps


def noised(x0: Tensor, eps: Tensor, levels: Sequence[Level]) -> Tensor:
    """x = alpha x0 + sigma eps, row by row: the network's question in training, and the start of image-to-image.

    Args:
        x0, eps: [B, ...]; levels: B of them.
    """
    return _column(x0, [level.alpha for level in levels]) * x0 + _column(x0, [level.sigma for level in levels]) * eps


def _column(like: Tensor, values: list[float]) -> Tensor:
    """One number per row, in the dtype of the state and ready to broadcast over its other axes."""
    return torch.tensor(values, dtype=like.dtype, device=like.device).reshape(-1, *(1,) * (like.ndim - 1))
