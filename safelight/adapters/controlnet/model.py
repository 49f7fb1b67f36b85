"""ControlNet: a copy of a U-Net's way down that is shown a hint, and says what to add to the skip connections.

Axes: B rows, C_0 channels of the finest level, h w grid of latents, H W pixels of the hint, M text tokens, X their
width. Source: Zhang et al. 2023, "Adding Conditional Control to Text-to-Image Diffusion Models", section 3; released
diffusers names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from safelight.errors import ConfigError
from safelight.families.sd.model import FIXED, IGNORED, Added, DownBlock, MidBlock, UNet, UNetConfig, embed
from safelight.nn.attention import Attention
from safelight.nn.config import from_released, positive
from safelight.nn.embed import StepEmbedding
from safelight.nn.ports import NO_PORTS
from safelight.nn.transformer import TransformerBlock

OF_THE_UNET = ("sample_size", "out_channels", "up_block_types", "time_cond_proj_dim")
"""Settings that a network without a way up does not have."""
ORDERS = ("rgb", "bgr")
Layer = TypeVar("Layer", nn.Conv2d, nn.Linear)


@dataclass(frozen=True)
class ControlNetConfig(UNetConfig):
    """The shape of the U-Net whose way down is copied, and of what is beside it; names of the released ``config.json``.

    `conditioning_embedding_out_channels` are the widths of the hint's levels: each but the first halves the grid, so
    the hint has ``2 ** (len - 1)`` pixels to a latent. `global_pool_conditions` means that the residuals are averaged
    over the grid, and that only the branch with the prompt is controlled (the released network for shuffled pictures).
    """

    conditioning_channels: int = 3
    conditioning_embedding_out_channels: tuple[int, ...] = (16, 32, 96, 256)
    controlnet_conditioning_channel_order: str = "rgb"
    global_pool_conditions: bool = False

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> ControlNetConfig:
        """Read a released ``config.json``.

        Raises:
            ConfigError: it describes a network that this class is not; the message names the key.
        """
        return from_released(cls, mirrored(raw, "ControlNetModel"), fixed=FIXED, ignored=IGNORED)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.class_embed_type:
            raise ConfigError(f"class_embed_type = {self.class_embed_type!r} is not supported by a control network")
        positive(self, "conditioning_channels", "conditioning_embedding_out_channels")
        if self.controlnet_conditioning_channel_order not in ORDERS:
            order = self.controlnet_conditioning_channel_order
            raise ConfigError(f"controlnet_conditioning_channel_order = {order!r} is not one of {', '.join(ORDERS)}")

    @property
    def stride(self) -> int:
        """Pixels of the hint to a latent, along an edge."""
        return int(2 ** (len(self.conditioning_embedding_out_channels) - 1))


def mirrored(raw: Mapping[str, Any], *classes: str) -> dict[str, Any]:
    """A configuration of a network without a way up, as one of a U-Net whose way up mirrors the way down.

    Raises:
        ConfigError: it is not of one of the ``classes``, or says something of a way up.
    """
    if raw.get("_class_name", classes[0]) not in classes:
        raise ConfigError(f"the configuration is of a {raw['_class_name']}; a {classes[0]} is expected")
    if strange := [name for name in OF_THE_UNET if raw.get(name) is not None]:
        raise ConfigError(f"unknown key {strange[0]!r}: a {classes[0]} has no way up, and draws nothing")
    down = raw.get("down_block_types") or UNetConfig.down_block_types
    kinds = [str(kind).replace("Down", "Up") for kind in reversed(down if isinstance(down, (list, tuple)) else [down])]
    without = {"_class_name": "UNet2DConditionModel", "up_block_types": kinds}
    return {**{key: value for key, value in raw.items() if key not in OF_THE_UNET}, **without}


class Residuals(NamedTuple):
    """What a control network adds to a U-Net.

    Attributes:
        skips: one [B, C, h, w] per skip connection, in the order they are made ([B, C, 1, 1] where it averages).
        middle: the same for the middle block.
    """

    skips: tuple[Tensor, ...]
    middle: Tensor


class Hint(nn.Module):
    """A picture [B, channels, H, W] in [0, 1] -> [B, width, h, w] on the grid of the latents."""

    def __init__(self, channels: int, widths: tuple[int, ...], width: int) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(channels, widths[0], 3, padding=1)
        self.blocks = nn.ModuleList()
        for wide, wider in pairwise(widths):
            self.blocks.append(nn.Conv2d(wide, wide, 3, padding=1))
            self.blocks.append(nn.Conv2d(wide, wider, 3, padding=1, stride=2))
        self.conv_out = zero(nn.Conv2d(widths[-1], width, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        x = F.silu(self.conv_in(x))
        for block in self.blocks:
            x = F.silu(block(x))
        return self.conv_out(x)


class ControlNet(nn.Module):
    """Says what to add to the skip connections of the U-Net that it was copied from.

    Fresh, its last layers and that of the hint are zero, so that it adds nothing until it has learned to.
    """

    def __init__(self, config: ControlNetConfig) -> None:
        super().__init__()
        self.config = config
        widths, time = config.block_out_channels, 4 * config.block_out_channels[0]
        self.conv_in = nn.Conv2d(config.in_channels, widths[0], 3, padding=1)
        self.time_embedding = StepEmbedding(widths[0], time)
        self.class_embedding = nn.Embedding(config.num_class_embeds, time) if config.num_class_embeds else None
        self.add_embedding = (
            StepEmbedding(config.projection_class_embeddings_input_dim or 0, time)
            if config.addition_embed_type
            else None
        )
        hint = config.conditioning_embedding_out_channels
        self.controlnet_cond_embedding = Hint(config.conditioning_channels, hint, widths[0])
        self.down_blocks = nn.ModuleList(DownBlock(config, level) for level in range(len(widths)))
        self.mid_block = MidBlock(config)
        self.controlnet_down_blocks = nn.ModuleList(zero(nn.Conv2d(width, width, 1)) for width in skip_widths(config))
        self.controlnet_mid_block = zero(nn.Conv2d(widths[-1], widths[-1], 1))
        for name, layer in self.named_modules():
            if isinstance(layer, Attention | TransformerBlock):
                layer.name = name

    def look(self, hint: Tensor) -> Tensor:
        """What the network sees of a hint, the same for every step: [B, channels, H, W] in [0, 1] -> [B, C_0, h, w]."""
        bgr = self.config.controlnet_conditioning_channel_order == "bgr"
        return self.controlnet_cond_embedding(hint.flip(1) if bgr else hint)

    def forward(self, x: Tensor, t: Tensor, context: Tensor, seen: Tensor, *, added: Added | None = None) -> Residuals:
        """What to add at strength 1.

        Args:
            x, t, context, added: as `UNet` is asked; of a U-Net that repaints, the first ``in_channels`` channels.
            seen: [B, C_0, h, w] or of one row, from `look`.

        Raises:
            RequestError: the network needs something that ``added`` lacks.
        """
        time = embed(self, x, t, added or Added())
        return self.descend(self.conv_in(x) + seen, time, context)

    def descend(self, x: Tensor, time: Tensor, context: Tensor) -> Residuals:
        """The way down from [B, C_0, h, w] and the middle, and what each says."""
        skips = [x]
        for block in self.down_blocks:
            x, made = block(x, time, context, NO_PORTS, None)
            skips.extend(made)
        x = self.mid_block(x, time, context, NO_PORTS)
        said = [zero_conv(skip) for zero_conv, skip in zip(self.controlnet_down_blocks, skips, strict=True)]
        said.append(self.controlnet_mid_block(x))
        if self.config.global_pool_conditions:
            said = [each.mean(dim=(2, 3), keepdim=True) for each in said]
        return Residuals(tuple(said[:-1]), said[-1])


def skip_widths(config: UNetConfig) -> list[int]:
    """Channels of every skip connection, in the order they are made."""
    made = [config.block_out_channels[0]]
    for level, width in enumerate(config.block_out_channels):
        made += [width] * (config.layers_per_block + (level < len(config.block_out_channels) - 1))
    return made


def beside(unet: UNet, *, widths: tuple[int, ...] = (16, 32, 96, 256), channels: int = 3) -> ControlNet:
    """A ControlNet to train beside ``unet``: its way down copied, all that is new zero where it meets the U-Net.

    Of a U-Net that is shown more than noisy latents, such as the mask to repaint, what reads the latents is copied.

    Args:
        widths: `conditioning_embedding_out_channels`; the hint has ``2 ** (len - 1)`` pixels to a latent.
        channels: of the hint.
    """
    settings = {field.name: getattr(unet.config, field.name) for field in fields(UNetConfig)}
    latents = min(unet.config.in_channels, unet.config.out_channels)
    settings |= {"in_channels": latents, "time_cond_proj_dim": None}
    settings |= {"conditioning_embedding_out_channels": widths, "conditioning_channels": channels}
    net = ControlNet(ControlNetConfig(**settings))
    copied = {**unet.state_dict(), "conv_in.weight": unet.conv_in.weight[:, :latents]}
    net.load_state_dict({name: copied.get(name, own).detach().clone() for name, own in net.state_dict().items()})
    return net.to(unet.conv_in.weight)


def zero(layer: Layer) -> Layer:
    """The same layer with nothing in it."""
    assert layer.bias is not None
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def weighed(said: Residuals, strength: float, *, guess: bool = False) -> Residuals:
    """Residuals at a strength.

    Args:
        strength: 0 adds nothing, 1 is as trained, more exaggerates.
        guess: count the fine levels less, from a tenth at the finest to all in the middle, so that the network may
            follow the hint without a prompt (the released pipeline's guess mode). Not for residuals that were averaged
            over the grid.
    """
    every = [*said.skips, said.middle]
    if guess:
        # In float32, as the reference has them.
        scales = torch.logspace(-1, 0, len(every), device=said.middle.device) * strength
        every = [each * scale for each, scale in zip(every, scales)]
    else:
        every = [each * strength for each in every]
    return Residuals(tuple(every[:-1]), every[-1])
