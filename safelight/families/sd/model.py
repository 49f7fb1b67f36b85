"""The U-Net of Stable Diffusion 1, 2 and XL, read top to bottom; released diffusers names, so files load as they are.

Axes: B rows, C channels, h w grid of latents, M text tokens, X their width, E = 4 * C_0 width of the time vector.
Source: Rombach et al. 2022, "High-Resolution Image Synthesis with Latent Diffusion Models", appendix E; Podell et al.
2023, "SDXL", sections 2.1 and 2.2 (sizes, pooled text).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from safelight.errors import ConfigError, RequestError
from safelight.nn.attention import Attention
from safelight.nn.config import DEEPEST, from_released, per_level, positive
from safelight.nn.embed import StepEmbedding, sinusoid
from safelight.nn.ports import NO_PORTS, Ports
from safelight.nn.resnet import Downsample, ResnetBlock, Upsample
from safelight.nn.transformer import Shape, SpatialTransformer, TransformerBlock

FIXED: dict[str, tuple[Any, ...]] = {
    "_class_name": ("UNet2DConditionModel",),
    "act_fn": ("silu", "swish"),
    "attention_type": ("default",),
    "center_input_sample": (False,),
    "class_embeddings_concat": (False,),
    "conv_in_kernel": (3,),
    "conv_out_kernel": (3,),
    "cross_attention_norm": (None,),
    "downsample_padding": (1,),
    "dual_cross_attention": (False,),
    "encoder_hid_dim": (None,),
    "encoder_hid_dim_type": (None,),
    "mid_block_only_cross_attention": (None, False),
    "mid_block_scale_factor": (1,),
    "mid_block_type": ("UNetMidBlock2DCrossAttn",),
    "norm_eps": (1e-5,),
    "num_attention_heads": (None,),
    "resnet_out_scale_factor": (1,),
    "resnet_skip_time_act": (False,),
    "resnet_time_scale_shift": ("default",),
    "reverse_transformer_layers_per_block": (None,),
    "time_embedding_act_fn": (None,),
    "time_embedding_dim": (None,),
    "time_embedding_type": ("positional",),
    "timestep_post_act": (None,),
}
MOST_BLOCKS = 512
"""Residual and transformer blocks of a network; a configuration can ask for millions, which takes hours to refuse."""
IGNORED = frozenset({"addition_embed_type_num_heads", "dropout"})


@dataclass(frozen=True)
class UNetConfig:
    """The shape of a U-Net, under the names of the released ``config.json``.

    `attention_head_dim` is the **number of heads**, one for all levels or one per level: the released files are named
    wrongly and every one of them means that. The other per-level settings are one value or one for each level, too.
    """

    sample_size: int = 64
    in_channels: int = 4
    out_channels: int = 4
    block_out_channels: tuple[int, ...] = (320, 640, 1280, 1280)
    down_block_types: tuple[str, ...] = ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",)
    up_block_types: tuple[str, ...] = ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3
    layers_per_block: int = 2
    transformer_layers_per_block: int | tuple[int, ...] = 1
    attention_head_dim: int | tuple[int, ...] = 8
    cross_attention_dim: int = 768
    norm_num_groups: int = 32
    use_linear_projection: bool = False
    only_cross_attention: bool | tuple[bool, ...] = False
    upcast_attention: bool = False
    flip_sin_to_cos: bool = True
    freq_shift: float = 0
    addition_embed_type: str | None = None
    addition_time_embed_dim: int | None = None
    projection_class_embeddings_input_dim: int | None = None
    num_class_embeds: int | None = None
    class_embed_type: str | None = None
    time_cond_proj_dim: int | None = None

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> UNetConfig:
        """Read a released ``config.json``.

        Raises:
            ConfigError: it describes a network that this class is not; the message names the key.
        """
        if raw.get("_class_name", "UNet2DConditionModel") not in FIXED["_class_name"]:
            raise ConfigError(f"the configuration is of a {raw['_class_name']}; a UNet2DConditionModel is expected")
        return from_released(cls, raw, fixed=FIXED, ignored=IGNORED)

    def __post_init__(self) -> None:
        positive(self, "in_channels", "out_channels", "block_out_channels", "norm_num_groups", "sample_size")
        positive(self, "attention_head_dim", "cross_attention_dim")
        positive(self, "layers_per_block", "transformer_layers_per_block", most=DEEPEST)
        widths = ("addition_time_embed_dim", "projection_class_embeddings_input_dim", "time_cond_proj_dim")
        positive(self, *(name for name in (*widths, "num_class_embeds") if getattr(self, name) is not None))
        n = len(self.block_out_channels)
        for name, cross, plain in (
            ("down_block_types", "CrossAttnDownBlock2D", "DownBlock2D"),
            ("up_block_types", "CrossAttnUpBlock2D", "UpBlock2D"),
        ):
            for kind in per_level(name, getattr(self, name), n):
                if kind not in (cross, plain):
                    raise ConfigError(f"{name}: unknown block {kind!r}; this network is built of {cross} and {plain}")
        if self.addition_embed_type not in (None, "text_time"):
            raise ConfigError(f"addition_embed_type = {self.addition_embed_type!r} is not supported; only 'text_time'")
        if self.addition_embed_type and None in (getattr(self, name) for name in widths[:2]):
            raise ConfigError("text_time needs addition_time_embed_dim and projection_class_embeddings_input_dim")
        if self.class_embed_type not in (None, "projection"):
            raise ConfigError(f"class_embed_type = {self.class_embed_type!r} is not supported; only 'projection'")
        if self.class_embed_type and (self.num_class_embeds or self.addition_embed_type or not self.projection_width):
            said = f"class_embed_type = {self.class_embed_type!r}"
            raise ConfigError(f"{said} needs projection_class_embeddings_input_dim, and nothing else beside")
        for level, channels in enumerate(self.block_out_channels):
            heads = self.transformer(level).heads
            if channels % heads or channels % self.norm_num_groups:
                raise ConfigError(
                    f"level {level}: {channels} channels must be a multiple of its {heads} heads (attention_head_dim)"
                    f" and of norm_num_groups = {self.norm_num_groups}"
                )

        blocks = sum(self.transformer(level).depth + 1 for level in range(n)) * (2 * self.layers_per_block + 1)
        if blocks > MOST_BLOCKS:
            raise ConfigError(f"{blocks} blocks in all; the largest of these networks has 80; at most {MOST_BLOCKS}")

    @property
    def projection_width(self) -> int:
        """How many numbers are told beside the time, as sizes of pictures or as a camera."""
        return self.projection_class_embeddings_input_dim or 0

    def transformer(self, level: int, *, middle: bool = False) -> Shape:
        """The shape of the transformers at a level, 0 the finest; the middle block never looks at the text only."""
        n = len(self.block_out_channels)
        only_cross = per_level("only_cross_attention", self.only_cross_attention, n)[level]
        return Shape(
            heads=per_level("attention_head_dim", self.attention_head_dim, n)[level],
            context_width=self.cross_attention_dim,
            depth=per_level("transformer_layers_per_block", self.transformer_layers_per_block, n)[level],
            linear=self.use_linear_projection,
            groups=self.norm_num_groups,
            only_cross=bool(only_cross) and not middle,
            upcast=self.upcast_attention,
        )


@dataclass(frozen=True)
class Added:
    """What some U-Nets are told beside the time and the text; each field is required by the networks that have it.

    Attributes:
        pooled: [B, P] projected text (SDXL). times: [B, 6] original height and width, top and left of the crop, target
            height and width, in pixels (SDXL; the refiner's 5 end in an aesthetic score, around 6).
        labels: [B] whole numbers: a class, or the noise level of a picture to enlarge; [B, P] numbers where classes are
            projected (a camera): there nothing is told where they are not given.
        guidance: [B, time_cond_proj_dim], the embedded guidance scale of a latent consistency model.
    """

    pooled: Tensor | None = None
    times: Tensor | None = None
    labels: Tensor | None = None
    guidance: Tensor | None = None


class Trunk(Protocol):
    """What the way down is told through; a U-Net has it, and so has a network that is built beside one."""

    time_embedding: StepEmbedding
    add_embedding: StepEmbedding | None

    @property
    def class_embedding(self) -> nn.Module | None: ...

    @property
    def config(self) -> UNetConfig: ...


class UNet(nn.Module):
    """Predicts what `scheduler_config.json` says (eps, v or x0) from noisy latents, their time and a text.

    Build it under ``torch.device("meta")`` to load weights into; anywhere else it has PyTorch's random weights.
    """

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        widths, time = config.block_out_channels, 4 * config.block_out_channels[0]
        self.conv_in = nn.Conv2d(config.in_channels, widths[0], 3, padding=1)
        self.time_embedding = StepEmbedding(widths[0], time, config.time_cond_proj_dim or 0)
        self.class_embedding: nn.Module | None = None
        if config.class_embed_type:
            self.class_embedding = StepEmbedding(config.projection_width, time)
        elif config.num_class_embeds:
            self.class_embedding = nn.Embedding(config.num_class_embeds, time)
        self.add_embedding = StepEmbedding(config.projection_width, time) if config.addition_embed_type else None
        self.down_blocks = nn.ModuleList(DownBlock(config, level) for level in range(len(widths)))
        self.mid_block = MidBlock(config)
        self.up_blocks = nn.ModuleList(UpBlock(config, level) for level in reversed(range(len(widths))))
        self.conv_norm_out = nn.GroupNorm(config.norm_num_groups, widths[0], 1e-5)
        self.conv_out = nn.Conv2d(widths[0], config.out_channels, 3, padding=1)
        for name, layer in self.named_modules():
            if isinstance(layer, Attention | TransformerBlock | DownBlock | MidBlock | UpBlock):
                layer.name = name

    def forward(
        self, x: Tensor, t: Tensor, context: Tensor, *, added: Added | None = None, ports: Ports = NO_PORTS
    ) -> Tensor:
        """One prediction.

        Args:
            x: [B, in_channels, h, w] noisy latents, scaled to unit variance at the noisiest level.
            t: [B] time labels, 0 (clean) to 999 (noise); fractions are allowed.
            context: [B, M, cross_attention_dim] text.
            added: what this network is told besides; see `Added`.
            ports: what adapters feed; see `Ports`.

        Returns:
            [B, out_channels, h, w].

        Raises:
            RequestError: the network needs something that ``added`` lacks, or a port has the wrong number of tensors.
        """
        time = embed(self, x, t, added or Added())
        x = self.conv_in(x)
        skips = [x]
        if len(ports.block_residuals) > len(self.down_blocks):
            given = len(ports.block_residuals)
            raise RequestError(f"{given} block residuals given; the way down has {len(self.down_blocks)} blocks")
        for block, residual in zip_longest(self.down_blocks, ports.block_residuals):
            x, made = block(x, time, context, ports, residual)
            skips.extend(made)
        if ports.residuals:
            if len(ports.residuals) != len(skips):
                raise RequestError(f"{len(ports.residuals)} residuals given; the network has {len(skips)} skips")
            skips = [skip + residual for skip, residual in zip(skips, ports.residuals, strict=True)]
        x = self.mid_block(x, time, context, ports)
        time = time if ports.ascent is None else ports.ascent(x, time)
        if ports.mid_residual is not None:
            x = x + ports.mid_residual
        count = self.config.layers_per_block + 1
        for block in self.up_blocks:
            skips, taken = skips[:-count], skips[-count:]
            x = block(x, taken, time, context, ports, skips[-1].shape[-2:] if skips else None)
        return self.conv_out(F.silu(self.conv_norm_out(x)))


def embed(network: Trunk, x: Tensor, t: Tensor, added: Added) -> Tensor:
    """The vector [B, E] that tells every block the time and what was added; in the dtype of ``x``.

    Raises:
        RequestError: the network needs something that ``added`` lacks.
    """
    config = network.config
    flip, shift = config.flip_sin_to_cos, config.freq_shift
    wave = sinusoid(t, config.block_out_channels[0], cosine_first=flip, shift=shift).to(x.dtype)
    if config.time_cond_proj_dim and added.guidance is None:
        raise RequestError("this network is told the guidance scale (time_cond_proj_dim); none was given")
    time = network.time_embedding(wave, added.guidance)
    if network.class_embedding is not None and not (config.class_embed_type and added.labels is None):
        if added.labels is None:
            raise RequestError("this network needs class labels (num_class_embeds); none were given")
        time = time + network.class_embedding(added.labels)
    if network.add_embedding is not None:
        if added.pooled is None or added.times is None:
            raise RequestError("this network needs pooled text and time ids (text_time); they were not given")
        width = config.addition_time_embed_dim or 0
        sizes = sinusoid(added.times.flatten(), width, cosine_first=flip, shift=shift).to(x.dtype)
        told = torch.cat([added.pooled, sizes.reshape(len(x), -1)], dim=-1)
        time = time + network.add_embedding(told.to(x.dtype))
    return time


class DownBlock(nn.Module):
    """Residual blocks, each followed by a transformer where the level has them, then a halving of the grid.

    `name` is the block's dotted name in its network, set by the network, as for the other blocks.
    """

    def __init__(self, config: UNetConfig, level: int) -> None:
        super().__init__()
        self.name = ""
        widths, n = config.block_out_channels, config.layers_per_block
        width, time, groups = widths[level], 4 * widths[0], config.norm_num_groups
        ins = [widths[max(level - 1, 0)]] + [width] * (n - 1)
        self.resnets = nn.ModuleList(ResnetBlock(i, width, time_width=time, groups=groups) for i in ins)
        attends = config.down_block_types[level] == "CrossAttnDownBlock2D"
        self.attentions = _transformers(width, config.transformer(level), n) if attends else None
        last = level == len(widths) - 1
        self.downsamplers = None if last else nn.ModuleList([Downsample(width)])

    def forward(
        self, x: Tensor, time: Tensor, context: Tensor, ports: Ports, residual: Tensor | None
    ) -> tuple[Tensor, list[Tensor]]:
        """[B, C, h, w] -> what it hands on, and the skip connections it made, in order."""
        made: list[Tensor] = []
        for index, resnet in enumerate(self.resnets):
            x = resnet(x, time)
            if self.attentions is not None:
                x = self.attentions[index](x, context, ports)
                if residual is not None and index == len(self.resnets) - 1:
                    x = x + residual
            x = x if ports.stage is None else ports.stage(f"{self.name}.{index}", x)
            made.append(x)
        if self.downsamplers is not None:
            x = self.downsamplers[0](x)
            made.append(x)
        if residual is not None and self.attentions is None:
            x = made[-1] = x + residual
        return x, made


class MidBlock(nn.Module):
    """Residual block, transformer, residual block on the coarsest grid: [B, C, h, w] -> [B, C, h, w]."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.name = ""
        width, time, groups = config.block_out_channels[-1], 4 * config.block_out_channels[0], config.norm_num_groups
        self.resnets = nn.ModuleList(ResnetBlock(width, width, time_width=time, groups=groups) for _ in range(2))
        coarsest = len(config.block_out_channels) - 1
        self.attentions = _transformers(width, config.transformer(coarsest, middle=True), 1)

    def forward(self, x: Tensor, time: Tensor, context: Tensor, ports: Ports) -> Tensor:
        x = self.resnets[0](x, time)
        x = self.attentions[0](x, context, ports)
        x = self.resnets[1](x, time)
        return x if ports.stage is None else ports.stage(f"{self.name}.0", x)


class UpBlock(nn.Module):
    """One more layer than on the way down, each joined by a skip connection, then a doubling of the grid."""

    def __init__(self, config: UNetConfig, level: int) -> None:
        super().__init__()
        self.name = ""
        widths, n = config.block_out_channels, config.layers_per_block + 1
        width, time, groups = widths[level], 4 * widths[0], config.norm_num_groups
        below, above = widths[min(level + 1, len(widths) - 1)], widths[max(level - 1, 0)]
        ins = [below + width] + [2 * width] * (n - 2) + [width + above]
        self.resnets = nn.ModuleList(ResnetBlock(i, width, time_width=time, groups=groups) for i in ins)
        attends = config.up_block_types[len(widths) - 1 - level] == "CrossAttnUpBlock2D"
        self.attentions = _transformers(width, config.transformer(level), n) if attends else None
        self.upsamplers = nn.ModuleList([Upsample(width)]) if level else None

    def forward(
        self,
        x: Tensor,
        skips: Sequence[Tensor],
        time: Tensor,
        context: Tensor,
        ports: Ports,
        size: tuple[int, int] | None,
    ) -> Tensor:
        """[B, C, h, w] -> [B, C, 2 h, 2 w] or ``size``, the grid of the next skip connections (None: there are none).

        ``skips`` are in the order in which they were made; the last is used first.
        """
        for index, resnet in enumerate(self.resnets):
            skip = skips[-1 - index]
            x, skip = (x, skip) if ports.join is None else ports.join(self.name, x, skip)
            x = resnet(torch.cat([x, skip], dim=1), time)
            if self.attentions is not None:
                x = self.attentions[index](x, context, ports)
            x = x if ports.stage is None else ports.stage(f"{self.name}.{index}", x)
        return x if self.upsamplers is None else self.upsamplers[0](x, size)


def _transformers(width: int, shape: Shape, count: int) -> nn.ModuleList:
    return nn.ModuleList(SpatialTransformer(width, shape) for _ in range(count))
