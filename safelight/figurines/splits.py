"""Who may be trained on: pairs of values that never meet in training, and a split of the others by identity.

Axis legend: N people, 16 attributes. Codes are as in `attributes`.
"""

from __future__ import annotations

from typing import Final, Protocol

import numpy as np

from safelight.errors import UnknownNameError
from safelight.figurines.attributes import ATTRIBUTES, COLUMN, NAMES, SIZES, nameable

SPLITS: Final = ("train", "validation", "test", "unseen")
"""``unseen``: at least one held-out pair shows; the others show none and are divided by identity 90 : 5 : 5."""
SEEDS: Final = {"train": 1, "validation": 2, "test": 3, "unseen": 4}
"""A seed for each split, with which the evaluations draw, so that all scores speak of the same people."""

_PATTERNS: Final = {
    ("skin", "hair_color"): (3, 3),
    ("skin", "hat_color"): (1, 3),
    ("skin", "clothes_color"): (1, 1),
    ("skin", "background"): (3, 3),
    ("hair_color", "hat_color"): (3, 1),
    ("hair_color", "clothes_color"): (1, 0),
    ("hair_color", "background"): (1, 1),
    ("hat_color", "clothes_color"): (3, 3),
    ("hat_color", "background"): (1, 3),
    ("clothes_color", "background"): (3, 3),
    ("hair", "clothes_color"): (3, 1),
    ("hair", "background"): (3, 3),
}
"""(a, b) for two attributes: values number i and j never meet in training where i + a j + b is a multiple of 4. Every
value thus loses a quarter of its partners, none all; a and b were searched so that training marginals stay even."""

_HAIR_AND_HAT: Final = np.array(
    [
        [7, 16, 16, 16, 16],
        [21, 56, 56, 56, 56],
        [19, 50, 50, 50, 50],
        [21, 54, 54, 54, 54],
        [47, 15, 15, 15, 15],
        [62, 15, 15, 15, 15],
    ]
)
"""[hair, hat] proposal weights that make up for the rejections: hair comes out even, a third goes bareheaded, and
hair that a hat would hide is bareheaded three times in five."""

_HIDDEN: Final = 255


def _table(first: str, second: str) -> np.ndarray:
    """[values of first, values of second] bool: True where the two never meet in training."""
    i, j = np.indices((len(ATTRIBUTES[first]), len(ATTRIBUTES[second])))
    step, shift = _PATTERNS[first, second]
    return (i + step * j + shift) % 4 == 0


_TABLES: Final = {pair: _table(*pair) for pair in _PATTERNS}

HELD_OUT_PAIRS: Final[frozenset[tuple[tuple[str, str], tuple[str, str]]]] = frozenset(
    ((first, ATTRIBUTES[first][i]), (second, ATTRIBUTES[second][j]))
    for (first, second), table in _TABLES.items()
    for i, j in np.argwhere(table)
)
"""Pairs ((attribute, value), (attribute, value)), attributes in the order of `ATTRIBUTES`, that no training portrait
shows together."""


class Coded(Protocol):
    """Anything that can say itself in codes, such as a `Person`."""

    def codes(self) -> np.ndarray:
        """Codes [16]."""
        ...


def unseen(codes: np.ndarray) -> np.ndarray:
    """Whether a held-out pair shows in each portrait: [N, 16] codes -> [N] bool."""
    seen = nameable(codes)
    found = np.zeros(len(codes), dtype=bool)
    for (first, second), table in _TABLES.items():
        a, b = COLUMN[first], COLUMN[second]
        found |= table[codes[:, a], codes[:, b]] & seen[:, a] & seen[:, b]
    return found


def identity(codes: np.ndarray) -> np.ndarray:
    """A stable hash of what can be seen of each person: [N, 16] codes -> [N] uint64.

    People who differ only in what is hidden are the same person. The mixing is splitmix64 (Steele et al., 2014).
    """
    shown = np.where(nameable(codes), codes, _HIDDEN).astype(np.uint64)
    state = np.zeros(len(codes), dtype=np.uint64)
    for column in range(shown.shape[1]):
        state = (state ^ shown[:, column]) + np.uint64(0x9E3779B97F4A7C15)
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        state ^= state >> np.uint64(31)
    return state


def split_codes(codes: np.ndarray) -> np.ndarray:
    """Place in `SPLITS` of each person: [N, 16] codes -> [N] ints."""
    place = identity(codes) % np.uint64(20)
    by_identity = np.where(place == 0, 1, np.where(place == 1, 2, 0))
    return np.where(unseen(codes), SPLITS.index("unseen"), by_identity)


def split_of(person: Coded) -> str:
    """The one split, of `SPLITS`, that this person belongs to."""
    return SPLITS[int(split_codes(person.codes()[None])[0])]


def draw_codes(rng: np.random.Generator, count: int, split: str) -> np.ndarray:
    """Codes [count, 16] of independent people of one split, by rejection, whole blocks at a time.

    All attributes are proposed evenly but hair and hat (see `_HAIR_AND_HAT`).

    Raises:
        UnknownNameError: no such split.
    """
    if split not in SPLITS:
        raise UnknownNameError("split", split, SPLITS)
    wanted = SPLITS.index(split)
    block = min(max(256, 32 * count), 1 << 18)
    kept: list[np.ndarray] = []
    while sum(map(len, kept)) < count:
        codes = rng.integers(0, SIZES, size=(block, len(NAMES)), dtype=np.int64)
        joint = np.searchsorted(_HAIR_AND_HAT.cumsum(), rng.integers(0, _HAIR_AND_HAT.sum(), size=block), side="right")
        codes[:, COLUMN["hair"]], codes[:, COLUMN["hat"]] = np.divmod(joint, _HAIR_AND_HAT.shape[1])
        possible = codes if split == "unseen" else codes[~unseen(codes)]
        kept.append(possible[split_codes(possible) == wanted])
    return np.concatenate(kept)[:count]
