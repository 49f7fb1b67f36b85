"""Who reads whom, said pixel by pixel: what the layouts are held against, and written without a look at them."""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from safelight.core.camera import Camera

REACH = 0.73
"""Tokens from an epipolar line; a number at which no token of these tests lies to a rounding."""


class Token(NamedTuple):
    """A token of a set of views: domain, view, row and column."""

    domain: int
    view: int
    row: int
    column: int


def sees(name: str, a: Token, b: Token, lines: Any = None) -> bool:
    """Whether a reads b. ``lines``: [V][V][h][w][3], see `lines_of`."""
    domain, view = a.domain == b.domain, a.view == b.view
    row, column = a.row == b.row, a.column == b.column
    if name == "epipolar":
        assert lines is not None
        x, y, z = lines[a.view][b.view][a.row][a.column]
        far = abs(x * (b.column + 0.5) + y * (b.row + 0.5) + z)
        return domain and (view or far <= REACH)
    return {
        "self": domain and view,
        "dense": domain,
        "rows": domain and row,
        "columns": domain and column,
        "rows-columns": domain and (row or column),
        "front-self": domain and (view or b.view == 0),
        "same-pixel": row and column,
        "temporal": domain and row and column,
        "joint-domain": view,
    }[name]


def matrix(name: str, n: int, h: int, w: int, domains: int = 1, cameras: Camera | None = None) -> Tensor:
    """[S * L, S * L], True where the reader (first) reads the other."""
    tokens = [Token(*place) for place in itertools.product(range(domains), range(n), range(h), range(w))]
    lines = None if cameras is None else lines_of(cameras.resized((h, w))).tolist()
    return torch.tensor([[sees(name, a, b, lines) for b in tokens] for a in tokens])


def lines_of(cameras: Camera) -> Tensor:
    """[V, V, h, w, 3]: where the second view sees the ray of each pixel of the first, as a u + b v + c = 0 with
    a² + b² = 1: through the places of two points of the ray."""
    (h, w), count = cameras.size, cameras.shape[0]
    found = torch.zeros(count, count, h, w, 3, dtype=torch.float64)
    for here, there in itertools.permutations(range(count), 2):
        origin, way = cameras[here].rays()
        ends = [cameras[there].project((origin + depth * way).flatten(0, 1))[0] for depth in (1.9, 2.3)]
        along = ends[1] - ends[0]
        normal = torch.stack([-along[:, 1], along[:, 0]], -1) / along.norm(dim=-1, keepdim=True)
        line = torch.cat([normal, -(normal * ends[0]).sum(-1, keepdim=True)], -1)
        found[here, there] = line.unflatten(0, (h, w)).double()
    return found


def masked(q: Tensor, k: Tensor, v: Tensor, slots: int, heads: int, who: Tensor) -> Tensor:
    """Attention of whole sets of views at once, what is not read masked: three of [B * S, L, C] -> the same."""
    sets = [x.reshape(len(x) // slots, -1, heads, x.shape[-1] // heads).transpose(1, 2) for x in (q, k, v)]
    y = F.scaled_dot_product_attention(*sets, attn_mask=who)
    return y.transpose(1, 2).reshape(q.shape)


def ring(n: int, size: tuple[int, int]) -> Camera:
    """Cameras in no symmetric arrangement, so that no epipolar line lies along a row by chance."""
    angles = torch.tensor([17.0, 101.0, 223.0, 290.0, 333.0, 145.0, 61.0, 187.0, 250.0][:n])
    heights = torch.tensor([12.0, -7.0, 31.0, 3.0, -21.0, 9.0, 25.0, -13.0, 17.0][:n])
    return Camera.orbit(angles, heights, 2.0, 45.0, size, dtype=torch.float64)
