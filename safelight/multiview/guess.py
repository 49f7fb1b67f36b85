"""What a network guesses of the camera of the given picture in its middle, and tells its own way up.

The layers stand in a stock U-Net under their released names and are reached through the port ``ascent``. The guess is
one for a row: every view is asked, all domains of it together, and the answers' mean is told as sines and cosines.
As it was trained: elevation in radians, and 24 over the focal length in millimetres, 0 for parallel rays.

Axes: B rows, D domains, V views, C channels of the middle, E width of the time vector.
Source: Li et al. 2405.11616 (Era3D: elevation and focal length regression, "EFReg").
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from safelight.families.sd.model import UNet
from safelight.multiview.layouts import Views
from safelight.nn.embed import StepEmbedding
from safelight.nn.ports import Ascent

GUESSES: Final = ("elevation_regressor", "focal_regressor")
"""What is guessed, in the order in which it is told."""
TOLD: Final = "camera_embedding"


class Residual(nn.Module):
    """silu(x + linear(silu(linear x))): [..., E] -> [..., E]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear1 = nn.Linear(width, width)
        self.linear2 = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return F.silu(x + self.linear2(F.silu(self.linear1(x))))


class Regressor(nn.Module):
    """One number of features: [..., D * C] -> [..., 1]."""

    def __init__(self, source: int, width: int, depth: int) -> None:
        super().__init__()
        self.linear_in = nn.ModuleList([nn.Linear(source, width)])
        self.blocks = nn.ModuleList(Residual(width) for _ in range(depth))
        self.linear_out = nn.Linear(width, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.silu(self.linear_in[0](x))
        for block in self.blocks:
            x = block(x)
        return self.linear_out(x)


def guessing(unet: UNet, depth: int, domains: int) -> UNet:
    """The same U-Net with the layers of a guess.

    Changes it where it is, and gives it back.

    Args:
        depth: residual layers of each regressor. domains: D.
    """
    width = unet.time_embedding.linear_2.out_features
    for name in GUESSES:
        unet.add_module(name, Regressor(domains * unet.config.block_out_channels[-1], width, depth))
    unet.add_module(TOLD, StepEmbedding(2 * len(GUESSES), width))
    return unet


def ascent(unet: UNet, views: Views) -> Ascent:
    """What stands in the port ``ascent``.

    Args:
        unet: one that is `guessing`. views: how the pictures of the batch are sets.
    """

    def told(x: Tensor, time: Tensor) -> Tensor:
        seen = x.mean((2, 3)).unflatten(0, (-1, views.domains, views.n)).transpose(1, 2).flatten(2)  # [B, V, D * C]
        guess = torch.cat([unet.get_submodule(name)(seen).mean(1) for name in GUESSES], -1)
        way = unet.get_submodule(TOLD)(torch.cat([guess.sin(), guess.cos()], -1))
        return time + way.repeat_interleave(views.slots, 0)

    return told
