"""T2I-Adapter: a picture to what is added at every level of a U-Net's way down, full, light, and for XL.

Axes: B rows, H W pixels, f pixels to a cell along an edge, C channels of a level. Source: Mou et al. 2023,
"T2I-Adapter: Learning Adapters to Dig Out More Controllable Ability for Text-to-Image Diffusion Models", section 3.3;
released diffusers names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from safelight.errors import ConfigError
from safelight.nn.config import DEEPEST, from_released, positive

FULL, XL, LIGHT = "full_adapter", "full_adapter_xl", "light_adapter"
FIXED: dict[str, tuple[Any, ...]] = {"_class_name": ("T2IAdapter",)}


@dataclass(frozen=True)
class T2IConfig:
    """The shape of an adapter, under the names of the released ``config.json``.

    `downscale_factor` is f, the pixels that are folded into channels along an edge: 8 for Stable Diffusion 1, and 16
    for XL, whose first level looks at half the grid already.
    """

    in_channels: int = 3
    channels: tuple[int, ...] = (320, 640, 1280, 1280)
    num_res_blocks: int = 2
    downscale_factor: int = 8
    adapter_type: str = FULL

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> T2IConfig:
        """Read a released ``config.json``.

        Raises:
            ConfigError: it describes a network that this class is not; the message names the key.
        """
        return from_released(cls, raw, fixed=FIXED)

    def __post_init__(self) -> None:
        positive(self, "in_channels", "channels")
        positive(self, "num_res_blocks", "downscale_factor", most=DEEPEST)
        if self.adapter_type not in (FULL, XL, LIGHT):
            raise ConfigError(f"adapter_type = {self.adapter_type!r} is not known; known are {FULL}, {XL}, {LIGHT}")
        if self.adapter_type == XL and len(set(self.channels[2:])) > 1:
            raise ConfigError(f"channels = {self.channels}: behind the third level an adapter of XL widens no more")
        if self.adapter_type == LIGHT and any(width % 4 for width in self.channels):
            raise ConfigError(f"channels = {self.channels} of a light adapter must be multiples of 4")

    @property
    def levels(self) -> tuple[tuple[int, int], ...]:
        """What it says, in order: channels, and how often the grid of the latents is halved for it."""
        if self.adapter_type == XL:
            return tuple((width, 1 if level < 2 else 2) for level, width in enumerate(self.channels))
        widths = (*self.channels, self.channels[-1]) if self.adapter_type == LIGHT else self.channels
        return tuple((width, level) for level, width in enumerate(widths))

    @property
    def first(self) -> int:
        """How often the grid of the latents is halved before the adapter's own begins."""
        return self.levels[0][1]


class Resnet(nn.Module):
    """x + conv(relu(conv x)): [B, C, h, w] -> [B, C, h, w]; the second looks at ``second`` pixels along an edge."""

    def __init__(self, channels: int, second: int) -> None:
        super().__init__()
        self.block1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.block2 = nn.Conv2d(channels, channels, second, padding=second // 2)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.block2(F.relu(self.block1(x)))


class Block(nn.Module):
    """One level of a full adapter: halve the grid where ``down``, widen, residual blocks."""

    def __init__(self, channels: int, out: int, count: int, *, down: bool) -> None:
        super().__init__()
        self.down = down
        self.in_conv = nn.Conv2d(channels, out, 1) if channels != out else None
        self.resnets = nn.Sequential(*(Resnet(out, 1) for _ in range(count)))

    def forward(self, x: Tensor) -> Tensor:
        x = halved(x) if self.down else x
        return self.resnets(x if self.in_conv is None else self.in_conv(x))


class LightBlock(nn.Module):
    """One level of a light adapter: the same on a quarter of the channels, narrowed and widened again."""

    def __init__(self, channels: int, out: int, count: int, *, down: bool) -> None:
        super().__init__()
        self.down = down
        self.in_conv = nn.Conv2d(channels, out // 4, 1)
        self.resnets = nn.Sequential(*(Resnet(out // 4, 3) for _ in range(count)))
        self.out_conv = nn.Conv2d(out // 4, out, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.out_conv(self.resnets(self.in_conv(halved(x) if self.down else x)))


class Full(nn.Module):
    """Cells of f x f pixels to the finest level's width, then one block a level."""

    def __init__(self, config: T2IConfig) -> None:
        super().__init__()
        widths, count = config.channels, config.num_res_blocks
        self.conv_in = nn.Conv2d(config.in_channels * config.downscale_factor**2, widths[0], 3, padding=1)
        grids = [halvings for _, halvings in config.levels]
        self.body = nn.ModuleList(
            Block(widths[max(level - 1, 0)], width, count, down=level > 0 and grids[level] > grids[level - 1])
            for level, width in enumerate(widths)
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        return in_turn(self.body, self.conv_in(x))


class Light(nn.Module):
    """Cells of f x f pixels straight into one light block a level, and one more."""

    def __init__(self, config: T2IConfig) -> None:
        super().__init__()
        ins = (config.in_channels * config.downscale_factor**2, *config.channels)
        outs, count = (*config.channels, config.channels[-1]), config.num_res_blocks
        self.body = nn.ModuleList(
            LightBlock(narrow, wide, count, down=level > 0) for level, (narrow, wide) in enumerate(zip(ins, outs))
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        return in_turn(self.body, x)


class T2IAdapter(nn.Module):
    """A picture [B, channels, f h, f w] in [0, 1] -> one [B, C, h, w] a level, the finest first; h w its own grid."""

    def __init__(self, config: T2IConfig) -> None:
        super().__init__()
        self.config = config
        self.adapter = Light(config) if config.adapter_type == LIGHT else Full(config)

    def forward(self, picture: Tensor) -> list[Tensor]:
        return self.adapter(F.pixel_unshuffle(picture, self.config.downscale_factor))


def in_turn(blocks: nn.ModuleList, x: Tensor) -> list[Tensor]:
    """What every block makes of what the one before made."""
    made = []
    for block in blocks:
        x = block(x)
        made.append(x)
    return made


def halved(x: Tensor) -> Tensor:
    """Means of two by two; of an odd grid the last row and column are means of what is there."""
    return F.avg_pool2d(x, 2, 2, ceil_mode=True)
