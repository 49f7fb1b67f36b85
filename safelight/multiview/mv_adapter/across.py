"""How MV-Adapter's views read each other: along rows, or as the faces of a cube along rows and columns.

Axes: B rows, V views, h w the grid of a layer, L = h * w tokens, C channels, R = B * V pictures.
Source: Huang et al. 2412.03632, section 4.2 (rows), and appendix (geometry guided: rows and columns); the order and the
mirror of the faces as in the released code.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

import torch
from torch import Tensor

from safelight.errors import RequestError, UnknownNameError
from safelight.multiview.layouts import LAYOUTS, Views, read
from safelight.nn.attention import Attention

Across = Callable[[Attention, Views, Tensor, Tensor, Tensor], Tensor]
"""(a layer that says how heads are read, views on its grid, projected queries, keys, values, three of [R, L, C]) ->
what the views read of each other, [R, L, C]."""

AROUND: Final = (0, 1, 2, 3)
"""Faces that are level with each other: front, +x, back, -x. The front is seen again over the top and from below:"""
OVER: Final = (0, 2, 4, 5)
"""Front, back, above, below: their columns are one plane, the front's counted from the other side."""


def rows(layer: Attention, views: Views, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Each token reads its row in all views, as fits level cameras with parallel rays; any number of views."""
    return read(layer, LAYOUTS["rows"].make(), views, q, k, v)


def faces(layer: Attention, views: Views, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Six faces of a cube: the four around read their rows; front, back, above and below their columns.

    Front and back do both, and have the mean. The front is mirrored for the columns, for seen from behind, from above
    and from below its left is on the right.

    Raises:
        RequestError: there are not six views.
    """
    if (views.n, views.domains) != (6, 1):
        raise RequestError(
            f"a geometry-guided MV-Adapter draws six views, front, right, back, left, above and below, not {views.n}"
        )
    four = replace(views, n=4)
    level, over = ([_of(x, views, who) for x in (q, k, v)] for who in (AROUND, OVER))
    around = read(layer, LAYOUTS["rows"].make(), four, *level).unflatten(0, (-1, 4))
    above = read(layer, LAYOUTS["columns"].make(), four, *(_mirrored(x, views) for x in over))
    above = _mirrored(above, views).unflatten(0, (-1, 4))
    front, back = (around[:, 0] + above[:, 0]) / 2, (around[:, 2] + above[:, 1]) / 2
    return torch.stack([front, around[:, 1], back, around[:, 3], above[:, 2], above[:, 3]], dim=1).flatten(0, 1)


ACROSS: Final[dict[str, Across]] = {"rows": rows, "faces": faces}


def across(name: str) -> Across:
    """The reading of that name; UnknownNameError names the nearest."""
    if name not in ACROSS:
        raise UnknownNameError("reading of MV-Adapter's views", name, ACROSS)
    return ACROSS[name]


def _of(x: Tensor, views: Views, who: tuple[int, ...]) -> Tensor:
    """Some of the views of every row: [B * 6, L, C] -> [B * 4, L, C]."""
    return x.unflatten(0, (-1, views.n))[:, list(who)].flatten(0, 1)


def _mirrored(x: Tensor, views: Views) -> Tensor:
    """The first of every four views with its left and right changed: [B * 4, L, C]."""
    front, others = x.unflatten(0, (-1, 4)).split([1, 3], dim=1)
    front = front.unflatten(2, (views.h, views.w)).flip(3).flatten(2, 3)
    return torch.cat([front, others], dim=1).flatten(0, 1)
