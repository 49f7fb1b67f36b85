"""The convolutional blocks of latent diffusion: residual block, halving and doubling of the grid.

Axes: B rows, C channels, h w grid, E width of the time vector. Source: Rombach et al. 2022, "High-Resolution Image
Synthesis with Latent Diffusion Models", appendix E; He et al. 2016, "Identity Mappings in Deep Residual Networks".
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class ResnetBlock(nn.Module):
    """x + conv(silu(norm(conv(silu(norm(x))) + time))): [B, C_in, h, w] -> [B, C_out, h, w].

    Args:
        channels, out: C_in and C_out; a 1 x 1 convolution carries x across when they differ.
        time_width: E, or 0 for a block that is told no time (autoencoders).
        groups: groups of the normalisations.
        eps: their epsilon: 1e-5 in U-Nets, 1e-6 in autoencoders.
    """

    def __init__(self, channels: int, out: int, *, time_width: int = 0, groups: int = 32, eps: float = 1e-5) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, channels, eps)
        self.conv1 = nn.Conv2d(channels, out, 3, padding=1)
        self.time_emb_proj = nn.Linear(time_width, out) if time_width else None
        self.norm2 = nn.GroupNorm(groups, out, eps)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1)
        self.conv_shortcut = nn.Conv2d(channels, out, 1) if channels != out else None

    def forward(self, x: Tensor, time: Tensor | None = None) -> Tensor:
        """``time`` is [B, E]; required exactly when the block was built with a time width."""
        y = self.conv1(F.silu(self.norm1(x)))
        if self.time_emb_proj is not None and time is not None:
            y = y + self.time_emb_proj(F.silu(time))[:, :, None, None]
        y = self.conv2(F.silu(self.norm2(y)))
        return y + (x if self.conv_shortcut is None else self.conv_shortcut(x))


class Downsample(nn.Module):
    """Halve the grid with a strided convolution.

    ``asymmetric`` pads right and bottom only, so that output pixel 0 looks at input pixels 0..2 (autoencoders);
    otherwise one pixel on every side (U-Nets).
    """

    def __init__(self, channels: int, *, asymmetric: bool = False) -> None:
        super().__init__()
        self.asymmetric = asymmetric
        self.conv = nn.Conv2d(channels, channels, 3, stride=2, padding=0 if asymmetric else 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pad(x, (0, 1, 0, 1)) if self.asymmetric else x)


class Upsample(nn.Module):
    """Double the grid by repeating pixels, then convolve."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        """``size`` (h, w) replaces the doubling where the grid on the way down was odd."""
        return self.conv(F.interpolate(x, size=size or (2 * x.shape[-2], 2 * x.shape[-1]), mode="nearest"))
