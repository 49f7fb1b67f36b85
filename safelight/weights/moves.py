"""Give tensors the names and shapes of the other layout; views wherever a view will do, so nothing is copied."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from safelight.weights.keys import Move


def to_ours(tensors: Mapping[str, Tensor], moves: Iterable[Move], prefix: str = "") -> dict[str, Tensor]:
    """The tensors of a single file under their released names; ``prefix`` stands before theirs."""
    made: dict[str, Tensor] = {}
    for move in moves:
        tensor = tensors[prefix + move.theirs]
        if move.how.endswith("conv"):
            tensor = tensor[:, :, 0, 0]
        if move.how.startswith("split"):
            made |= zip(move.ours, tensor.chunk(len(move.ours)), strict=True)
        else:
            made[move.ours[0]] = tensor[..., 0] if move.how == "column" else _same_both_ways(tensor, move.how)
    return made


def to_theirs(tensors: Mapping[str, Tensor], moves: Iterable[Move], prefix: str = "") -> dict[str, Tensor]:
    """The tensors of a released folder under the names of a single file."""
    made: dict[str, Tensor] = {}
    for move in moves:
        name = prefix + move.theirs
        tensor = tensors[move.ours[0]]
        if move.how.startswith("split"):
            tensor = torch.cat([tensors[part] for part in move.ours])
        if move.how.endswith("conv"):
            made[name] = tensor[:, :, None, None]
        else:
            made[name] = tensor[..., None] if move.how == "column" else _same_both_ways(tensor, move.how)
    return made


def _same_both_ways(tensor: Tensor, how: str) -> Tensor:
    if how == "transpose":
        return tensor.T.contiguous()
    if how == "swap":
        first, second = tensor.chunk(2)
        return torch.cat([second, first])
    return tensor
