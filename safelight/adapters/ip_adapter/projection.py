"""What an IP-Adapter makes of an encoded picture: tokens as wide as the text's; released names.

Axes: n pictures or faces, L tokens of CLIP's image encoder, E their width, P width of its projection, F width of a
face's embedding, M tokens that come out, X width of the text.
Source: Ye et al. 2308.06721, section 3.2 (one vector spread into tokens) and the released code of IP-Adapter (the
resampler of the "plus" kinds, after Alayrac et al. 2204.14198 section 3.1; the perceptrons of the face kinds).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from safelight.nn.attention import attend, merge_heads, split_heads
from safelight.nn.mlp import gelu

HEAD = 64
"""Width of a head of every released resampler."""


class Spread(nn.Module):
    """One linear layer spreads a picture's projected vector into tokens: [n, P] -> [n, M, X] (the base kind)."""

    def __init__(self, width: int, tokens: int, text: int) -> None:
        super().__init__()
        self.tokens = tokens
        self.proj = nn.Linear(width, tokens * text)
        self.norm = nn.LayerNorm(text)

    def forward(self, projected: Tensor) -> Tensor:
        return self.norm(self.proj(projected).unflatten(-1, (self.tokens, -1)))


class EachToken(nn.Module):
    """A perceptron for every token of the encoder: [n, L, E] -> [n, L, X] (the "full face" kind)."""

    def __init__(self, width: int, inner: int, text: int) -> None:
        super().__init__()
        self.proj = nn.ModuleList([nn.Linear(width, inner), nn.Identity(), nn.Linear(inner, text), nn.LayerNorm(text)])

    def forward(self, hidden: Tensor) -> Tensor:
        return self.proj[3](self.proj[2](gelu(self.proj[0](hidden))))


class FaceSpread(nn.Module):
    """A perceptron spreads a face's embedding into tokens: [n, F] -> [n, M, X] (the "face id" kind)."""

    def __init__(self, width: int, inner: int, tokens: int, text: int) -> None:
        super().__init__()
        self.tokens = tokens
        self.proj = nn.ModuleList([nn.Linear(width, inner), nn.Identity(), nn.Linear(inner, tokens * text)])
        self.norm = nn.LayerNorm(text)

    def forward(self, faces: Tensor) -> Tensor:
        return self.norm(self.proj[2](gelu(self.proj[0](faces))).unflatten(-1, (self.tokens, -1)))


class Resampler(nn.Module):
    """Learned queries read the tokens of the encoder: [n, L, E] -> [n, M, X] (the "plus" kinds, and ImageDream's).

    Args:
        heads: of 64 channels each; 0 for as many as fill the inner width.
    """

    def __init__(self, width: int, inner: int, tokens: int, text: int, depth: int, heads: int = 0) -> None:
        super().__init__()
        self.latents = nn.Parameter(torch.empty(1, tokens, inner))
        nn.init.normal_(self.latents, std=inner**-0.5)
        self.proj_in = nn.Linear(width, inner)
        self.proj_out = nn.Linear(inner, text)
        self.norm_out = nn.LayerNorm(text)
        self.layers = nn.ModuleList(ResamplerLayer(inner, heads) for _ in range(depth))

    def forward(self, hidden: Tensor) -> Tensor:
        return self.norm_out(self.proj_out(_resampled(self.layers, self.proj_in(hidden), self.latents)))


class FaceResampler(nn.Module):
    """A face's tokens read the tokens of the encoder: [n, F], [n, L, E] -> [n, M, X] (the "face id plus" kinds).

    Args:
        shortcut: add the face's own tokens to what they read: the second version, whose files say nothing of it.
    """

    def __init__(
        self, face: int, inner: int, tokens: int, text: int, *, width: int, depth: int, shortcut: bool
    ) -> None:
        super().__init__()
        self.tokens, self.shortcut = tokens, shortcut
        self.proj = nn.ModuleList([nn.Linear(face, inner), nn.Identity(), nn.Linear(inner, tokens * text)])
        self.norm = nn.LayerNorm(text)
        self.perceiver_resampler = FacePerceiver(width, text, depth)

    def forward(self, faces: Tensor, hidden: Tensor) -> Tensor:
        own = self.norm(self.proj[2](gelu(self.proj[0](faces))).unflatten(-1, (self.tokens, -1)))
        read = self.perceiver_resampler(own, hidden)
        return own + read if self.shortcut else read


class FacePerceiver(nn.Module):
    """A `Resampler` whose queries are given: [n, M, X], [n, L, E] -> [n, M, X]."""

    def __init__(self, width: int, text: int, depth: int) -> None:
        super().__init__()
        self.proj_in = nn.Linear(width, text)
        self.proj_out = nn.Linear(text, text)
        self.norm_out = nn.LayerNorm(text)
        self.layers = nn.ModuleList(ResamplerLayer(text) for _ in range(depth))

    def forward(self, queries: Tensor, hidden: Tensor) -> Tensor:
        return self.norm_out(self.proj_out(_resampled(self.layers, self.proj_in(hidden), queries)))


class Perceive(nn.Module):
    """Queries read the picture and themselves: [n, M, W], [n, L, W] -> [n, M, W]."""

    def __init__(self, width: int, heads: int = 0) -> None:
        super().__init__()
        self.heads = heads or width // HEAD
        inner = HEAD * heads or width
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)
        self.to_q = nn.Linear(width, inner, bias=False)
        self.to_kv = nn.Linear(width, 2 * inner, bias=False)
        self.to_out = nn.Linear(inner, width, bias=False)

    def forward(self, picture: Tensor, queries: Tensor) -> Tensor:
        picture, queries = self.norm1(picture), self.norm2(queries)
        k, v = self.to_kv(torch.cat([picture, queries], dim=1)).chunk(2, dim=-1)
        q, k, v = (split_heads(y, self.heads) for y in (self.to_q(queries), k, v))
        return self.to_out(merge_heads(attend(q, k, v)))


class Widen(nn.ModuleList):
    """Normalised, four times as wide, and back, with no biases; the released names count an activation (``2``)."""

    def __init__(self, width: int) -> None:
        wide, narrow = nn.Linear(width, 4 * width, bias=False), nn.Linear(4 * width, width, bias=False)
        super().__init__([nn.LayerNorm(width), wide, nn.Identity(), narrow])

    def forward(self, x: Tensor) -> Tensor:
        return self[3](gelu(self[1](self[0](x))))


class ResamplerLayer(nn.ModuleList):
    """q + perceive(picture, q), + widen(q): [n, L, W], [n, M, W] -> [n, M, W]."""

    def __init__(self, width: int, heads: int = 0) -> None:
        super().__init__([Perceive(width, heads), Widen(width)])

    def forward(self, picture: Tensor, queries: Tensor) -> Tensor:
        queries = self[0](picture, queries) + queries
        return self[1](queries) + queries


def _resampled(layers: nn.ModuleList, picture: Tensor, queries: Tensor) -> Tensor:
    """[n, L, W], [n or 1, M, W] -> [n, M, W]."""
    queries = queries.expand(len(picture), -1, -1)
    for layer in layers:
        queries = layer(picture, queries)
    return queries
