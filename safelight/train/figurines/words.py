"""Teach a CLIP text encoder to say, from a caption, what the person looks like.

The encoder is causal, so the tokens that pad a caption have read all of it. The last sixteen places answer one
attribute each: a linear head on place -16 + i names the value of attribute i, or "not said". A U-Net that attends to
these places finds every attribute under an address of its own. The heads are dropped after training.
Axes: B captions, L = 77 tokens, C width.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from safelight.core.noise import key
from safelight.encoders.clip import ClipText, ClipTextConfig
from safelight.encoders.tokenizer import ClipTokenizer
from safelight.errors import ConfigError
from safelight.figurines.attributes import ATTRIBUTES
from safelight.figurines.captions import caption, words
from safelight.figurines.person import Person, random_people
from safelight.train.order import first_weights

NAMES = tuple(ATTRIBUTES)
UNSAID = 0
"""Class number of an attribute that a caption leaves out; value v of an attribute is class 1 + v."""


@dataclass(frozen=True)
class Words:
    """The text encoder's shape, and how often it sees an empty caption.

    Attributes:
        width: of every token's vector. layers: of the transformer. heads: of every attention; divides ``width``.
        empty: share of empty captions, 0 to 1.

    Raises:
        ConfigError: a share outside 0 to 1.
    """

    width: int = 128
    layers: int = 4
    heads: int = 4
    empty: float = 0.02

    def __post_init__(self) -> None:
        if not 0 <= self.empty <= 1:
            raise ConfigError(f"empty = {self.empty} must lie between 0 and 1")

    def config(self, vocabulary: int) -> ClipTextConfig:
        """The released configuration for a vocabulary that ends with the start and the end token."""
        return ClipTextConfig(
            vocab_size=vocabulary,
            hidden_size=self.width,
            intermediate_size=4 * self.width,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            projection_dim=self.width,
            bos_token_id=vocabulary - 2,
            eos_token_id=vocabulary - 1,
            pad_token_id=vocabulary - 1,
        )


def captions(people: Sequence[Person], seed: int, empty: float) -> tuple[list[str], list[dict[str, str]]]:
    """One caption per person and what it states; a share ``empty`` of them says nothing."""
    rng = np.random.default_rng(seed)
    drawn = [("", {}) if rng.random() < empty else caption(person, rng) for person in people]
    return [text for text, _ in drawn], [stated for _, stated in drawn]


def classes(stated: Sequence[dict[str, str]]) -> Tensor:
    """What captions state as class numbers [B, 16]: UNSAID, or 1 + the place of the value."""
    rows = [[1 + ATTRIBUTES[n].index(said[n]) if n in said else UNSAID for n in NAMES] for said in stated]
    return torch.tensor(rows)


class Reader(nn.Module):
    """A text encoder with one head per attribute."""

    def __init__(self, config: ClipTextConfig) -> None:
        super().__init__()
        self.text = ClipText(config)
        self.heads = nn.ModuleList(nn.Linear(config.hidden_size, 1 + len(v)) for v in ATTRIBUTES.values())

    def forward(self, ids: Tensor) -> list[Tensor]:
        """[B, L] -> for each attribute [B, 1 + values] scores."""
        slots = self.text(ids).last[:, -len(self.heads) :]
        return [head(slots[:, i]) for i, head in enumerate(self.heads)]


class Reading:
    """The task: captions of people drawn anew in every step, each read back in full.

    Args:
        vocabulary: numbers of the tokenizer, start and end included.
        device: where the network is trained.
    """

    def __init__(
        self, words: Words, tokenizer: ClipTokenizer, vocabulary: int, batch: int, seed: int, device: str = "cpu"
    ) -> None:
        with first_weights(seed):
            self.module = Reader(words.config(vocabulary)).to(device)
        self.words, self.tokenizer, self.batch, self.seed = words, tokenizer, batch, seed
        self.device = torch.device(device)

    def examples(self, step: int, split: str = "train") -> tuple[Tensor, Tensor]:
        """Token numbers [B, 77] and classes [B, 16] of a step, on the device of the task."""
        seed = key(self.seed, "captions", split, step)
        people = random_people(np.random.default_rng(seed), self.batch, split)
        texts, stated = captions(people, seed + 1, self.words.empty)
        return token_rows(self.tokenizer, texts).to(self.device), classes(stated).to(self.device)

    def loss(self, step: int, part: slice) -> Tensor:
        """Mean cross-entropy over all attributes."""
        ids, wanted = self.examples(step)
        scores = self.module(ids[part])
        return torch.stack([F.cross_entropy(s.float(), wanted[part, i]) for i, s in enumerate(scores)]).mean()

    @torch.no_grad()
    def accuracy(self, batches: int = 8, split: str = "test") -> float:
        """Share of captions of unseen people read without a single slip."""
        right = total = 0
        for step in range(batches):
            ids, wanted = self.examples(step, split)
            read = torch.stack([s.argmax(-1) for s in self.module(ids)], 1)
            right += int((read == wanted).all(1).sum())
            total += len(wanted)
        return right / total


def spoken() -> set[str]:
    """Every word that a caption can hold, cut as a tokenizer cuts them."""
    return {piece for word in words() for piece in re.findall(r"[a-z]+", word.lower())}


def token_rows(tokenizer: ClipTokenizer, texts: Sequence[str]) -> Tensor:
    """Texts as the encoder reads them: whole numbers [B, 77]."""
    return torch.tensor([tokenizer.encode(text).ids for text in texts])
