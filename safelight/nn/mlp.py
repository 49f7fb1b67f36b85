"""Activations by their released names, and the gated feed-forward layer.

Axes: any leading axes, C channels last. Source: Hendrycks & Gimpel 2016, "Gaussian Error Linear Units"; Shazeer 2020,
"GLU Variants Improve Transformer", equation 6.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def gelu(x: Tensor) -> Tensor:
    """x * Phi(x) with the exact normal distribution function."""
    return F.gelu(x)


def gelu_tanh(x: Tensor) -> Tensor:
    """The tanh approximation of `gelu`; up to 5e-4 away from it."""
    return F.gelu(x, approximate="tanh")


def quick_gelu(x: Tensor) -> Tensor:
    """x * sigmoid(1.702 x): the approximation that OpenAI's CLIP was trained with; up to 2e-2 away from `gelu`."""
    return x * torch.sigmoid(1.702 * x)


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": gelu,
    "gelu_new": gelu_tanh,
    "gelu_pytorch_tanh": gelu_tanh,
    "quick_gelu": quick_gelu,
    "silu": F.silu,
}


class GEGLU(nn.Module):
    """One projection to twice the width, the second half gating the first through a GELU."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.proj = nn.Linear(width, 2 * inner)

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.proj(x).chunk(2, dim=-1)
        return gelu(gate).mul_(value)  # in place: the widest tensors of a transformer are not held twice


class FeedForward(nn.Module):
    """GEGLU to ``factor`` times the width and back: [..., C] -> [..., C].

    The released names count a dropout between the two layers (``net.0``, ``net.2``); an identity keeps its place.
    """

    def __init__(self, width: int, factor: int = 4) -> None:
        super().__init__()
        self.net = nn.ModuleList([GEGLU(width, factor * width), nn.Identity(), nn.Linear(factor * width, width)])

    def forward(self, x: Tensor) -> Tensor:
        return self.net[2](self.net[0](x))
