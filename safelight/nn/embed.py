"""Numbers as vectors: the sinusoid of a time step and the small perceptron behind it.

Axes: B rows, D width. Source: Vaswani et al. 2017, "Attention Is All You Need", section 3.5; Ho et al. 2020, "Denoising
Diffusion Probabilistic Models", appendix B.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def sinusoid(t: Tensor, width: int, *, cosine_first: bool = True, shift: float = 0.0, period: float = 1e4) -> Tensor:
    """Cosines and sines of ``t`` at geometrically spaced frequencies, from 1 down to about ``1 / period``.

    Computed in float32 whatever the dtype of ``t``, as the networks were trained.

    Args:
        t: [B] labels; fractions are allowed.
        width: size D of the result; an odd one ends in a zero.
        cosine_first: True puts the cosines in the first half (Stable Diffusion), False the sines (DDPM).
        shift: subtracted from the number of frequencies when spacing them; 1 lets the last frequency be 1 / period.
        period: the longest period, in units of ``t`` / 2 pi.

    Returns:
        [B, D] float32 in [-1, 1].
    """
    half = width // 2
    steps = torch.arange(half, dtype=torch.float32, device=t.device)
    angles = t.float()[:, None] * torch.exp(-math.log(period) * steps / (half - shift))
    first, second = (angles.cos(), angles.sin()) if cosine_first else (angles.sin(), angles.cos())
    return F.pad(torch.cat([first, second], dim=-1), (0, width % 2))


class StepEmbedding(nn.Module):
    """Linear, SiLU, linear: a sinusoid [B, width] to the vector [B, out] that every block is told.

    ``condition`` widths above 0 add a bias-free projection of a second vector to the input (the guidance scale of
    latent consistency models, Luo et al. 2023, section 4.3).
    """

    def __init__(self, width: int, out: int, condition: int = 0) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(width, out)
        self.cond_proj = nn.Linear(condition, width, bias=False) if condition else None
        self.linear_2 = nn.Linear(out, out)

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        if self.cond_proj is not None and condition is not None:
            x = x + self.cond_proj(condition)
        return self.linear_2(F.silu(self.linear_1(x)))
