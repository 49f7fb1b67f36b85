"""Teach a small KL autoencoder the portraits, on crops and whole pictures by turns.

Axes: B pictures, 3 colours, S pixels; latents [B, Z, S / 8, S / 8]. The error is the mean absolute difference of
pixels, of their slopes (edges and small features count more than flat colour), and a whisper of divergence.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from safelight.train.figurines.portraits import Portraits, to_tensor
from safelight.train.order import generator, rows
from safelight.vae.kl import AutoencoderKL, KLConfig


@dataclass(frozen=True)
class Vae:
    """The autoencoder's shape and its objective.

    Attributes:
        channels: widths from the finest level to the coarsest; each level but the last halves the picture.
        crop: edge in pixels of the crops; whole pictures come in every ``whole_every``-th step.
        kl: weight of the divergence, in nats per latent number.
        slope: weight of the difference of slopes.
        decoder_only: keep the encoder as it is, so that latents already made stay valid.
    """

    channels: tuple[int, ...] = (32, 64, 96, 128)
    layers: int = 1
    groups: int = 16
    latent: int = 4
    crop: int = 64
    whole_every: int = 4
    kl: float = 1e-5
    slope: float = 1.0
    decoder_only: bool = False

    def config(self, size: int, scale: float = 1.0) -> KLConfig:
        """The released configuration for pictures of ``size`` pixels."""
        return KLConfig(
            block_out_channels=self.channels,
            down_block_types=("DownEncoderBlock2D",) * len(self.channels),
            up_block_types=("UpDecoderBlock2D",) * len(self.channels),
            layers_per_block=self.layers,
            norm_num_groups=self.groups,
            latent_channels=self.latent,
            sample_size=size,
            scaling_factor=scale,
        )


class Squeezing:
    """The task: give pictures back through 1/48 of their numbers."""

    def __init__(self, vae: Vae, portraits: Portraits, batch: int, seed: int) -> None:
        torch.manual_seed(seed)
        size = portraits.pictures.shape[1]
        self.module = AutoencoderKL(vae.config(size))
        if vae.decoder_only:
            for part in filter(None, (self.module.encoder, self.module.quant_conv)):
                part.requires_grad_(False)
        self.vae, self.portraits, self.batch, self.seed, self.size = vae, portraits, batch, seed, size

    def pictures(self, step: int) -> Tensor:
        """What step ``step`` sees: ``batch`` crops, or as many pixels in whole pictures."""
        vae = self.vae
        area = (self.size // vae.crop) ** 2
        whole = vae.crop >= self.size or step % vae.whole_every == 0
        count = max(1, self.batch // area) if whole else self.batch
        chosen = rows(self.seed, step, self.batch, len(self.portraits.pictures))[:count]
        pictures = to_tensor(self.portraits.pictures[chosen])
        if whole:
            return pictures
        corners = torch.randint(0, self.size - vae.crop + 1, (count, 2), generator=generator(self.seed, step, "crop"))
        cut = [p[:, y : y + vae.crop, x : x + vae.crop] for p, (y, x) in zip(pictures, corners.tolist(), strict=True)]
        return torch.stack(cut)

    def loss(self, step: int, part: slice) -> Tensor:
        """Pixels + slopes + divergence."""
        x = self.pictures(step)[part]
        posterior = self.module.encode(x)
        noise = torch.randn(posterior.mean.shape, generator=generator(self.seed, step, "posterior"))
        y = self.module.decode(posterior.sample(noise)).float()
        pixels = (x - y).abs().mean()
        slopes = sum(((x - y).diff(dim=axis)).abs().mean() for axis in (2, 3))
        nats = posterior.kl().float().mean() / posterior.mean[0].numel()
        return pixels + self.vae.slope * slopes + self.vae.kl * nats


@torch.no_grad()
def encode_all(vae: AutoencoderKL, portraits: Portraits, batch: int = 32) -> Tensor:
    """The most probable latents of all portraits, unscaled: [N, Z, h, w] float32."""
    parts = range(0, len(portraits.pictures), batch)
    return torch.cat([vae.encode(to_tensor(portraits.pictures[i : i + batch])).mode().float() for i in parts])


def preview_matrix(latents: Tensor, portraits: Portraits) -> list[list[float]]:
    """The linear map from scaled latents to colours that fits best: rows = latent channels and a constant, columns = RGB.

    Least squares over pictures averaged down to the latents' grid; colours in [-1, 1].
    """
    count = min(len(latents), 512)
    z = latents[:count]
    x = to_tensor(portraits.pictures[:count])
    small = torch.nn.functional.adaptive_avg_pool2d(x, z.shape[-1])
    inputs = z.permute(0, 2, 3, 1).flatten(0, 2)
    inputs = torch.cat([inputs, torch.ones(len(inputs), 1)], 1)
    return torch.linalg.lstsq(inputs, small.permute(0, 2, 3, 1).flatten(0, 2)).solution.tolist()
