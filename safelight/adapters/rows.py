"""Add what an adapter says to the ports of a call, to its own rows only.

Axes: W rows of a call, C channels, h w grid.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def own(rows: Tensor, mine: Tensor) -> Tensor:
    """``mine`` [W, C, h, w] (or of one row) in the rows [W] that are True; in the others what adds nothing to any bit.

    That is minus zero: minus zero and zero would be zero.
    """
    nothing = torch.full_like(mine, -0.0)
    return torch.where(rows[:, None, None, None], mine, nothing)


def added(rows: Tensor, mine: Sequence[Tensor], inner: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """What is there already, ``inner``, with ``mine`` added to its own rows, tensor by tensor; inner may be empty.

    The longer of the two says how many there are: an adapter may have something to say to the first blocks only.
    """
    laid = [own(rows, each) for each in mine]
    both = [there + each for there, each in zip(inner, laid)]
    return (*both, *inner[len(both) :], *laid[len(both) :])
