"""Philox-4x32-10: random numbers as a function of a counter and a key, and the normals that CUDA makes of them.

What a seed means on an NVIDIA card: number i of draw n is the first normal of the block with counter (n, 0, i, 0) and
the seed as key, as long as the card has a thread for every number (40 960 on a T4, 270 336 on an H100); beyond that,
cards differ among themselves. Integers are int64 tensors that hold 32 bits; shapes [N].

Sources: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC11, section 3.3; Box & Muller 1958, in the form
that the cuRAND documentation gives; the layout of counters as measured in pytorch issues 194676 and 196613.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

_WORD = 0xFFFFFFFF
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_BUMPS = (0x9E3779B9, 0xBB67AE85)
_ROUNDS = 10


def philox(counter: Sequence[Tensor], key: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Four random words for every counter.

    Args:
        counter: four int64 tensors [N] of words, 0 to 2^32 - 1, the lowest first.
        key: two words.
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(_ROUNDS):
        high0, low0 = _product(c0, _MULTIPLIERS[0])
        high1, low1 = _product(c2, _MULTIPLIERS[1])
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = (k0 + _BUMPS[0]) & _WORD, (k1 + _BUMPS[1]) & _WORD
    return c0, c1, c2, c3


def _product(word: Tensor, multiplier: int) -> tuple[Tensor, Tensor]:
    """High and low word of a product of two words, without leaving 63 bits."""
    upper, lower = (word >> 16) * multiplier, (word & 0xFFFF) * multiplier
    high = (upper + (lower >> 16)) >> 16
    low = (((upper & 0xFFFF) << 16) + lower) & _WORD
    return high, low


def normals(seed: int, turn: int, count: int) -> Tensor:
    """Unit normals [count], float32: what ``torch.randn`` gives on an NVIDIA card, but for rounding (about 1e-6).

    Args:
        seed: of the card's generator, any 64 bits; a negative one counts from 2^64 downwards.
        turn: how many times the generator was asked before, 0 for the first draw.
        count: how many numbers.
    """
    place = torch.arange(count)
    none = torch.zeros_like(place)
    seed %= 2**64
    first, second, _, _ = philox((none + turn, none, place, none), (seed & _WORD, seed >> 32))
    u = first.float() * 2.0**-32 + 2.0**-33
    angle = second.float() * (2.0**-32 * 2.0 * math.pi) + 2.0**-33 * 2.0 * math.pi
    return torch.sqrt(-2.0 * torch.log(u)) * torch.sin(angle)
