"""The U-Net of k-diffusion, as the x2 latent upscaler has it, read top to bottom; released diffusers names.

It differs from `UNet` in its order of operations: one skip connection a level, no middle block, normalisations whose
gain and shift follow the time, fixed filters between the levels, and random Fourier features of the noise.

Axes: B rows, C channels, h w grid of latents, M text tokens, X their width, E = 2 * C_0 width of the time vector.
Source: Crowson, k-diffusion (``image_v1``); Karras et al. 2206.00364, table 1 (what the network is told and shown).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from safelight.errors import ConfigError
from safelight.nn.attention import Attention, Beside
from safelight.nn.config import DEEPEST, from_released, positive
from safelight.nn.mlp import gelu

DOWN, CROSS_DOWN, CROSS_UP, UP = "KDownBlock2D", "KCrossAttnDownBlock2D", "KCrossAttnUpBlock2D", "KUpBlock2D"
GROUP = 32
"""Channels of a group of every normalisation."""
TAPS = (1 / 8, 3 / 8, 3 / 8, 1 / 8)
"""The filter between two levels, along each edge."""

FIXED: dict[str, tuple[Any, ...]] = {
    "_class_name": ("UNet2DConditionModel",),
    "act_fn": ("gelu",),
    "addition_embed_type": (None,),
    "attention_type": ("default",),
    "center_input_sample": (False,),
    "class_embed_type": (None,),
    "class_embeddings_concat": (False,),
    "conv_in_kernel": (1,),
    "conv_out_kernel": (1,),
    "cross_attention_norm": (None, "layer_norm"),
    "dual_cross_attention": (False,),
    "encoder_hid_dim": (None,),
    "encoder_hid_dim_type": (None,),
    "flip_sin_to_cos": (True,),
    "mid_block_type": (None,),
    "norm_eps": (1e-5,),
    "norm_num_groups": (None,),
    "num_attention_heads": (None,),
    "num_class_embeds": (None,),
    "only_cross_attention": (False, None),
    "resnet_out_scale_factor": (1,),
    "resnet_skip_time_act": (False,),
    "resnet_time_scale_shift": ("scale_shift",),
    "time_embedding_act_fn": (None,),
    "time_embedding_dim": (None,),
    "time_embedding_type": ("fourier",),
    "timestep_post_act": ("gelu",),
    "transformer_layers_per_block": (1,),
    "upcast_attention": (False,),
}
IGNORED = frozenset(
    {
        *("addition_embed_type_num_heads", "addition_time_embed_dim", "downsample_padding", "dropout", "freq_shift"),
        *("mid_block_only_cross_attention", "mid_block_scale_factor", "projection_class_embeddings_input_dim"),
        *("reverse_transformer_layers_per_block", "sample_size", "use_linear_projection"),
    }
)


@dataclass(frozen=True)
class KUNetConfig:
    """The shape of the network, under the names of the released ``config.json``.

    `attention_head_dim` is the **width of a head** here, unlike in the other U-Nets. `time_cond_proj_dim` is the width
    of the vector that is told beside the time.
    """

    in_channels: int = 8
    out_channels: int = 5
    block_out_channels: tuple[int, ...] = (384, 384, 768, 768)
    down_block_types: tuple[str, ...] = (DOWN, CROSS_DOWN, CROSS_DOWN, CROSS_DOWN)
    up_block_types: tuple[str, ...] = (CROSS_UP, CROSS_UP, CROSS_UP, UP)
    layers_per_block: int = 4
    attention_head_dim: int = 64
    cross_attention_dim: int = 768
    time_cond_proj_dim: int = 896

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> KUNetConfig:
        """Read a released ``config.json``.

        Raises:
            ConfigError: it describes a network that this class is not; the message names the key.
        """
        return from_released(cls, raw, fixed=FIXED, ignored=IGNORED)

    def __post_init__(self) -> None:
        positive(self, "in_channels", "out_channels", "block_out_channels", "attention_head_dim")
        positive(self, "cross_attention_dim", "time_cond_proj_dim")
        positive(self, "layers_per_block", most=DEEPEST)
        widths = self.block_out_channels
        if len(widths) < 2 or not widths[-1] == widths[-2] == 2 * widths[0]:
            raise ConfigError(f"block_out_channels = {widths}: the two coarsest must be twice as wide as the finest")
        crossed = len(widths) - 1
        for name, kinds in (
            ("down_block_types", (DOWN, *(CROSS_DOWN,) * crossed)),
            ("up_block_types", (*(CROSS_UP,) * crossed, UP)),
        ):
            if getattr(self, name) != kinds:
                raise ConfigError(f"{name} = {getattr(self, name)!r} is not supported; this network has {kinds!r}")
        if any(width % GROUP or width % self.attention_head_dim for width in widths):
            raise ConfigError(
                f"block_out_channels = {widths} must be multiples of {GROUP} and of attention_head_dim = "
                f"{self.attention_head_dim}"
            )


class KUNet(nn.Module):
    """Latents and the picture to enlarge, joined, to what is said of them: [B, in, h, w] -> [B, out, h, w].

    Build it under ``torch.device("meta")`` to load weights into; anywhere else it has PyTorch's random weights.
    """

    def __init__(self, config: KUNetConfig) -> None:
        super().__init__()
        self.config = config
        widths, time = config.block_out_channels, 2 * config.block_out_channels[0]
        self.conv_in = nn.Conv2d(config.in_channels, widths[0], 1)
        self.time_proj = Fourier(time)
        self.time_embedding = TimeEmbedding(time, config.time_cond_proj_dim)
        levels = range(len(widths))
        self.down_blocks = nn.ModuleList(KDown(config, level) for level in levels)
        self.up_blocks = nn.ModuleList(KUp(config, level) for level in reversed(levels))
        self.conv_out = nn.Conv2d(widths[0], config.out_channels, 1)
        for name, layer in self.named_modules():
            if isinstance(layer, Attention):
                layer.name = name

    def forward(self, x: Tensor, t: Tensor, context: Tensor, told: Tensor) -> Tensor:
        """One prediction.

        Args:
            x: [B, in_channels, h, w]; h and w are multiples of 2 at every level but the coarsest.
            t: [B], a quarter of the logarithm of sigma / alpha.
            context: [B, M, cross_attention_dim] text.
            told: [B, time_cond_proj_dim], what is told beside the time.

        Returns:
            [B, out_channels, h, w].
        """
        time = self.time_embedding(self.time_proj(t).to(x.dtype), told)
        x = self.conv_in(x)
        skips: list[Tensor] = []
        for block in self.down_blocks:
            x, kept = block(x, time, context)
            skips.append(kept)
        for block in self.up_blocks:
            x = block(x, skips.pop(), time, context)
        return self.conv_out(x)


class Fourier(nn.Module):
    """Cosines and sines of ``t`` at fixed random frequencies, kept in the file: [B] -> [B, width]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(width // 2), requires_grad=False)

    def forward(self, t: Tensor) -> Tensor:
        angles = 2 * math.pi * t.to(self.weight.dtype)[:, None] * self.weight
        return torch.cat([angles.cos(), angles.sin()], dim=-1)


class TimeEmbedding(nn.Module):
    """Linear, GELU, linear, GELU over the features [B, E] and a bias-free projection of the vector told beside them."""

    def __init__(self, width: int, told: int) -> None:
        super().__init__()
        self.cond_proj = nn.Linear(told, width, bias=False)
        self.linear_1 = nn.Linear(width, width)
        self.linear_2 = nn.Linear(width, width)

    def forward(self, x: Tensor, told: Tensor) -> Tensor:
        return gelu(self.linear_2(gelu(self.linear_1(x + self.cond_proj(told)))))


class KDown(nn.Module):
    """Residual blocks, each with attention but at the finest level, then a halving of the grid but at the coarsest."""

    def __init__(self, config: KUNetConfig, level: int) -> None:
        super().__init__()
        widths, n = config.block_out_channels, config.layers_per_block
        width, time = widths[level], 2 * widths[0]
        ins = [widths[max(level - 1, 0)]] + [width] * (n - 1)
        self.resnets = nn.ModuleList(KResnet(i, width, width, time) for i in ins)
        deepest = level == len(widths) - 1
        looks = [KAttention(config, width, time, itself=deepest) for _ in range(n if level else 0)]
        self.attentions = nn.ModuleList(looks) if looks else None
        self.halves = not deepest

    def forward(self, x: Tensor, time: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """[B, C, h, w] -> what it hands on, and what it keeps for the way up."""
        for index, resnet in enumerate(self.resnets):
            x = resnet(x, time)
            if self.attentions is not None:
                x = self.attentions[index](x, time, context)
        return (halved(x) if self.halves else x), x


class KUp(nn.Module):
    """What was kept joined in, but at the coarsest level; residual blocks as on the way down; then a doubling."""

    def __init__(self, config: KUNetConfig, level: int) -> None:
        super().__init__()
        widths, n = config.block_out_channels, config.layers_per_block
        width, above, time = widths[level], widths[max(level - 1, 0)], 2 * widths[0]
        self.joins = level < len(widths) - 1
        ins = [2 * width if self.joins else width] + [width] * (n - 1)
        outs = [width] * (n - 1) + [above]
        self.resnets = nn.ModuleList(KResnet(i, width, o, time) for i, o in zip(ins, outs, strict=True))
        looks = [KAttention(config, o, time, itself=not self.joins) for o in (outs if level else ())]
        self.attentions = nn.ModuleList(looks) if looks else None
        self.doubles = level > 0

    def forward(self, x: Tensor, kept: Tensor, time: Tensor, context: Tensor) -> Tensor:
        """[B, C, h, w] and what the level kept -> [B, C', 2 h, 2 w], or h, w at the finest level."""
        if self.joins:
            x = torch.cat([x, kept], dim=1)
        for index, resnet in enumerate(self.resnets):
            x = resnet(x, time)
            if self.attentions is not None:
                x = self.attentions[index](x, time, context)
        return doubled(x) if self.doubles else x


class AdaGroupNorm(nn.Module):
    """A group normalisation whose gain and shift follow the time [B, E]: [B, C, h, w] -> [B, C, h, w]."""

    def __init__(self, time: int, width: int) -> None:
        super().__init__()
        self.groups = max(1, width // GROUP)
        self.linear = nn.Linear(time, 2 * width)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        gain, shift = self.linear(time)[:, :, None, None].chunk(2, dim=1)
        return F.group_norm(x, self.groups, eps=1e-5) * (1 + gain) + shift


class KResnet(nn.Module):
    """x + conv(gelu(norm(conv(gelu(norm(x)))))), normalised by the time: ``channels`` -> ``middle`` -> ``out``."""

    def __init__(self, channels: int, middle: int, out: int, time: int) -> None:
        super().__init__()
        self.norm1 = AdaGroupNorm(time, channels)
        self.conv1 = nn.Conv2d(channels, middle, 3, padding=1)
        self.norm2 = AdaGroupNorm(time, middle)
        self.conv2 = nn.Conv2d(middle, out, 3, padding=1)
        self.conv_shortcut = nn.Conv2d(channels, out, 1, bias=False) if channels != out else None

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        y = self.conv1(gelu(self.norm1(x, time)))
        y = self.conv2(gelu(self.norm2(y, time)))
        return y + (x if self.conv_shortcut is None else self.conv_shortcut(x))


class KAttention(nn.Module):
    """Attention to the picture itself where ``itself`` says so, then to the text; each added: shapes stay."""

    def __init__(self, config: KUNetConfig, width: int, time: int, *, itself: bool) -> None:
        super().__init__()
        heads = width // config.attention_head_dim
        self.norm1 = AdaGroupNorm(time, width) if itself else None
        self.attn1 = Attention(width, heads, bias=True) if itself else None
        self.norm2 = AdaGroupNorm(time, width)
        self.attn2 = TextAttention(width, heads, config.cross_attention_dim)

    def forward(self, x: Tensor, time: Tensor, context: Tensor) -> Tensor:
        if self.norm1 is not None and self.attn1 is not None:
            x = x + _grid(self.attn1(_tokens(self.norm1(x, time))), x)
        return x + _grid(self.attn2(_tokens(self.norm2(x, time)), context), x)


class TextAttention(Attention):
    """Attention to the text, which is normalised first."""

    def __init__(self, width: int, heads: int, context_width: int) -> None:
        super().__init__(width, heads, context_width, bias=True)
        self.norm_cross = nn.LayerNorm(context_width)

    def forward(self, x: Tensor, context: Tensor | None = None, beside: Beside | None = None) -> Tensor:
        return super().forward(x, None if context is None else self.norm_cross(context), beside)


def halved(x: Tensor) -> Tensor:
    """Every channel smoothed and halved: [B, C, 2 h, 2 w] -> [B, C, h, w]; edges are mirrored."""
    return F.conv2d(F.pad(x, (1, 1, 1, 1), "reflect"), _filter(x, 1.0), stride=2, groups=x.shape[1])


def doubled(x: Tensor) -> Tensor:
    """Every channel doubled and smoothed: [B, C, h, w] -> [B, C, 2 h, 2 w]; edges are mirrored."""
    wide = F.pad(x, (1, 1, 1, 1), "reflect")
    return F.conv_transpose2d(wide, _filter(x, 2.0), stride=2, padding=3, groups=x.shape[1])


def _filter(like: Tensor, scale: float) -> Tensor:
    taps = torch.tensor(TAPS, dtype=like.dtype, device=like.device) * scale
    return (taps[:, None] * taps).expand(like.shape[1], 1, -1, -1)


def _tokens(x: Tensor) -> Tensor:
    """[B, C, h, w] -> [B, h * w, C]."""
    return x.flatten(2).transpose(1, 2)


def _grid(x: Tensor, like: Tensor) -> Tensor:
    """[B, h * w, C] -> [B, C, h, w], the grid of ``like``."""
    return x.transpose(1, 2).reshape(like.shape)
