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
        if move.how == "split":
            made |= zip(move.ours, tensor.chunk(len(move.ours)), strict=True)
        elif move.how == "conv":
            made[move.ours[0]] = tensor[:, :, 0, 0]
        else:
            made[move.ours[0]] = _same_both_ways(tensor, move.how)
    return made


def to_theirs(tensors: Mapping[str, Tensor], moves: Iterable[Move], prefix: str = "") -> dict[str, Tensor]:
    """The tensors of a released folder under the names of a single file."""
    made: dict[str, Tensor] = {}
    for move in moves:
        name = prefix + move.theirs
        if move.how == "split":
            made[name] = torch.cat([tensors[part] for part in move.ours])
        elif move.how == "conv":
            made[name] = tensors[move.ours[0]][:, :, None, None]
        else:
            made[name] = _same_both_ways(tensors[move.ours[0]], move.how)
    return made


def _same_both_ways(tensor: Tensor, how: str) -> Tensor:
    if how == "transpose":
        return tensor.T.contiguous()
    if how == "swap":
        first, second = tensor.chunk(2)
        return torch.cat([second, first])
    return tensor
