"""Stage A of Stable Cascade: pictures to latents and back, four times smaller along each edge; released names.

Axes: B rows, C channels, H W pixels, h w latents, Z latent channels. Source: Rampas et al. 2022, "A Novel Sampling
Scheme for Text- and Image-Conditional Image Synthesis in Quantized Latent Spaces" (Paella), section 3.1. Its codebook
is in the files but not used: Stable Cascade draws latents that are not quantised.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from safelight.errors import ConfigError
from safelight.nn.config import DEEPEST, LEVELS, from_released, positive
from safelight.vae.latent import LatentSpec

EPS = 1e-6


@dataclass(frozen=True)
class StageAConfig:
    """The shape of the autoencoder, under the names of the released ``config.json``.

    `embed_dim` is the width of the coarsest level, halved at each finer one; `scale_factor` turns what the decoder
    network draws into latents.
    """

    in_channels: int = 3
    out_channels: int = 3
    up_down_scale_factor: int = 2
    levels: int = 2
    bottleneck_blocks: int = 12
    embed_dim: int = 384
    latent_channels: int = 4
    num_vq_embeddings: int = 8192
    scale_factor: float = 0.3764

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> StageAConfig:
        """Read a released ``config.json``.

        Raises:
            ConfigError: it describes a network that this class is not; the message names the key.
        """
        return from_released(cls, raw, fixed={"_class_name": ("PaellaVQModel",)})

    def __post_init__(self) -> None:
        positive(self, "in_channels", "out_channels", "up_down_scale_factor", "embed_dim", "latent_channels")
        positive(self, "num_vq_embeddings")
        positive(self, "bottleneck_blocks", most=DEEPEST)
        positive(self, "levels", most=LEVELS)
        if self.embed_dim % 2 ** (self.levels - 1) or self.scale_factor <= 0:
            raise ConfigError("embed_dim must halve once for each level but the coarsest, and scale_factor be above 0")

    @property
    def stride(self) -> int:
        """Pixels per latent along an edge: 4 for two levels of patches of 2."""
        return self.up_down_scale_factor * 2 ** (self.levels - 1)

    def latent(self) -> LatentSpec:
        """What the rest of the program needs to know of the latents."""
        return LatentSpec(self.latent_channels, self.stride, 1 / self.scale_factor)

    @property
    def force_upcast(self) -> bool:
        """Whether it overflows in float16; it does not."""
        return False


class Point(NamedTuple):
    """Latents [B, Z, h, w] without any spread, where other autoencoders answer with a Gaussian."""

    mean: Tensor

    def mode(self) -> Tensor:
        """The latents."""
        return self.mean


class StageA(nn.Module):
    """Pictures [B, 3, H, W] in [-1, 1] to latents [B, Z, H / stride, W / stride] and back."""

    def __init__(self, config: StageAConfig) -> None:
        super().__init__()
        self.config = config
        patch, z = config.up_down_scale_factor, config.latent_channels
        widths = [config.embed_dim // 2**k for k in range(config.levels)]  # the coarsest first
        fine = widths[::-1]
        self.in_block = nn.ModuleList([nn.Identity(), nn.Conv2d(config.in_channels * patch**2, fine[0], 1)])
        down: list[nn.Module] = []
        for level, width in enumerate(fine):
            down += [nn.Conv2d(fine[level - 1], width, 4, stride=2, padding=1)] if level else []
            down.append(MixingBlock(width))
        self.down_blocks = nn.Sequential(*down, nn.Sequential(nn.Conv2d(fine[-1], z, 1, bias=False), nn.BatchNorm2d(z)))
        self.vquantizer = Codebook(config.num_vq_embeddings, z)
        up: list[nn.Module] = [nn.Sequential(nn.Conv2d(z, widths[0], 1))]
        for level, width in enumerate(widths):
            up += [nn.ConvTranspose2d(widths[level - 1], width, 4, stride=2, padding=1)] if level else []
            up += [MixingBlock(width) for _ in range(1 if level else config.bottleneck_blocks)]
        self.up_blocks = nn.Sequential(*up)
        self.out_block = nn.ModuleList([nn.Conv2d(widths[-1], config.out_channels * patch**2, 1)])

    def encode(self, x: Tensor) -> Point:
        """[B, in_channels, H, W] in [-1, 1] -> latents [B, Z, h, w]; H and W are multiples of the stride."""
        patches = F.pixel_unshuffle((x + 1) / 2, self.config.up_down_scale_factor)  # the network's own range is [0, 1]
        return Point(self.down_blocks(self.in_block[1](patches)))

    def decode(self, z: Tensor) -> Tensor:
        """[B, Z, h, w] -> [B, out_channels, h * stride, w * stride], about [-1, 1]; not clamped."""
        return 2 * F.pixel_shuffle(self.out_block[0](self.up_blocks(z)), self.config.up_down_scale_factor) - 1


class Codebook(nn.Module):
    """The vectors of the released file, kept so that it loads whole."""

    def __init__(self, count: int, width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(count, width)


class MixingBlock(nn.Module):
    """Depthwise over the grid, then over the channels, both scaled and shifted by six learned numbers."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.depthwise = nn.Sequential(nn.ReplicationPad2d(1), nn.Conv2d(width, width, 3, groups=width))
        self.channelwise = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.gammas = nn.Parameter(torch.zeros(6))

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, h, w] -> [B, C, h, w]."""
        g = self.gammas
        x = x + self.depthwise((_normed(x) * (1 + g[0]) + g[1]).permute(0, 3, 1, 2)) * g[2]
        return x + self.channelwise(_normed(x) * (1 + g[3]) + g[4]).permute(0, 3, 1, 2) * g[5]


def _normed(x: Tensor) -> Tensor:
    """[B, C, h, w] -> [B, h, w, C], every place normalised over its channels."""
    return F.layer_norm(x.permute(0, 2, 3, 1), x.shape[1:2], eps=EPS)
