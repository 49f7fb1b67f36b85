"""The one attention entry point, and the projected attention layer of the U-Net family.

Axes: B rows, N queries, M keys, H heads, D width of a head, C = H * D width of the layer.
Source: Vaswani et al. 2017, "Attention Is All You Need", equation 1.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def attend(q: Tensor, k: Tensor, v: Tensor, *, mask: Tensor | None = None, causal: bool = False) -> Tensor:
    """softmax(q k^T / sqrt(D)) v, the only place where this program computes attention.

    Args:
        q: [B, H, N, D]. k, v: [B, H, M, D].
        mask: added to the logits where it is a float, kept where True when boolean; broadcasts to [B, H, N, M].
        causal: query i sees keys 0..i only; excludes ``mask``.

    Returns:
        [B, H, N, D].
    """
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal)


def attended(q: Tensor, k: Tensor) -> Tensor:
    """How much each key is looked at by all queries together, heads averaged: [B, M], M numbers that sum to N.

    Args:
        q: [B, H, N, D]. k: [B, H, M, D]; the logits are those of `attend`, and computed in full: for small grids.
    """
    logits = torch.matmul(q, k.transpose(-1, -2)) * q.shape[-1] ** -0.5
    return logits.softmax(dim=-1).mean(dim=1).sum(dim=1)


def split_heads(x: Tensor, heads: int) -> Tensor:
    """[B, N, H * D] -> [B, H, N, D]; head 0 is the first D channels."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def merge_heads(x: Tensor) -> Tensor:
    """[B, H, N, D] -> [B, N, H * D]: the inverse of `split_heads`."""
    return x.transpose(1, 2).flatten(2)


Beside = Callable[[str, "Attention", Tensor, Tensor], Tensor]
"""(name of the layer, the layer, its queries [B, H, N, D], what they read [B, H, N, D]) -> what is projected for it."""


class Attention(nn.Module):
    """Multi-head attention of [B, N, width] to itself or to a context [B, M, context_width].

    Args:
        width: channels of the queries and of the result.
        heads: number of heads H; ``width`` must be a multiple.
        context_width: channels of keys' and values' source; None means ``width``.
        bias: whether the query, key and value projections have one; the output projection always has.
        upcast: compute the logits of half-precision inputs in float32 (Stable Diffusion 2 overflows float16 there).

    `name` is the layer's dotted name in its network, set by the network that owns it: ports address layers by it.
    """

    def __init__(
        self, width: int, heads: int, context_width: int | None = None, *, bias: bool = False, upcast: bool = False
    ) -> None:
        super().__init__()
        source = context_width or width
        self.name, self.heads, self.upcast = "", heads, upcast
        self.to_q = nn.Linear(width, width, bias=bias)
        self.to_k = nn.Linear(source, width, bias=bias)
        self.to_v = nn.Linear(source, width, bias=bias)
        self.to_out = nn.ModuleList([nn.Linear(width, width)])

    def forward(self, x: Tensor, context: Tensor | None = None, beside: Beside | None = None) -> Tensor:
        """[B, N, width] -> [B, N, width]; ``context`` None means ``x`` itself."""
        source = x if context is None else context
        return self.mix(self.to_q(x), self.to_k(source), self.to_v(source), beside)

    def mix(self, q: Tensor, k: Tensor, v: Tensor, beside: Beside | None = None) -> Tensor:
        """What the layer makes of projected queries [B, N, C], keys and values [B, M, C]: [B, N, C].

        ``forward`` behind the first projections: for those who change what is asked, not how it is answered.
        """
        q, k, v = (split_heads(y, self.heads) for y in (q, k, v))
        y = self.read(q, k, v)
        if beside is not None:
            y = beside(self.name, self, q, y)
        return self.to_out[0](merge_heads(y))

    def read(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
        """`attend`, in float32 where the layer overflows: [B, H, N, D], [B, H, M, D] twice -> [B, H, N, D]."""
        if self.upcast and q.dtype in (torch.float16, torch.bfloat16):
            return attend(q.float(), k.float(), v.float(), mask=mask).to(v.dtype)
        return attend(q, k, v, mask=mask)
