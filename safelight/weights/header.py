"""What a file of weights says of itself before a number in it is read, whatever its container: no torch, no trust."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

MAX_HEADER = 16 * 2**20
"""Bytes of the longest header that is read; real ones have at most about 1 MB, 10 MB with a vocabulary inside."""
MAX_TENSORS = 20_000
"""Real files hold at most about 3,000 in one file."""
MAX_RANK = 16
BITS = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 16),
    **dict.fromkeys(("U32", "I32", "F32"), 32),
    **dict.fromkeys(("U64", "I64", "F64", "C64"), 64),
}
"""Bits of one number of each plain format, under the names of safetensors."""
BLOCKS = {"Q4_0": 18, "Q4_1": 20, "Q5_0": 22, "Q5_1": 24, "Q8_0": 34}
"""Bytes of a block of BLOCK numbers of each quantised format of GGUF."""
BLOCK = 32


@dataclass(frozen=True)
class Entry:
    """Where one tensor lies.

    Attributes:
        dtype: a name of BITS or BLOCKS.
        shape: as torch would say it, the slowest axis first.
        begin, end: bytes from the start of the file.
        strides: in numbers, where the tensor is not simply laid out row by row.
    """

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int
    strides: tuple[int, ...] | None = None

    @property
    def count(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Header:
    """What a checked file holds.

    Attributes:
        entries: tensors by name.
        metadata: free text by name.
        size: of the file in bytes.
        container: ``safetensors``, ``gguf`` or ``pickle``.
    """

    entries: Mapping[str, Entry]
    metadata: Mapping[str, str] = field(default_factory=dict)
    size: int = 0
    container: str = "safetensors"

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of every tensor by name."""
        return {name: entry.shape for name, entry in self.entries.items()}


def possible(shape: tuple[int, ...] | list[int]) -> bool:
    """Whether a tensor can have this shape at all, which a length of 0 beside others without end hides."""
    return math.prod(max(length, 1) for length in shape) < 2**63


def size_of(dtype: str, shape: tuple[int, ...]) -> int | None:
    """Bytes that a tensor takes row by row; None where its last axis is no multiple of its blocks."""
    count = math.prod(shape)
    if dtype in BITS:
        return count * BITS[dtype] // 8
    if not shape or shape[-1] % BLOCK:
        return None
    return count // BLOCK * BLOCKS[dtype]
