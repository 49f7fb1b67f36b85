"""Teach a small KL autoencoder the portraits, on crops and whole pictures by turns.

Axes: B pictures, 3 colours, S pixels; latents [B, Z, S / 8, S / 8]. The error is the mean absolute difference of
pixels, of their slopes (edges and small features count more than flat colour), and a whisper of divergence.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from safelight.errors import ConfigError
from safelight.generate.picture import colours
from safelight.train.figurines.places import PixelWeights
from safelight.train.figurines.portraits import Portraits
from safelight.train.order import first_weights, generator, rows
from safelight.train.settings import at_least
from safelight.vae.kl import AutoencoderKL, KLConfig


@dataclass(frozen=True)
class Vae:
    """The autoencoder's shape and its objective.

    Attributes:
        channels: widths from the finest level to the coarsest; each level but the last halves the picture.
        layers: residual blocks per level. groups: of every normalisation. latent: channels of the latents.
        crop: edge in pixels of the crops, a multiple of the stride. whole_every: one step in so many sees whole
            pictures; all do where the crop is not smaller than they are.
        kl: weight of the divergence, in nats per latent number.
        square: weight of the squared difference of pixels beside the absolute one.
        coarse: weight of the difference of averages over ``patch`` x ``patch`` pixels, which teaches colour early.
        slope: weight of the difference of slopes, which teaches edges.
        decoder_only: keep the encoder as it is, so that latents already made stay valid.

    Raises:
        ConfigError: a number out of its range.
    """

    channels: tuple[int, ...] = (32, 64, 96, 128)
    layers: int = 1
    groups: int = 16
    latent: int = 4
    crop: int = 64
    whole_every: int = 4
    kl: float = 1e-5
    square: float = 4.0
    coarse: float = 4.0
    patch: int = 8
    slope: float = 0.5
    decoder_only: bool = False

    def __post_init__(self) -> None:
        stride = 2 ** (len(self.channels) - 1)
        if self.crop < stride or self.crop % stride:
            raise ConfigError(f"crop = {self.crop} must be a multiple of {stride}, the pixels per latent")
        at_least(self, whole_every=1, patch=1, kl=0, square=0, coarse=0, slope=0)

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
    """The task: give pictures back through a small part of their numbers (the default model's: 1/48).

    Args:
        batch: crops per step; a step of whole pictures sees as many pixels.
        device: where the network is trained.
        weights: how much each pixel of the portraits counts; None: all the same.
    """

    def __init__(
        self,
        vae: Vae,
        portraits: Portraits,
        batch: int,
        seed: int,
        device: str = "cpu",
        weights: PixelWeights | None = None,
    ) -> None:
        size = portraits.pictures.shape[1]
        with first_weights(seed):
            self.module = AutoencoderKL(vae.config(size)).to(device)
        if vae.decoder_only:
            for part in filter(None, (self.module.encoder, self.module.quant_conv)):
                part.requires_grad_(False)
        self.vae, self.portraits, self.batch, self.seed, self.size = vae, portraits, batch, seed, size
        self.device, self.weights = torch.device(device), weights

    def seen(self, step: int) -> Tensor:
        """What step ``step`` sees: ``batch`` crops, or as many pixels in whole pictures; [B, 4, S, S], the colours and
        how much a pixel counts."""
        vae = self.vae
        whole = vae.crop >= self.size or step % vae.whole_every == 0
        area = max(1, (self.size // vae.crop) ** 2)
        count = max(1, self.batch // area) if whole else self.batch
        chosen = rows(self.seed, step, self.batch, len(self.portraits.pictures))[:count]
        pictures = colours(self.portraits.pictures[chosen])
        counts = torch.ones_like(pictures[:, :1]) if self.weights is None else self.weights.of(chosen)[:, None]
        pictures = torch.cat([pictures, counts], 1)
        if whole:
            return pictures
        corners = torch.randint(0, self.size - vae.crop + 1, (count, 2), generator=generator(self.seed, step, "crop"))
        cut = [p[:, y : y + vae.crop, x : x + vae.crop] for p, (y, x) in zip(pictures, corners.tolist(), strict=True)]
        return torch.stack(cut)

    def loss(self, step: int, part: slice) -> Tensor:
        """Pixels + patches + slopes + divergence.

        Raises:
            ConfigError: so few whole pictures are seen at once that the parts of a batch cannot be equally long.
        """
        pictures, counts = self.seen(step).split([3, 1], 1)
        count, length = len(pictures), part.stop - part.start
        if count * length % self.batch:
            raise ConfigError(
                f"a step of whole pictures sees {count}, which do not divide into {self.batch // length} equal parts; "
                "lower accumulate or raise batch"
            )
        part = slice(part.start * count // self.batch, part.stop * count // self.batch)
        x, weight = pictures[part].to(self.device), counts[part].to(self.device)
        posterior = self.module.encode(x)
        noise = torch.randn((count, *posterior.mean.shape[1:]), generator=generator(self.seed, step, "posterior"))
        y = self.module.decode(posterior.sample(noise[part].to(self.device))).float()
        error = x - y
        beside = [(axis, error.shape[axis] - 1) for axis in (2, 3)]
        pixels = (weight * error.abs()).mean() + self.vae.square * (weight * error.square()).mean()
        coarse = F.avg_pool2d(error, self.vae.patch).abs().mean()
        slopes = sum((weight.narrow(axis, 1, steps) * error.diff(dim=axis).abs()).mean() for axis, steps in beside)
        nats = posterior.kl().float().mean() / posterior.mean[0].numel()
        return pixels + self.vae.coarse * coarse + self.vae.slope * slopes + self.vae.kl * nats


@torch.no_grad()
def encode_all(vae: AutoencoderKL, portraits: Portraits, batch: int = 32) -> Tensor:
    """The most probable latents of all portraits, unscaled: [N, Z, h, w] float32 on the CPU."""
    device = next(vae.parameters()).device
    parts = (portraits.pictures[i : i + batch] for i in range(0, len(portraits.pictures), batch))
    return torch.cat([vae.encode(colours(part).to(device)).mode().float().cpu() for part in parts])


def preview_matrix(latents: Tensor, portraits: Portraits) -> list[list[float]]:
    """The linear map from scaled latents [N, Z, h, w] to colours that fits best: Z rows and one for zeros; columns RGB.

    Least squares over pictures averaged down to the latents' grid; colours in [-1, 1].
    """
    count = min(len(latents), 512)
    z = latents[:count]
    x = colours(portraits.pictures[:count])
    small = torch.nn.functional.adaptive_avg_pool2d(x, z.shape[-1])
    inputs = z.permute(0, 2, 3, 1).flatten(0, 2)
    inputs = torch.cat([inputs, torch.ones(len(inputs), 1)], 1)
    return torch.linalg.lstsq(inputs, small.permute(0, 2, 3, 1).flatten(0, 2)).solution.tolist()
