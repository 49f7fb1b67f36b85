"""Words that were learned: vectors that stand in for those of the encoder's own table, for one model.

Axes: n vectors of a word, C width of an encoder. Source: Gal et al. 2208.01618, section 3 (textual inversion).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from safelight.encoders.tokenizer import ClipTokenizer


@dataclass(frozen=True, eq=False)
class Learned:
    """One word. It is found in a prompt whatever its case, and read as ``n`` tokens in a row.

    Attributes:
        word: as it stands in a prompt. vectors: [n, C] for each text encoder of the model, in its order.
    """

    word: str
    vectors: tuple[Tensor, ...]

    @property
    def count(self) -> int:
        """n, how many tokens of a row it takes."""
        return len(self.vectors[0])


def taught(tokenizer: ClipTokenizer, words: Sequence[Learned], first: int) -> ClipTokenizer:
    """A tokenizer that knows the words too, and gives their vectors the numbers from ``first`` on."""
    return tokenizer.taught({each.word: each.count for each in words}, first) if words else tokenizer


def table(words: Sequence[Learned], encoder: int, like: Tensor) -> Tensor | None:
    """The vectors [sum of n, C] of an encoder in the order of those numbers; None where nothing was learned."""
    return torch.cat([each.vectors[encoder].to(like) for each in words]) if words else None
