"""MV-Adapter at a frozen U-Net: what it adds to self-attention and on the way down, through the network's ports.

    out = self + views * what is read across views + reference * what is read of a reference picture

Axes: B rows, V views, R = B * V pictures in the order (row, view), Z h w latents, L tokens of a layer, N of a
reference, C channels, M tokens of text, X their width, H W pixels. Source: Huang et al. 2412.03632, section 4.2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import torch
from torch import Tensor

from safelight.errors import RequestError
from safelight.families.sd.model import Added, UNet
from safelight.multiview.layouts import Views
from safelight.multiview.mv_adapter.across import Across, rows
from safelight.multiview.mv_adapter.model import Branches, MvAdapter
from safelight.nn.attention import Attention, merge_heads, split_heads
from safelight.nn.ports import NO_PORTS, Ports, SelfAttention


@dataclass(frozen=True, eq=False)
class Reference:
    """Keys and values of a reference picture, projected once for all views and all steps.

    Attributes:
        pairs: name of a self-attention layer -> keys and values, [B, N, C] each.
    """

    pairs: Mapping[str, tuple[Tensor, Tensor]]

    def nothing(self) -> Reference:
        """What "no picture" is to the released networks: features that are zero, of which the bias of the output
        remains. It is not the same as a reference scale of 0."""
        return Reference({name: (torch.zeros_like(k), torch.zeros_like(v)) for name, (k, v) in self.pairs.items()})


def joined(references: Sequence[Reference]) -> Reference:
    """The rows of several references one after the other, for one call of the network."""
    first = references[0].pairs
    return Reference({name: (_rows(references, name, 0), _rows(references, name, 1)) for name in first})


@torch.no_grad()
def look(adapter: MvAdapter, unet: UNet, latents: Tensor, context: Tensor, added: Added | None = None) -> Reference:
    """What the plain U-Net sees in reference pictures: one pass over their clean latents, told that they are at t = 0.

    The same pictures and words give the same bits, so a `Reference` that is kept is one that is made anew.

    Args:
        latents: [B, Z, h, w], scaled as the network's latents are; any size, whatever the size of the views.
        context: [B, M, X]: the wanted text, never the unwanted one; ``added`` what XL is told beside it.

    Raises:
        RequestError: the adapter reads no references.
    """
    if not adapter.refers:
        raise RequestError("this MV-Adapter reads no reference picture (it is for text, t2mv or tg2mv); give none")
    pairs: dict[str, tuple[Tensor, Tensor]] = {}

    def override(name: str, layer: Attention, x: Tensor) -> Tensor:
        beside = adapter.beside(name)
        pairs[name] = beside.to_k_ref(x), beside.to_v_ref(x)
        return layer(x)

    unet(latents, latents.new_zeros(len(latents)), context, added=added, ports=Ports(override=override))
    return Reference(pairs)


@dataclass(frozen=True)
class Strength:
    """How much of each part is added; 0 is nothing, 1 as trained."""

    views: float = 1.0
    reference: float = 1.0
    maps: float = 1.0


AS_TRAINED: Final = Strength()


@dataclass(frozen=True, eq=False)
class MvUse:
    """What an adapter adds to the calls of one set of views.

    Attributes:
        adapter: the weights. views: how many, and the grid of their latents.
        said: what `MvAdapter` says of the maps of all R pictures, one [R, C, h, w] a level; empty for no maps.
        reference: of the B rows; None where the adapter reads none, or for none at all.
        across: how the views read each other. strength: how much of each part is added.
    """

    adapter: MvAdapter
    views: Views
    said: Sequence[Tensor] = ()
    reference: Reference | None = None
    across: Across = rows
    strength: Strength = AS_TRAINED

    def ports(self, inner: Ports = NO_PORTS) -> Ports:
        """``inner`` with what is added."""
        said = [each * self.strength.maps for each in self.said] if self.strength.maps else []
        levels = self.adapter.levels
        down = _sum(said[:levels], inner.block_residuals)
        middle = _sum(said[levels:], [] if inner.mid_residual is None else [inner.mid_residual])
        return replace(
            inner, override=self._override(inner), block_residuals=down, mid_residual=next(iter(middle), None)
        )

    def _override(self, inner: Ports) -> SelfAttention:
        strength, reference = self.strength, self.reference

        def override(name: str, layer: Attention, x: Tensor) -> Tensor:
            beside = self.adapter.beside(name)
            out = layer(x) if inner.override is None else inner.override(name, layer, x)
            if strength.views:
                projected = beside.to_q_mv(x), beside.to_k_mv(x), beside.to_v_mv(x)
                seen = self.across(layer, self.views.at(x.shape[1]), *projected)
                out = out + strength.views * beside.to_out_mv[0](seen)
            if strength.reference and reference is not None:
                k, v = reference.pairs[name]
                if len(x) != len(k) * self.views.slots:
                    many = f"{len(x)} pictures are not {self.views.slots} views of each of {len(k)} references"
                    raise RequestError(f"{many}; give one reference for each set of views")
                out = out + strength.reference * _read(layer, beside, x, k, v)
            return out

        return override


def _read(layer: Attention, beside: Branches, x: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """What the views of every row read of its reference: [R, L, C], twice [B, N, C] -> [R, L, C].

    The views ask together, so that keys and values are not repeated for each of them.
    """
    asked = beside.to_q_ref(x).reshape(len(k), -1, x.shape[-1])
    found = layer.read(*(split_heads(each, layer.heads) for each in (asked, k, v)))
    return beside.to_out_ref[0](merge_heads(found).reshape(x.shape))


def _sum(said: Sequence[Tensor], there: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Tensor by tensor; the longer of the two says how many there are."""
    both = [a + b for a, b in zip(there, said)]
    return (*both, *there[len(both) :], *said[len(both) :])


def _rows(references: Sequence[Reference], name: str, part: int) -> Tensor:
    return torch.cat([each.pairs[name][part] for each in references])
