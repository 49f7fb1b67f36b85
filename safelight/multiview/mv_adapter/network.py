"""A frozen U-Net with an MV-Adapter as one network over sets of views, and what it is told of them.

Axes: B rows (sets of views, one thing each), V views, Z h w latents, M tokens of text, X their width, P of what XL is
told pooled, H W pixels. Source: Huang et al. 2412.03632, section 4; the released pipelines.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from safelight.errors import RequestError
from safelight.families.sd.model import Added, UNet
from safelight.multiview.layouts import Views
from safelight.multiview.mv_adapter.across import Across, rows
from safelight.multiview.mv_adapter.model import MvAdapter
from safelight.multiview.mv_adapter.use import AS_TRAINED, MvUse, Reference, Strength, joined, look
from safelight.nn.ports import NO_PORTS, Ports


@dataclass(frozen=True, eq=False)
class MvConditions:
    """What the network is told of sets of views; a ``Cond``. Made by `MvNetwork.told`, which does what is done once.

    Attributes:
        context: [B, M, X] text, the same for all views.
        said: what the T2I-Adapter says of the maps, one [B, V, C, h, w] a level.
        pooled, times: [B, P] and [B, 6], what XL is told beside the text.
        reference: keys and values of the reference picture; None where none is read.
    """

    context: Tensor
    said: tuple[Tensor, ...]
    pooled: Tensor | None = None
    times: Tensor | None = None
    reference: Reference | None = None

    def cat(self, others: Sequence[MvConditions]) -> MvConditions:
        """The rows of this record followed by those of the others, which must be told of the same things.

        Raises:
            RequestError: one knows of a reference, or of what XL is told, and another does not.
        """
        every = [self, *others]
        for name in ("pooled", "times", "reference"):
            if len({getattr(each, name) is None for each in every}) > 1:
                raise RequestError(f"some of these views are told their {name}, others are not; tell all or none")
        return MvConditions(
            torch.cat([each.context for each in every]),
            tuple(torch.cat(level) for level in zip(*(each.said for each in every), strict=True)),
            None if self.pooled is None else torch.cat([each.pooled for each in every if each.pooled is not None]),
            None if self.times is None else torch.cat([each.times for each in every if each.times is not None]),
            None
            if self.reference is None
            else joined([each.reference for each in every if each.reference is not None]),
        )

    def repeat(self, rows: int) -> MvConditions:
        """A record of one row as ``rows`` equal ones."""
        return self.cat([self] * (rows - 1))

    def to(self, like: Tensor) -> MvConditions:
        """The same record on the device, and in the number format, of ``like``."""
        pairs = {} if self.reference is None else self.reference.pairs
        moved = {name: (k.to(like), v.to(like)) for name, (k, v) in pairs.items()}
        return MvConditions(
            self.context.to(like),
            tuple(level.to(like) for level in self.said),
            None if self.pooled is None else self.pooled.to(like),
            None if self.times is None else self.times.to(like),
            None if self.reference is None else Reference(moved),
        )

    def led_away(self, negative: Tensor, pooled: Tensor | None = None) -> MvConditions:
        """What the released pipelines lead away from: the negative prompt, features of the reference that are zero,
        and the same maps.

        Args:
            negative: [B, M, X]. pooled: [B, P], for XL.
        """
        reference = None if self.reference is None else self.reference.nothing()
        return replace(self, context=negative, pooled=pooled, reference=reference)


class MvNetwork(nn.Module):
    """A U-Net and an adapter over sets of views.

    Args:
        unet: frozen, a stock one. adapter: made for it.
        across: how the views read each other. strength: how much of each part of the adapter is added.
    """

    def __init__(self, unet: UNet, adapter: MvAdapter, across: Across = rows, strength: Strength = AS_TRAINED) -> None:
        super().__init__()
        self.unet, self.adapter, self.across, self.strength = unet, adapter, across, strength

    @torch.no_grad()
    def told(
        self, context: Tensor, maps: Tensor, picture: Tensor | None = None, added: Added | None = None
    ) -> MvConditions:
        """What is told of sets of views, the maps and the reference looked at once.

        Args:
            context: [B, M, X], the wanted text.
            maps: [B, V, 6, H, W] in [0, 1], see `safelight.multiview.encode`; H and W are the pictures' own.
            picture: [B, Z, h', w'], latents of the reference, noiseless and scaled, of any size.
            added: what XL is told beside the text, [B, ...].

        Raises:
            RequestError: maps that do not fit, or a reference that is missing or that is not read.
        """
        if maps.ndim != 5 or len(maps) != len(context):
            raise RequestError(f"maps of {len(context)} sets of views are [B, V, 6, H, W], not {list(maps.shape)}")
        if picture is None and self.adapter.refers:
            raise RequestError("this MV-Adapter reads a reference picture (i2mv, ig2mv); give its latents")
        said = tuple(level.unflatten(0, maps.shape[:2]) for level in self.adapter(maps.flatten(0, 1)))
        seen = None if picture is None else look(self.adapter, self.unet, picture, context, added)
        told = added or Added()
        return MvConditions(context, said, told.pooled, told.times, seen)

    def forward(self, x: Tensor, t: Tensor, told: MvConditions, ports: Ports = NO_PORTS) -> Tensor:
        """One prediction for every view.

        Args:
            x: [B, Z, V, h, w] noisy latents. t: [B] time labels.
            ports: what other adapters feed, for the B * V pictures in the order (row, view).

        Returns:
            [B, Z', V, h, w].

        Raises:
            RequestError: other sets, views or sizes than those that were told of.
        """
        if x.ndim != 5:
            raise RequestError(f"latents of views are [B, Z, V, h, w], not {list(x.shape)}")
        count, first = x.shape[2], 2**self.adapter.trunk.first
        grid = tuple(-(-edge // first) for edge in x.shape[-2:])
        known = told.said[0].shape
        if (*known[:2], *known[3:]) != (len(x), count, *grid):
            told_of = f"{known[0]} sets of {known[1]}, {known[-1] * first} x {known[-2] * first}"
            raise RequestError(
                f"{len(x)} sets of {count} views of {x.shape[-1]} x {x.shape[-2]} latents are drawn, and told were "
                f"maps of {told_of}; tell of what is drawn"
            )
        said = tuple(level.flatten(0, 1) for level in told.said)
        views = Views(count, *x.shape[-2:])
        use = MvUse(self.adapter, views, said, told.reference, self.across, self.strength)
        pooled, times = (None if y is None else y.repeat_interleave(count, 0) for y in (told.pooled, told.times))
        out = self.unet(
            x.transpose(1, 2).flatten(0, 1),
            t.repeat_interleave(count, 0),
            told.context.repeat_interleave(count, 0),
            added=Added(pooled=pooled, times=times),
            ports=use.ports(ports),
        )
        return out.unflatten(0, (len(x), count)).transpose(1, 2)
