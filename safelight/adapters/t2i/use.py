"""A T2I-Adapter as a request uses it: a picture, a strength and a share of the steps.

Axes: W rows of a call, C channels and h w grid of a level. Source: Mou et al. 2023, sections 3.3 and 3.4 (several at
once are added); the released pipelines.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from PIL.Image import Image
from torch import Tensor

from safelight.adapters.fitting import unet_of
from safelight.adapters.loaded import Loaded
from safelight.adapters.picture import STRONGEST, check_hint, fingerprint, to_hint
from safelight.adapters.rows import added, own
from safelight.adapters.t2i.model import XL, T2IAdapter, T2IConfig
from safelight.adapters.use import WHOLE, Aids, Call, Place, Span
from safelight.core.path import Level
from safelight.errors import RequestError
from safelight.families.family import Model
from safelight.families.sd.model import UNetConfig
from safelight.nn.ports import Ports


@dataclass(frozen=True)
class T2IUse:
    """Let an adapter guide a picture.

    Attributes:
        adapter: the network. picture: of the shape of what is drawn; it is fitted where its size differs.
        strength: 0 (nothing) to 2, 1 is as trained.
        span: the share of the steps in which it works.
    """

    adapter: Loaded[T2IAdapter]
    picture: Image
    strength: float = 1.0
    span: Span = WHOLE

    @property
    def seeded(self) -> bool:
        """What it sees does not depend on the seed."""
        return False

    def check(self, model: Model, size: tuple[int, int]) -> None:
        """Refuse early.

        Raises:
            RequestError: the adapter is for another model, or its numbers cannot be meant. ImageError: the picture is
                of another shape, or holds no colours.
        """
        what, unet = f"T2I-Adapter {self.adapter.name}", unet_of(f"T2I-Adapter {self.adapter.name}", model)
        check_levels(what, self.adapter.network.config, unet.config)
        here = next(self.adapter.network.parameters()).device
        if here != unet.conv_in.weight.device:
            raise RequestError(f"{what} lies on {here}, the model on {unet.conv_in.weight.device}; move it there")
        self.span.check(what)
        if not 0.0 <= self.strength <= STRONGEST:
            raise RequestError(f"{what}: a strength lies between 0 and {STRONGEST:g}, not at {self.strength}")
        check_hint(self.picture, size, what)

    @torch.no_grad()
    def ready(self, place: Place) -> Aids:
        """Read the picture once: what it says is the same for every step and either side of the guidance."""
        if not self.strength:
            return Aids(None, None)
        net, unet = self.adapter.network, unet_of("", place.model)
        config, stride = net.config, place.model.latent.stride
        # As many cells as the level has that it speaks to first; halving an odd grid rounds up, as the U-Net does.
        width, height = (-(-edge // stride // 2**config.first) * config.downscale_factor for edge in place.size)
        picture = to_hint(self.picture, (width, height), config.in_channels).to(next(net.parameters()))
        said = tuple(each * self.strength for each in net(picture))
        aid = Added(self, said, len(unet.down_blocks), place.levels)
        return Aids(aid, aid)

    def told(self) -> Mapping[str, Any]:
        """What a recipe says of it."""
        return {
            "kind": "t2i-adapter",
            "name": self.adapter.name,
            "files": self.adapter.hashes,
            "picture": fingerprint(self.picture),
            "strength": self.strength,
            "span": list(self.span),
        }


@dataclass(frozen=True, eq=False)
class Added:
    """A `T2IUse` made ready; ``said`` is [1, C, h, w] a level, and for the middle where there are more than blocks."""

    use: T2IUse
    said: tuple[Tensor, ...]
    blocks: int
    levels: Sequence[Level]

    def on(self, level: Level) -> bool:
        """Whether the level lies in the share of the steps."""
        return self.use.span.holds(self.levels, level)

    def ports(self, call: Call, rows: Tensor, inner: Ports) -> Ports:
        """``inner`` with what is added at every level of its rows."""
        said = [each.to(call.x.dtype) for each in self.said]
        ports = replace(inner, block_residuals=added(rows, said[: self.blocks], inner.block_residuals))
        for each in said[self.blocks :]:
            middle = own(rows, each)
            ports = replace(ports, mid_residual=middle if inner.mid_residual is None else inner.mid_residual + middle)
        return ports


def check_levels(what: str, config: T2IConfig, unet: UNetConfig) -> None:
    """Refuse an adapter whose levels are not those of a U-Net.

    Raises:
        RequestError: says for which model it was made.
    """
    last = len(unet.block_out_channels) - 1
    # It is added behind the last attention of a level, or where there is none, to what the level hands on.
    takes = [
        (width, level + (level < last and "CrossAttn" not in kind))
        for level, (width, kind) in enumerate(zip(unet.block_out_channels, unet.down_block_types))
    ]
    takes.append((unet.block_out_channels[-1], last))
    says = list(config.levels)
    if len(says) < last + 1 or says != takes[: len(says)]:
        made = "Stable Diffusion XL" if config.adapter_type == XL else "Stable Diffusion 1"
        raise RequestError(
            f"{what} was made for {made}: it says (channels, halvings of the grid) {says}, and the U-Net of this model "
            f"takes {takes}; use one that was made for it"
        )
