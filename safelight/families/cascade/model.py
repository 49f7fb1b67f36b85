"""The network of Stable Cascade, its prior (stage C) and its decoder (stage B) alike; released diffusers names.

Axes: B rows, C channels, h w grid, M tokens, X their width (``conditioning_dim``), T width of the features of one time.
Source: Pernias et al. 2023, "Würstchen", section 3 and appendix; Woo et al. 2023, "ConvNeXt V2", section 3 (global
response normalisation); the released Stable Cascade.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from safelight.errors import ConfigError, RequestError
from safelight.nn.attention import Attention, attend, merge_heads, split_heads
from safelight.nn.config import DEEPEST, from_released, per_level, positive

RES, TIME, ATTENTION = "SDCascadeResBlock", "SDCascadeTimestepBlock", "SDCascadeAttnBlock"
PERIOD = 10_000.0
EPS = 1e-6
PER_LEVEL = (
    *("num_attention_heads", "down_num_layers_per_block", "up_num_layers_per_block"),
    *("down_blocks_repeat_mappers", "up_blocks_repeat_mappers", "block_types_per_layer", "self_attn"),
)


@dataclass(frozen=True)
class CascadeConfig:
    """The shape of the network, under the names of the released ``config.json``; the way up lists its coarsest first.

    `clip_text_in_channels` and `clip_image_in_channels` are the prior's; `effnet_in_channels`, the width of what the
    prior draws, and `pixel_mapper_in_channels` are the decoder's. `timestep_conditioning_type` names further times,
    which are always 0. `switch_level` says between which levels the prior halves the grid.
    """

    in_channels: int = 16
    out_channels: int = 16
    timestep_ratio_embedding_dim: int = 64
    patch_size: int = 1
    conditioning_dim: int = 2048
    block_out_channels: tuple[int, ...] = (2048, 2048)
    num_attention_heads: tuple[int, ...] = (32, 32)
    down_num_layers_per_block: tuple[int, ...] = (8, 24)
    up_num_layers_per_block: tuple[int, ...] = (24, 8)
    down_blocks_repeat_mappers: tuple[int, ...] = (1, 1)
    up_blocks_repeat_mappers: tuple[int, ...] = (1, 1)
    block_types_per_layer: tuple[tuple[str, ...], ...] = ((RES, TIME, ATTENTION),) * 2
    clip_text_in_channels: int | None = None
    clip_text_pooled_in_channels: int = 1280
    clip_image_in_channels: int | None = None
    clip_seq: int = 4
    effnet_in_channels: int | None = None
    pixel_mapper_in_channels: int | None = None
    kernel_size: int = 3
    self_attn: bool | tuple[bool, ...] = True
    timestep_conditioning_type: tuple[str, ...] = ("sca", "crp")
    switch_level: tuple[bool, ...] | None = None

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> CascadeConfig:
        """Read a released ``config.json``.

        Raises:
            ConfigError: it describes a network that this class is not; the message names the key.
        """
        return from_released(cls, raw, fixed={"_class_name": ("StableCascadeUNet",)}, ignored={"dropout"})

    def __post_init__(self) -> None:
        positive(self, "in_channels", "out_channels", "patch_size", "conditioning_dim", "block_out_channels")
        positive(self, "clip_text_pooled_in_channels", "clip_seq", "kernel_size", "timestep_ratio_embedding_dim")
        positive(self, "down_num_layers_per_block", "up_num_layers_per_block", most=DEEPEST)
        positive(self, "down_blocks_repeat_mappers", "up_blocks_repeat_mappers", most=DEEPEST)
        wide = ("clip_text_in_channels", "clip_image_in_channels", "effnet_in_channels", "pixel_mapper_in_channels")
        positive(self, *(name for name in wide if getattr(self, name) is not None))
        if (self.clip_text_in_channels is None) != (self.clip_image_in_channels is None):
            raise ConfigError("clip_text_in_channels and clip_image_in_channels are both there, or neither is")
        n = len(self.block_out_channels)
        for name in PER_LEVEL:
            per_level(name, getattr(self, name), n)
        if self.switch_level is not None:
            per_level("switch_level", self.switch_level, n - 1)
        if self.kernel_size % 2 == 0 or self.timestep_ratio_embedding_dim < 4:
            raise ConfigError("kernel_size must be odd, and timestep_ratio_embedding_dim 4 or more")
        if unknown := set(self.timestep_conditioning_type) - {"sca", "crp"}:
            raise ConfigError(f"timestep_conditioning_type = {sorted(unknown)} is not supported; known are sca and crp")
        for kinds, width, heads in zip(self.block_types_per_layer, self.block_out_channels, self.num_attention_heads):
            if not kinds or kinds[0] != RES or not set(kinds) <= {RES, TIME, ATTENTION}:
                raise ConfigError(f"block_types_per_layer: a layer begins with {RES}, and has {TIME} and {ATTENTION}")
            if ATTENTION in kinds and (heads < 1 or width % heads):
                raise ConfigError(f"{width} channels must be a multiple of their {heads} heads (num_attention_heads)")


class CascadeUNet(nn.Module):
    """Predicts the noise in features of a picture (prior) or in latents of one (decoder): [B, C, h, w], shapes stay.

    Build it under ``torch.device("meta")`` to load weights into; anywhere else it has PyTorch's random weights.
    """

    def __init__(self, config: CascadeConfig) -> None:
        super().__init__()
        self.config = config
        widths, patch, condition = config.block_out_channels, config.patch_size, config.conditioning_dim
        n, first = len(widths), widths[0]
        self.effnet_mapper = _mapper(config.effnet_in_channels, first)
        self.pixels_mapper = _mapper(config.pixel_mapper_in_channels, first)
        tokens = condition * config.clip_seq
        self.clip_txt_pooled_mapper = nn.Linear(config.clip_text_pooled_in_channels, tokens)
        self.clip_txt_mapper = _linear(config.clip_text_in_channels, condition)
        self.clip_img_mapper = _linear(config.clip_image_in_channels, tokens)
        self.embedding = _listed({1: nn.Conv2d(config.in_channels * patch**2, first, 1)})
        up = range(n - 1, -1, -1)
        self.down_downscalers = nn.ModuleList(_scaler(config, level, up=False) for level in range(n))
        self.down_blocks = nn.ModuleList(_blocks(config, level, up=False) for level in range(n))
        self.down_repeat_mappers = nn.ModuleList(
            _repeats(widths[level], config.down_blocks_repeat_mappers[level]) for level in range(n)
        )
        self.up_upscalers = nn.ModuleList(_scaler(config, level, up=True) for level in up)
        self.up_blocks = nn.ModuleList(_blocks(config, level, up=True) for level in up)
        self.up_repeat_mappers = nn.ModuleList(
            _repeats(widths[level], config.up_blocks_repeat_mappers[n - 1 - level]) for level in up
        )
        self.clf = _listed({1: nn.Conv2d(first, config.out_channels * patch**2, 1)})
        for name, layer in self.named_modules():
            if isinstance(layer, Attention):
                layer.name = name

    def forward(
        self,
        x: Tensor,
        t: Tensor,
        pooled: Tensor,
        *,
        text: Tensor | None = None,
        image: Tensor | None = None,
        effnet: Tensor | None = None,
        heard: Tensor | None = None,
    ) -> Tensor:
        """One prediction.

        Args:
            x: [B, in_channels, h, w]; h and w are multiples of ``patch_size``.
            t: [B], 0 (clean) to 1 (noise).
            pooled: [B, clip_text_pooled_in_channels], the projected text.
            text: [B, M, clip_text_in_channels], and image: [B, clip_image_in_channels], zeros without one (prior).
            effnet: [B, effnet_in_channels, H, W], what the prior drew, of any size (decoder).
            heard: [B, M] booleans, False at tokens of the text that only fill it up; None where all are read (prior).

        Returns:
            [B, out_channels, h, w].

        Raises:
            RequestError: something that the network needs was not given.
        """
        time = self.times(t, x.dtype)
        told = Said(self.tell(pooled, text, image), heard)
        x = channel_norm(self.embedding[1](F.pixel_unshuffle(x, self.config.patch_size)))
        if self.effnet_mapper is not None:
            if effnet is None:
                raise RequestError("this network draws what a prior drew (effnet_in_channels); it was not given")
            seen = F.interpolate(effnet, size=x.shape[-2:], mode="bilinear", align_corners=True)
            x = x + _mapped(self.effnet_mapper, seen)
        if self.pixels_mapper is not None:  # no picture is ever shown: zeros, the same at every place
            x = x + _mapped(self.pixels_mapper, x.new_zeros(len(x), self.config.pixel_mapper_in_channels or 0, 1, 1))
        kept: list[Tensor] = []
        for scaler, blocks, repeats in zip(self.down_downscalers, self.down_blocks, self.down_repeat_mappers):
            x = _run(blocks, repeats, scaler(x), time, told, None)
            kept.append(x)
        skip = None  # the coarsest level goes straight up
        for scaler, blocks, repeats in zip(self.up_upscalers, self.up_blocks, self.up_repeat_mappers):
            x = scaler(_run(blocks, repeats, x, time, told, skip))
            kept.pop()
            skip = kept[-1] if kept else None
        return F.pixel_shuffle(self.clf[1](channel_norm(x)), self.config.patch_size)

    def times(self, t: Tensor, dtype: torch.dtype) -> tuple[Tensor, ...]:
        """Features [B, T] of the time, and of each further one, which is 0."""
        half = self.config.timestep_ratio_embedding_dim // 2
        wide = torch.promote_types(dtype, torch.float32)  # half precision has no room for 10 000 positions
        steps = torch.arange(half, dtype=torch.float32, device=t.device)
        frequencies = torch.exp(-math.log(PERIOD) / (half - 1) * steps)

        def waves(ratio: Tensor) -> Tensor:
            angles = (PERIOD * ratio)[:, None] * frequencies
            both = torch.cat([angles.sin(), angles.cos()], dim=1)
            return F.pad(both, (0, self.config.timestep_ratio_embedding_dim % 2)).to(dtype)

        now = t.to(wide)
        return waves(now), *(waves(torch.zeros_like(now)) for _ in self.config.timestep_conditioning_type)

    def tell(self, pooled: Tensor, text: Tensor | None, image: Tensor | None) -> Tensor:
        """What the attention layers read beside the grid: [B, M', X], normalised."""
        rows = self.clip_txt_pooled_mapper(pooled).unflatten(1, (self.config.clip_seq, -1))
        if self.clip_txt_mapper is not None and self.clip_img_mapper is not None:
            if text is None or image is None:
                raise RequestError("this network reads text and an image (clip_text_in_channels); one was not given")
            seen = self.clip_img_mapper(image).unflatten(1, (self.config.clip_seq, -1))
            rows = torch.cat([self.clip_txt_mapper(text), rows, seen], dim=1)
        return F.layer_norm(rows, rows.shape[-1:], eps=EPS)


class Said(NamedTuple):
    """What the attention layers read beside the grid: rows [B, M', X], and which of the first M are ``heard``."""

    rows: Tensor
    heard: Tensor | None

    def mask(self, places: int) -> Tensor | None:
        """What every place of a grid looks at, ``places`` of the grid before the rows: [B, 1, 1, places + M']."""
        if self.heard is None:
            return None
        after = self.rows.shape[1] - self.heard.shape[1]
        return F.pad(self.heard, (places, after), value=True)[:, None, None]


def _run(
    blocks: nn.Module, repeats: nn.Module, x: Tensor, time: tuple[Tensor, ...], told: Said, skip: Tensor | None
) -> Tensor:
    """The layers of a level, again after each of its repeats; the first is shown what the level kept."""
    between = [*repeats.children()]
    for turn in range(len(between) + 1):
        for place, block in enumerate(blocks.children()):
            if place == 0 and skip is not None:
                x = _fitted(x, skip)
            x = block(x, time, told, skip if place == 0 else None)
        x = between[turn](x) if turn < len(between) else x
    return x


class ResBlock(nn.Module):
    """x + perceptron(norm(depthwise(x))), a kept grid joined in before the perceptron: [B, C, h, w], shapes stay."""

    def __init__(self, width: int, kept: int, kernel: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(width, width, kernel, padding=kernel // 2, groups=width)
        layers = {0: nn.Linear(width + kept, 4 * width), 2: ResponseNorm(4 * width), 4: nn.Linear(4 * width, width)}
        self.channelwise = _listed(layers)

    def forward(self, x: Tensor, time: tuple[Tensor, ...], told: Said, kept: Tensor | None) -> Tensor:
        y = channel_norm(self.depthwise(x))
        y = (y if kept is None else torch.cat([y, kept], dim=1)).permute(0, 2, 3, 1)
        y = self.channelwise[4](self.channelwise[2](F.gelu(self.channelwise[0](y))))
        return x + y.permute(0, 3, 1, 2)


class ResponseNorm(nn.Module):
    """x + gain * x * (norm of its channel over the grid, by the mean of all channels') + shift: [B, h, w, C]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(1, 1, 1, width))
        self.beta = nn.Parameter(torch.zeros(1, 1, 1, width))

    def forward(self, x: Tensor) -> Tensor:
        strength = torch.linalg.vector_norm(x, dim=(1, 2), keepdim=True)
        return self.gamma * (x * (strength / (strength.mean(dim=-1, keepdim=True) + EPS))) + self.beta + x


class TimeBlock(nn.Module):
    """x * (1 + gain) + shift, both the sum of what each time says: [B, C, h, w], shapes stay."""

    def __init__(self, width: int, time: int, further: tuple[str, ...]) -> None:
        super().__init__()
        self.names = ("mapper", *(f"mapper_{name}" for name in further))
        for name in self.names:
            setattr(self, name, nn.Linear(time, 2 * width))

    def forward(self, x: Tensor, time: tuple[Tensor, ...], told: Said, kept: Tensor | None) -> Tensor:
        parts = [getattr(self, name)(each) for name, each in zip(self.names, time, strict=True)]
        gain, shift = torch.stack(parts).sum(0)[:, :, None, None].chunk(2, dim=1)
        return x * (1 + gain) + shift


class AttentionBlock(nn.Module):
    """x + attention(norm x) to what is told, and to itself where ``itself`` says so: [B, C, h, w], shapes stay."""

    def __init__(self, width: int, condition: int, heads: int, *, itself: bool) -> None:
        super().__init__()
        self.itself = itself
        self.attention = Attention(width, heads, bias=True)
        self.kv_mapper = _listed({1: nn.Linear(condition, width)})

    def forward(self, x: Tensor, time: tuple[Tensor, ...], told: Said, kept: Tensor | None) -> Tensor:
        source, tokens = self.kv_mapper[1](F.silu(told.rows)), channel_norm(x).flatten(2).transpose(1, 2)
        if self.itself:
            source = torch.cat([tokens, source], dim=1)
        layer, mask = self.attention, told.mask(source.shape[1] - told.rows.shape[1])
        q, k, v = (split_heads(y, layer.heads) for y in (layer.to_q(tokens), layer.to_k(source), layer.to_v(source)))
        y = layer.to_out[0](merge_heads(attend(q, k, v, mask=mask)))
        return x + y.transpose(1, 2).reshape(x.shape)


class Scaler(nn.Module):
    """From one level to the next finer or coarser: normalised, then a convolution and, with ``switch``, a resizing.

    Args:
        switch: None for a convolution that resizes itself; else whether the grid is resized at all.
    """

    def __init__(self, width: int, out: int, *, up: bool, switch: bool | None) -> None:
        super().__init__()
        self.up, self.switch = up, switch
        plain: nn.Module = nn.ConvTranspose2d(width, out, 2, 2) if up else nn.Conv2d(width, out, 2, 2)
        self.add_module("1", plain if switch is None else Resize(width, out, up=up, resizes=switch))

    def forward(self, x: Tensor) -> Tensor:
        return self.get_submodule("1")(channel_norm(x))


class Resize(nn.Module):
    """A 1 x 1 convolution on the coarser side of a halving or doubling: [B, C, h, w] -> [B, C', h', w']."""

    def __init__(self, width: int, out: int, *, up: bool, resizes: bool) -> None:
        super().__init__()
        self.up, self.resizes = up, resizes
        self.blocks = _listed({int(up): nn.Conv2d(width, out, 1)})

    def forward(self, x: Tensor) -> Tensor:
        if self.up:
            return self.blocks[1](_resized(x, 2.0) if self.resizes else x)
        x = self.blocks[0](x)
        return _resized(x, 0.5) if self.resizes else x


def channel_norm(x: Tensor) -> Tensor:
    """Every place of a grid normalised over its channels, without a gain of its own: [B, C, h, w]."""
    return F.layer_norm(x.permute(0, 2, 3, 1), x.shape[1:2], eps=EPS).permute(0, 3, 1, 2)


def _resized(x: Tensor, factor: float) -> Tensor:
    return F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=True)


def _fitted(x: Tensor, kept: Tensor) -> Tensor:
    """The grid of what was kept, where halving an odd one lost a row; in float32, as in the reference."""
    if x.shape[-2:] == kept.shape[-2:]:
        return x
    return F.interpolate(x.float(), kept.shape[-2:], mode="bilinear", align_corners=True).to(x.dtype)


def _listed(layers: Mapping[int, nn.Module]) -> nn.ModuleList:
    """Layers at their places in the released names; what has no parameters stands between them as an identity."""
    return nn.ModuleList(layers.get(place, nn.Identity()) for place in range(max(layers) + 1))


def _linear(width: int | None, out: int) -> nn.Linear | None:
    return None if width is None else nn.Linear(width, out)


def _mapper(width: int | None, out: int) -> nn.ModuleList | None:
    return None if width is None else _listed({0: nn.Conv2d(width, 4 * out, 1), 2: nn.Conv2d(4 * out, out, 1)})


def _mapped(mapper: nn.ModuleList, x: Tensor) -> Tensor:
    return channel_norm(mapper[2](F.gelu(mapper[0](x))))


def _scaler(config: CascadeConfig, level: int, *, up: bool) -> nn.Module:
    """What leads from the finer level to this one, or back."""
    if level == 0:
        return nn.Identity()
    finer, mine = config.block_out_channels[level - 1 : level + 1]
    switch = None if config.switch_level is None else config.switch_level[level - 1]
    return Scaler(mine, finer, up=True, switch=switch) if up else Scaler(finer, mine, up=False, switch=switch)


def _blocks(config: CascadeConfig, level: int, *, up: bool) -> nn.ModuleList:
    """The layers of a level; on the way up the first joins in what the level kept."""
    n, width, heads = (
        len(config.block_out_channels),
        config.block_out_channels[level],
        config.num_attention_heads[level],
    )
    layers = config.up_num_layers_per_block[n - 1 - level] if up else config.down_num_layers_per_block[level]
    itself = per_level("self_attn", config.self_attn, n)[level]
    made: list[nn.Module] = []
    for kind in config.block_types_per_layer[level] * layers:
        if kind == RES:
            made.append(ResBlock(width, width if up and level < n - 1 and not made else 0, config.kernel_size))
        elif kind == TIME:
            made.append(TimeBlock(width, config.timestep_ratio_embedding_dim, config.timestep_conditioning_type))
        else:
            made.append(AttentionBlock(width, config.conditioning_dim, heads, itself=itself))
    return nn.ModuleList(made)


def _repeats(width: int, turns: int) -> nn.ModuleList:
    """What stands between the turns in which a level's layers are run again."""
    return nn.ModuleList(nn.Conv2d(width, width, 1) for _ in range(turns - 1))
