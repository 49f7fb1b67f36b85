"""MV-Adapter's own weights, under the names of its released files: branches of self-attention, and a T2I-Adapter.

Axes: B rows, V views, C width of a layer, L tokens of a view, N tokens of a reference, H W pixels.
Source: Huang et al. 2412.03632, "MV-Adapter: Multi-view Consistent Image Generation Made Easy", sections 4.1 and 4.2;
the names and the shape of the T2I-Adapter as in the released code (github.com/huanngzh/MV-Adapter, Apache-2.0).
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn
from torch.nn import functional as F

from safelight.adapters.t2i.model import XL, Full, T2IConfig
from safelight.errors import RequestError
from safelight.families.sd.model import UNet, UNetConfig
from safelight.nn.attention import Attention

CHANNELS = 6
"""Of the maps that it is told of every view: a direction and a position, or a position and a normal."""
PLACE = "processor"
"""What stands in a released name between a self-attention layer and the branches beside it."""


class Branches(nn.Module):
    """What stands beside one self-attention layer: a reader of the other views, and one of a reference picture.

    Args:
        width: C. refers: whether it reads references.
    """

    def __init__(self, width: int, *, refers: bool) -> None:
        super().__init__()
        self.to_q_mv, self.to_k_mv, self.to_v_mv = (nn.Linear(width, width, bias=False) for _ in range(3))
        self.to_out_mv = nn.ModuleList([nn.Linear(width, width)])
        if refers:
            self.to_q_ref, self.to_k_ref, self.to_v_ref = (nn.Linear(width, width, bias=False) for _ in range(3))
            self.to_out_ref = nn.ModuleList([nn.Linear(width, width)])


class MvAdapter(nn.Module):
    """Branches for every self-attention layer of a U-Net, and a T2I-Adapter for maps of cameras or of geometry.

    Args:
        layers: dotted name of each self-attention layer -> C.
        trunk: the shape of the T2I-Adapter.
        refers: whether the branches read a reference picture (image to views) or not (text to views).
    """

    def __init__(self, layers: Mapping[str, int], trunk: T2IConfig, *, refers: bool) -> None:
        super().__init__()
        self.layers, self.trunk, self.refers = dict(layers), trunk, refers
        self.adapter = Full(trunk)
        for name, width in layers.items():
            _plant(self, f"{name}.{PLACE}", Branches(width, refers=refers))

    @property
    def levels(self) -> int:
        """Of the U-Net's way down; what XL's T2I-Adapter says beyond them is for the middle."""
        return len(self.trunk.channels) - (self.trunk.adapter_type == XL)

    def beside(self, name: str) -> Branches:
        """What stands beside the layer of that name.

        Raises:
            RequestError: nothing does; it is for another U-Net.
        """
        if name not in self.layers:
            raise RequestError(f"this MV-Adapter has nothing for the layer {name!r}; it is for another U-Net")
        found = self.get_submodule(f"{name}.{PLACE}")
        assert isinstance(found, Branches)
        return found

    def forward(self, maps: Tensor) -> list[Tensor]:
        """What is added at every level of the way down: [R, 6, H, W] in [0, 1] -> one [R, C, h, w] a level.

        Raises:
            RequestError: other channels, or edges that are no whole cells.
        """
        cell, channels = self.trunk.downscale_factor, self.trunk.in_channels
        if maps.ndim != 4 or maps.shape[1] != channels or maps.shape[-2] % cell or maps.shape[-1] % cell:
            raise RequestError(
                f"maps of shape {list(maps.shape)} were given; they have {channels} channels and edges that are "
                f"multiples of {cell} pixels"
            )
        return self.adapter(F.pixel_unshuffle(maps, cell))


def layers_of(unet: UNet) -> dict[str, int]:
    """Self-attention layers of a U-Net: dotted name -> C."""
    found = (layer for layer in unet.modules() if isinstance(layer, Attention) and layer.name.endswith(".attn1"))
    return {layer.name: layer.to_q.in_features for layer in found}


def trunk_for(config: UNetConfig) -> T2IConfig:
    """The T2I-Adapter that the released code puts before a U-Net: XL's where its finest level has no attention."""
    widths = config.block_out_channels
    if "CrossAttn" in config.down_block_types[0]:
        return T2IConfig(in_channels=CHANNELS, channels=widths, num_res_blocks=config.layers_per_block)
    return T2IConfig(CHANNELS, (*widths, widths[-1]), 2, downscale_factor=16, adapter_type=XL)


def _plant(root: nn.Module, path: str, leaf: nn.Module) -> None:
    """Hang a module under a dotted name, with empty modules on the way."""
    *way, last = path.split(".")
    for part in way:
        if part not in root._modules:
            root.add_module(part, nn.Module())
        root = root.get_submodule(part)
    root.add_module(last, leaf)
