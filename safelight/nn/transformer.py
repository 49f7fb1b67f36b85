"""The transformer of a U-Net: pixels as tokens, self-attention, cross-attention to the text, a gated feed-forward.

Axes: B rows, C channels, h w grid, N = h * w tokens, M tokens of the context, X their width.
Source: Rombach et al. 2022, "High-Resolution Image Synthesis with Latent Diffusion Models", section 3.3 and appendix
E.2.1.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from safelight.nn.attention import Attention
from safelight.nn.mlp import FeedForward
from safelight.nn.ports import NO_PORTS, Ports


@dataclass(frozen=True)
class Shape:
    """The shape of one spatial transformer, as its level of the network wants it.

    Attributes:
        heads: number of heads of every attention.
        context_width: X, channels of the text tokens.
        depth: number of blocks.
        linear: project in and out with linear layers (Stable Diffusion 2 and XL) or 1 x 1 convolutions (1).
        groups: groups of the normalisation before the projection.
        only_cross: the first attention of a block looks at the text too, not at the picture.
        upcast: see `Attention`.
    """

    heads: int
    context_width: int
    depth: int = 1
    linear: bool = False
    groups: int = 32
    only_cross: bool = False
    upcast: bool = False


class TransformerBlock(nn.Module):
    """x + attn1(norm x), + attn2(norm x, context), + ff(norm x): [B, N, C] -> [B, N, C].

    `name` is the block's dotted name in its network, set by the network that owns it: ports address blocks by it.
    """

    def __init__(self, width: int, shape: Shape) -> None:
        super().__init__()
        self.name, self.only_cross = "", shape.only_cross
        self.norm1 = nn.LayerNorm(width)
        first = shape.context_width if shape.only_cross else None
        self.attn1 = Attention(width, shape.heads, first, upcast=shape.upcast)
        self.norm2 = nn.LayerNorm(width)
        self.attn2 = Attention(width, shape.heads, shape.context_width, upcast=shape.upcast)
        self.norm3 = nn.LayerNorm(width)
        self.ff = FeedForward(width)

    def forward(self, x: Tensor, context: Tensor, ports: Ports = NO_PORTS) -> Tensor:
        """``context`` is [B, M, X]."""
        entered, y = x, self.norm1(x)
        if self.only_cross:
            x = x + self.attn1(y, context)
        elif ports.override is None:
            x = x + self.attn1(y)
        else:
            x = x + ports.override(self.attn1.name, self.attn1, y)
        x = x if ports.between is None else ports.between(self.name, x)
        x = x + self.attn2(self.norm2(x), context, ports.beside)
        x = x + self.ff(self.norm3(x))
        return x if ports.passage is None else ports.passage(self.name, entered, x)


class SpatialTransformer(nn.Module):
    """Transformer blocks over the pixels of a feature map, added to it: [B, C, h, w] -> [B, C, h, w]."""

    def __init__(self, width: int, shape: Shape) -> None:
        super().__init__()
        self.linear = shape.linear
        self.norm = nn.GroupNorm(shape.groups, width, 1e-6)
        self.proj_in = nn.Linear(width, width) if shape.linear else nn.Conv2d(width, width, 1)
        self.transformer_blocks = nn.ModuleList(TransformerBlock(width, shape) for _ in range(shape.depth))
        self.proj_out = nn.Linear(width, width) if shape.linear else nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor, context: Tensor, ports: Ports = NO_PORTS) -> Tensor:
        """``context`` is [B, M, X]."""
        y = self.norm(x)
        y = self.proj_in(_tokens(y)) if self.linear else _tokens(self.proj_in(y))
        for block in self.transformer_blocks:
            y = block(y, context, ports)
        y = _grid(self.proj_out(y), x) if self.linear else self.proj_out(_grid(y, x))
        return x + y


def _tokens(x: Tensor) -> Tensor:
    """[B, C, h, w] -> [B, h * w, C]; laid out anew once, for all the sums and norms of the blocks that follow."""
    return x.flatten(2).transpose(1, 2).contiguous()


def _grid(x: Tensor, like: Tensor) -> Tensor:
    """[B, h * w, C] -> [B, C, h, w], the grid of ``like``; contiguous, since convolutions follow."""
    return x.transpose(1, 2).contiguous().view(like.shape)
