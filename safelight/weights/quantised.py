"""Blocks of quantised numbers to float32: 32 numbers share a scale, and in some formats a smallest value.

Axes: N blocks, 32 numbers each. In the formats of 4 and 5 bits byte j of a block holds number j in its low half and
number j + 16 in its high half; the fifth bits stand together in one 32-bit word. Source: the format's specification,
https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, and the layout of its blocks in ``ggml-common.h``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from safelight.weights.header import BLOCK, BLOCKS


def dequantise(data: Tensor, kind: str, shape: tuple[int, ...]) -> Tensor:
    """The float32 tensor of ``shape`` that the bytes ``data`` [bytes] of the format ``kind`` stand for.

    Every product is exact but for float32's own rounding: scales are float16, numbers at most 8 bits.
    """
    rows = data.reshape(-1, BLOCKS[kind])
    scale, rest = _half(rows[:, :2]), rows[:, 2:]
    if kind == "Q8_0":
        return (rest.contiguous().view(torch.int8).float() * scale).reshape(shape)
    low = None
    if kind.endswith("_1"):
        low, rest = _half(rest[:, :2]), rest[:, 2:]
    if kind.startswith("Q5"):
        fifth = (rest[:, :4, None] >> torch.arange(8, dtype=torch.uint8)) & 1  # number j has bit j, lowest first
        numbers = _nibbles(rest[:, 4:]) | (fifth.reshape(-1, BLOCK) << 4)
    else:
        numbers = _nibbles(rest)
    if low is not None:
        return (numbers.float() * scale + low).reshape(shape)
    return ((numbers.float() - (16 if kind.startswith("Q5") else 8)) * scale).reshape(shape)


def _half(pair: Tensor) -> Tensor:
    """Two bytes a row as one float16 number: [N, 2] -> [N, 1] float32."""
    return pair.contiguous().view(torch.float16).float()


def _nibbles(bytes_: Tensor) -> Tensor:
    """[N, 16] bytes -> [N, 32] numbers below 16."""
    return torch.cat([bytes_ & 15, bytes_ >> 4], dim=1)
