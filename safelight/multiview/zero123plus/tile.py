"""Six views as one picture, three rows of two, so that plain self-attention sees all of them, and back.

Axes: [B, C, V, h, w] views and [B, C, 3 h, 2 w] tiles, of latents or of colours; view 0 stands at the upper left, view
1 beside it. Source: Shi et al. 2310.15110, section 2.1.
"""

from __future__ import annotations

from typing import Final

from torch import Tensor

from safelight.errors import RequestError

ROWS: Final = 3
COLUMNS: Final = 2
VIEWS: Final = ROWS * COLUMNS


def tiled(views: Tensor) -> Tensor:
    """[B, C, 6, h, w] -> [B, C, 3 h, 2 w].

    Raises:
        RequestError: another number of views.
    """
    if views.ndim != 5 or views.shape[2] != VIEWS:
        raise RequestError(f"Zero123++ draws {VIEWS} views at once, [B, Z, {VIEWS}, h, w], not {list(views.shape)}")
    rows = views.unflatten(2, (ROWS, COLUMNS)).transpose(3, 4)  # [B, C, rows, h, columns, w]
    return rows.flatten(4, 5).flatten(2, 3)


def apart(tile: Tensor) -> Tensor:
    """The inverse of `tiled`: [B, C, 3 h, 2 w] -> [B, C, 6, h, w].

    Raises:
        RequestError: a tile that is not three views high and two wide, each as high as wide.
    """
    height, width = tile.shape[-2:]
    if height * COLUMNS != width * ROWS or height % ROWS:
        raise RequestError(f"a tile of {VIEWS} square views is {ROWS} high and {COLUMNS} wide, not {height} x {width}")
    rows = tile.unflatten(3, (COLUMNS, -1)).unflatten(2, (ROWS, -1))  # [B, C, rows, h, columns, w]
    return rows.transpose(3, 4).flatten(2, 3)
