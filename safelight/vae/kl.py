"""The autoencoder of latent diffusion with a diagonal Gaussian in the middle; released diffusers names.

Axes: B rows, C channels, H W pixels, h w latents, Z latent channels.
Source: Rombach et al. 2022, "High-Resolution Image Synthesis with Latent Diffusion Models", section 3.1 and appendix G;
Kingma & Welling 2014, "Auto-Encoding Variational Bayes", equation 10 (the divergence).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F

from safelight.errors import ConfigError
from safelight.nn.attention import Attention, Beside
from safelight.nn.config import DEEPEST, from_released, per_level, positive
from safelight.nn.resnet import Downsample, ResnetBlock, Upsample
from safelight.vae.latent import LatentSpec

FIXED: dict[str, tuple[Any, ...]] = {"act_fn": ("silu", "swish"), "latents_mean": (None,), "latents_std": (None,)}
EPS = 1e-6  # of every normalisation in this network; the U-Net's is 1e-5


@dataclass(frozen=True)
class KLConfig:
    """The shape of an autoencoder, under the names of the released ``config.json``.

    `scaling_factor` is absent from the oldest files, which all mean 0.18215. `force_upcast` says that the network
    overflows in float16 (SDXL's own does).
    """

    in_channels: int = 3
    out_channels: int = 3
    down_block_types: tuple[str, ...] | None = None
    up_block_types: tuple[str, ...] | None = None
    block_out_channels: tuple[int, ...] = (128, 256, 512, 512)
    layers_per_block: int = 2
    latent_channels: int = 4
    norm_num_groups: int = 32
    sample_size: int = 512
    scaling_factor: float = 0.18215
    shift_factor: float = 0.0
    force_upcast: bool = False
    use_quant_conv: bool = True
    use_post_quant_conv: bool = True
    mid_block_add_attention: bool = True

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> KLConfig:
        """Read a released ``config.json``.

        Raises:
            ConfigError: it describes a network that this class is not; the message names the key.
        """
        if raw.get("_class_name", "AutoencoderKL") != "AutoencoderKL":
            raise ConfigError(f"the configuration is of a {raw['_class_name']}; an AutoencoderKL is expected")
        return from_released(cls, raw, fixed=FIXED)

    def __post_init__(self) -> None:
        positive(self, "in_channels", "out_channels", "block_out_channels", "latent_channels", "norm_num_groups")
        positive(self, "layers_per_block", most=DEEPEST)
        if self.layers_per_block * len(self.block_out_channels) > DEEPEST:
            raise ConfigError(f"KLConfig: more than {DEEPEST} layers in all; the largest of these networks has 12")
        if self.scaling_factor <= 0:
            raise ConfigError(f"scaling_factor = {self.scaling_factor} must be above 0")
        for name, known in (("down_block_types", "DownEncoderBlock2D"), ("up_block_types", "UpDecoderBlock2D")):
            kinds = getattr(self, name)
            if kinds is not None and set(per_level(name, kinds, len(self.block_out_channels))) != {known}:
                raise ConfigError(f"{name} = {kinds!r} is not supported; this network is built of {known} only")
        if any(channels % self.norm_num_groups for channels in self.block_out_channels):
            raise ConfigError(f"block_out_channels must be multiples of norm_num_groups = {self.norm_num_groups}")

    @property
    def stride(self) -> int:
        """Pixels per latent along an edge: 8 for four levels."""
        return 2 ** (len(self.block_out_channels) - 1)

    def latent(self) -> LatentSpec:
        """What the rest of the program needs to know of the latents."""
        return LatentSpec(self.latent_channels, self.stride, self.scaling_factor, self.shift_factor)


class Gaussian(NamedTuple):
    """A diagonal Gaussian over latents; `mean` and `logvar` are [B, Z, h, w], the latter within [-30, 20]."""

    mean: Tensor
    logvar: Tensor

    def mode(self) -> Tensor:
        """The most probable latents."""
        return self.mean

    def sample(self, noise: Tensor) -> Tensor:
        """One draw; ``noise`` is unit normal, shaped like `mean`."""
        return self.mean + (0.5 * self.logvar).exp() * noise

    def kl(self) -> Tensor:
        """Divergence from the unit normal, in nats per row: [B]."""
        terms = self.mean.square() + self.logvar.exp() - 1 - self.logvar
        return 0.5 * terms.flatten(1).sum(1)


class AutoencoderKL(nn.Module):
    """Pictures [B, 3, H, W] in [-1, 1] to latents [B, Z, H / stride, W / stride] and back.

    The latents here are the network's own; `LatentSpec` scales them to the unit variance that a U-Net is trained on.
    """

    def __init__(self, config: KLConfig) -> None:
        super().__init__()
        self.config = config
        z = config.latent_channels
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.quant_conv = nn.Conv2d(2 * z, 2 * z, 1) if config.use_quant_conv else None
        self.post_quant_conv = nn.Conv2d(z, z, 1) if config.use_post_quant_conv else None

    def encode(self, x: Tensor) -> Gaussian:
        """[B, in_channels, H, W] in [-1, 1] -> the Gaussian of its latents; H and W are multiples of the stride."""
        moments = self.encoder(x)
        if self.quant_conv is not None:
            moments = self.quant_conv(moments)
        mean, logvar = moments.chunk(2, dim=1)
        return Gaussian(mean, logvar.clamp(-30.0, 20.0))

    def decode(self, z: Tensor) -> Tensor:
        """[B, Z, h, w] -> [B, out_channels, h * stride, w * stride], about [-1, 1]; not clamped."""
        return self.decoder(z if self.post_quant_conv is None else self.post_quant_conv(z))

    def forward(self, x: Tensor, noise: Tensor) -> tuple[Tensor, Gaussian]:
        """A training step's view: the reconstruction of ``x`` through one draw, and the Gaussian it was drawn from."""
        gaussian = self.encode(x)
        return self.decode(gaussian.sample(noise)), gaussian


class PixelAttention(Attention):
    """One head over all pixels, normalised before and added after: [B, C, h, w] -> [B, C, h, w]."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__(channels, 1, bias=True)
        self.group_norm = nn.GroupNorm(groups, channels, EPS)

    def forward(self, x: Tensor, context: Tensor | None = None, beside: Beside | None = None) -> Tensor:
        tokens = self.group_norm(x).flatten(2).transpose(1, 2)
        return x + super().forward(tokens, context, beside).transpose(1, 2).reshape(x.shape)


class Middle(nn.Module):
    """Residual block, attention over the pixels, residual block."""

    def __init__(self, config: KLConfig) -> None:
        super().__init__()
        channels, groups = config.block_out_channels[-1], config.norm_num_groups
        self.resnets = nn.ModuleList(ResnetBlock(channels, channels, groups=groups, eps=EPS) for _ in range(2))
        count = 1 if config.mid_block_add_attention else 0
        self.attentions = nn.ModuleList(PixelAttention(channels, groups) for _ in range(count))

    def forward(self, x: Tensor) -> Tensor:
        x = self.resnets[0](x)
        for attention in self.attentions:
            x = attention(x)
        return self.resnets[1](x)


class DownStage(nn.Module):
    """Residual blocks, then a halving of the grid except at the coarsest level."""

    def __init__(self, channels: int, out: int, config: KLConfig, *, last: bool) -> None:
        super().__init__()
        ins = [channels] + [out] * (config.layers_per_block - 1)
        self.resnets = nn.ModuleList(ResnetBlock(i, out, groups=config.norm_num_groups, eps=EPS) for i in ins)
        self.downsamplers = None if last else nn.ModuleList([Downsample(out, asymmetric=True)])

    def forward(self, x: Tensor) -> Tensor:
        for resnet in self.resnets:
            x = resnet(x)
        return x if self.downsamplers is None else self.downsamplers[0](x)


class UpStage(nn.Module):
    """One residual block more than on the way down, then a doubling of the grid except at the finest level."""

    def __init__(self, channels: int, out: int, config: KLConfig, *, last: bool) -> None:
        super().__init__()
        ins = [channels] + [out] * config.layers_per_block
        self.resnets = nn.ModuleList(ResnetBlock(i, out, groups=config.norm_num_groups, eps=EPS) for i in ins)
        self.upsamplers = None if last else nn.ModuleList([Upsample(out)])

    def forward(self, x: Tensor) -> Tensor:
        for resnet in self.resnets:
            x = resnet(x)
        return x if self.upsamplers is None else self.upsamplers[0](x)


class Encoder(nn.Module):
    """[B, in_channels, H, W] -> the raw moments [B, 2 Z, h, w]."""

    def __init__(self, config: KLConfig) -> None:
        super().__init__()
        widths = config.block_out_channels
        self.conv_in = nn.Conv2d(config.in_channels, widths[0], 3, padding=1)
        pairs = zip((widths[0], *widths[:-1]), widths, strict=True)
        last = len(widths) - 1
        self.down_blocks = nn.ModuleList(DownStage(i, o, config, last=k == last) for k, (i, o) in enumerate(pairs))
        self.mid_block = Middle(config)
        self.conv_norm_out = nn.GroupNorm(config.norm_num_groups, widths[-1], EPS)
        self.conv_out = nn.Conv2d(widths[-1], 2 * config.latent_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_in(x)
        for block in self.down_blocks:
            x = block(x)
        x = self.mid_block(x)
        return self.conv_out(F.silu(self.conv_norm_out(x)))


class Decoder(nn.Module):
    """[B, Z, h, w] -> [B, out_channels, H, W]."""

    def __init__(self, config: KLConfig) -> None:
        super().__init__()
        widths = config.block_out_channels[::-1]
        self.conv_in = nn.Conv2d(config.latent_channels, widths[0], 3, padding=1)
        self.mid_block = Middle(config)
        pairs = zip((widths[0], *widths[:-1]), widths, strict=True)
        last = len(widths) - 1
        self.up_blocks = nn.ModuleList(UpStage(i, o, config, last=k == last) for k, (i, o) in enumerate(pairs))
        self.conv_norm_out = nn.GroupNorm(config.norm_num_groups, widths[-1], EPS)
        self.conv_out = nn.Conv2d(widths[-1], config.out_channels, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        x = self.mid_block(self.conv_in(z))
        for block in self.up_blocks:
            x = block(x)
        return self.conv_out(F.silu(self.conv_norm_out(x)))
