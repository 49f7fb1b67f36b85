"""ControlNet for several kinds of hints in one network, shown together: the union networks of SDXL.

Axes: B rows, C_0 channels of the finest level, h w grid, K kinds of hints. Source: Xinsir's "ControlNet++"
(released 2024 without a paper) as diffusers' ControlNetUnionModel; released names, their spelling included.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from safelight.adapters.controlnet.model import ControlNet, ControlNetConfig, Residuals, mirrored, zero
from safelight.errors import ConfigError, RequestError
from safelight.families.sd.model import FIXED, IGNORED, Added, embed
from safelight.nn.config import DEEPEST, from_released, positive
from safelight.nn.embed import StepEmbedding, sinusoid
from safelight.nn.mlp import quick_gelu

KINDS = ("pose", "depth", "soft edges", "edges", "normals", "segments", "tile", "repaint")
"""What the released networks call their kinds; the first network knows six of them."""
CLASSES = ("ControlNetUnionModel", "ControlNetModel", "ControlNetModel_Union")


@dataclass(frozen=True)
class UnionConfig(ControlNetConfig):
    """The shape of a `ControlNetConfig`, and of the small transformer that weighs the hints."""

    conditioning_embedding_out_channels: tuple[int, ...] = (48, 96, 192, 384)
    num_control_type: int = 6
    num_trans_channel: int = 320
    num_trans_head: int = 8
    num_trans_layer: int = 1
    num_proj_channel: int = 320

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> UnionConfig:
        """Read a released ``config.json``.

        Raises:
            ConfigError: it describes a network that this class is not; the message names the key.
        """
        return from_released(cls, mirrored(raw, *CLASSES), fixed=FIXED, ignored=IGNORED)

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(self, "num_trans_channel", "num_trans_head", "num_proj_channel", "addition_time_embed_dim")
        positive(self, "num_control_type", "num_trans_layer", most=DEEPEST)
        width = self.block_out_channels[0]
        if self.num_trans_channel != width or self.num_proj_channel not in (1, width):
            raise ConfigError(f"num_trans_channel and num_proj_channel must be {width}, as wide as the finest level")
        if width % self.num_trans_head:
            raise ConfigError(
                f"num_trans_channel = {width} must be a multiple of num_trans_head = {self.num_trans_head}"
            )
        if self.controlnet_conditioning_channel_order != "rgb":
            raise ConfigError("controlnet_conditioning_channel_order of a union network must be rgb")


class Shown(NamedTuple):
    """A hint that the network looks at.

    Attributes:
        kind: 0 to K - 1; see `KINDS`. seen: [B, C_0, h, w] or of one row, from ``look``.
        strength: how much it counts beside the others; of a single hint the residuals are weighed instead.
    """

    kind: int
    seen: Tensor
    strength: float = 1.0


class Values(nn.Module):
    """The attention of the released networks, [B, C] -> [B, C], in which each token reads its own value alone.

    Their code hands [B, N, C] to a layer that takes [N, B, C], and so attends over the rows of a call, one token at a
    time. Rows that are shown the same hints then read equal values, and so does a row by itself: what is left of the
    attention is its value, whoever shares the call. Queries and keys are in the files and change nothing.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)
        nn.init.xavier_uniform_(self.in_proj_weight)

    def forward(self, x: Tensor) -> Tensor:
        width = x.shape[-1]
        return self.out_proj(F.linear(x, self.in_proj_weight[2 * width :], self.in_proj_bias[2 * width :]))


class Perceptron(nn.Module):
    """Linear, QuickGELU, linear, four times as wide between."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.c_fc = nn.Linear(width, 4 * width)
        self.c_proj = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.c_proj(quick_gelu(self.c_fc(x)))


class Weighing(nn.Module):
    """x + attn(norm x), + mlp(norm x): [B, C] -> [B, C], of one hint."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.attn = Values(width)
        self.ln_1 = nn.LayerNorm(width)
        self.mlp = Perceptron(width)
        self.ln_2 = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class ControlNetUnion(ControlNet):
    """A `ControlNet` that is told which kinds of hints it is shown, and weighs them before it adds them."""

    config: UnionConfig

    def __init__(self, config: UnionConfig) -> None:
        super().__init__(config)
        width, time = config.num_trans_channel, 4 * config.block_out_channels[0]
        self.task_embedding = nn.Parameter(width**0.5 * torch.randn(config.num_control_type, width))
        self.transformer_layes = nn.ModuleList(Weighing(width) for _ in range(config.num_trans_layer))
        self.spatial_ch_projs = zero(nn.Linear(width, config.num_proj_channel))
        wave = (config.addition_time_embed_dim or 0) * config.num_control_type
        self.control_add_embedding = StepEmbedding(wave, time)

    def forward(  # type: ignore[override]  # it is shown several hints, each of a kind
        self, x: Tensor, t: Tensor, context: Tensor, seen: Sequence[Shown], *, added: Added | None = None
    ) -> Residuals:
        """What to add; see `ControlNet.forward`.

        Raises:
            RequestError: nothing is shown, or a hint of a kind that this network does not know, or a kind twice.
        """
        kinds = [each.kind for each in seen]
        known = self.config.num_control_type
        if not seen or len(set(kinds)) < len(kinds) or not all(0 <= kind < known for kind in kinds):
            raise RequestError(f"kinds {kinds} of hints: this network knows 0 to {known - 1}, and is shown each once")
        time = embed(self, x, t, added or Added()) + self.told(x, kinds)
        return self.descend(self.conv_in(x) + self.fused(seen), time, context)

    def told(self, x: Tensor, kinds: Sequence[int]) -> Tensor:
        """What every block is told of the kinds: [B, E]."""
        flags = torch.zeros(self.config.num_control_type, device=x.device)
        flags[list(kinds)] = 1.0
        flip, shift = self.config.flip_sin_to_cos, self.config.freq_shift
        width = self.config.addition_time_embed_dim or 0
        wave = sinusoid(flags, width, cosine_first=flip, shift=shift).reshape(1, -1)
        return self.control_add_embedding(wave.expand(len(x), -1).to(x.dtype))

    def fused(self, seen: Sequence[Shown]) -> Tensor:
        """The hints together, [B, C_0, h, w] or of one row, each moved by what the transformer makes of it."""
        alone = len(seen) == 1
        total = torch.zeros_like(seen[0].seen)
        for each in seen:
            strength = 1.0 if alone else each.strength
            y = (each.seen.mean(dim=(2, 3)) + self.task_embedding[each.kind]) * strength
            for layer in self.transformer_layes:
                y = layer(y)
            total = total + each.seen * strength + self.spatial_ch_projs(y)[:, :, None, None] * strength
        return total
