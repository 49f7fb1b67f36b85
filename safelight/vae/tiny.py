"""The tiny autoencoder TAESD, small enough to look at every step; released diffusers names.

Axes: B rows, Z latent channels, h w latents, H W pixels, C its only width.
Source: O. B. Bohan's TAESD, distilled from Stable Diffusion's own autoencoder; diffusers' AutoencoderTiny. Its latents
are those that a U-Net sees, so they need no scaling.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from safelight.errors import ConfigError
from safelight.nn.config import DEEPEST, from_released, positive

FIXED: dict[str, tuple[Any, ...]] = {
    "_class_name": ("AutoencoderTiny",),
    "act_fn": ("relu",),
    "upsample_fn": ("nearest",),
    "upsampling_scaling_factor": (2,),
    "scaling_factor": (1.0,),
    "shift_factor": (0.0,),
}
IGNORED = frozenset({"block_out_channels", "force_upcast", "latent_magnitude", "latent_shift"})
"""How latents are kept in eight bits is no part of the network."""
BOUND = 3.0
"""Latents beyond three deviations are bent back: nothing there was seen in training."""


@dataclass(frozen=True)
class TinyConfig:
    """The shape of a tiny autoencoder, under the names of the released ``config.json``; every level is equally wide."""

    in_channels: int = 3
    out_channels: int = 3
    encoder_block_out_channels: tuple[int, ...] = (64, 64, 64, 64)
    decoder_block_out_channels: tuple[int, ...] = (64, 64, 64, 64)
    latent_channels: int = 4
    num_encoder_blocks: tuple[int, ...] = (1, 3, 3, 3)
    num_decoder_blocks: tuple[int, ...] = (3, 3, 3, 1)

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> TinyConfig:
        """Read a released ``config.json``.

        Raises:
            ConfigError: it describes a network that this class is not; the message names the key.
        """
        if raw.get("_class_name", "AutoencoderTiny") != "AutoencoderTiny":
            raise ConfigError(f"the configuration is of a {raw['_class_name']}; an AutoencoderTiny is expected")
        return from_released(cls, raw, fixed=FIXED, ignored=IGNORED)

    def __post_init__(self) -> None:
        positive(self, "in_channels", "out_channels", "latent_channels")
        positive(self, "encoder_block_out_channels", "decoder_block_out_channels")
        positive(self, "num_encoder_blocks", "num_decoder_blocks", most=DEEPEST)
        for half in ("encoder", "decoder"):
            widths, counts = getattr(self, f"{half}_block_out_channels"), getattr(self, f"num_{half}_blocks")
            if len(set(widths)) != 1 or len(widths) != len(counts) or sum(counts) > DEEPEST:
                raise ConfigError(
                    f"{half}_block_out_channels = {widths} and num_{half}_blocks = {counts} must be equally many, the "
                    f"first all equal, and the blocks at most {DEEPEST} in all"
                )
        if len(self.num_encoder_blocks) != len(self.num_decoder_blocks):
            raise ConfigError("num_encoder_blocks and num_decoder_blocks must be equally many levels")

    @property
    def stride(self) -> int:
        """Pixels per latent along an edge: 8 for four levels."""
        return int(2 ** (len(self.num_decoder_blocks) - 1))


class AutoencoderTiny(nn.Module):
    """Pictures [B, 3, H, W] in [-1, 1] to latents [B, Z, H / stride, W / stride] as a U-Net sees them, and back."""

    def __init__(self, config: TinyConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder, self.decoder = Half(down(config)), Half(up(config))

    def encode(self, picture: Tensor) -> Tensor:
        """Colours -> latents."""
        latents: Tensor = self.encoder((picture + 1) / 2)
        return latents

    def decode(self, x: Tensor) -> Tensor:
        """Latents -> colours, of about [-1, 1]."""
        colours: Tensor = self.decoder(BOUND * torch.tanh(x / BOUND))
        return 2 * colours - 1


class Half(nn.Module):
    """Layers one after another; under the name that the released files have."""

    def __init__(self, layers: list[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        through: Tensor = self.layers(x)
        return through


class Block(nn.Module):
    """Three convolutions beside a shortcut: [B, C, h, w] -> [B, C, h, w]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        convs = [nn.Conv2d(width, width, 3, padding=1) for _ in range(3)]
        self.conv = nn.Sequential(convs[0], nn.ReLU(), convs[1], nn.ReLU(), convs[2])

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.conv(x) + x)


def down(config: TinyConfig) -> list[nn.Module]:
    """The layers that halve the grid at every level but the first."""
    width = config.encoder_block_out_channels[0]
    layers: list[nn.Module] = []
    for level, count in enumerate(config.num_encoder_blocks):
        first = nn.Conv2d(config.in_channels, width, 3, padding=1)
        layers.append(nn.Conv2d(width, width, 3, stride=2, padding=1, bias=False) if level else first)
        layers += [Block(width) for _ in range(count)]
    return [*layers, nn.Conv2d(width, config.latent_channels, 3, padding=1)]


def up(config: TinyConfig) -> list[nn.Module]:
    """The layers that double the grid at every level but the last."""
    width = config.decoder_block_out_channels[0]
    layers: list[nn.Module] = [nn.Conv2d(config.latent_channels, width, 3, padding=1), nn.ReLU()]
    for count in config.num_decoder_blocks[:-1]:
        layers += [Block(width) for _ in range(count)]
        layers += [nn.Upsample(scale_factor=2.0), nn.Conv2d(width, width, 3, padding=1, bias=False)]
    layers += [Block(width) for _ in range(config.num_decoder_blocks[-1])]
    return [*layers, nn.Conv2d(width, config.out_channels, 3, padding=1)]
