"""The words that describe a figurine, and which of them can be seen in its portrait.

A person is 16 choices. As numbers they are codes: integers [N, 16], column = attribute in the order of `ATTRIBUTES`,
entry = place of the value in its tuple.
"""

from __future__ import annotations

from typing import Final

import numpy as np

ATTRIBUTES: Final[dict[str, tuple[str, ...]]] = {
    "skin": ("tan", "brown", "yellow", "green", "blue", "pink"),
    "hair": ("bald", "short", "long", "afro", "mohawk", "bun"),
    "hair_color": ("black", "brown", "blond", "red", "green", "blue", "purple", "white"),
    "eyes": ("green", "blue", "brown", "red"),
    "mouth": ("smile", "frown", "open", "flat"),
    "nose": ("small", "long", "round"),
    "ears": ("round", "pointed", "big"),
    "hat": ("none", "beanie", "top hat", "crown", "party hat"),
    "hat_color": ("red", "orange", "yellow", "green", "blue", "purple"),
    "glasses": ("none", "round", "square", "sunglasses"),
    "clothes": ("plain", "striped", "tie"),
    "clothes_color": ("red", "orange", "yellow", "green", "blue", "purple", "black", "white"),
    "mark_side": ("left", "right"),
    "mark_color": ("red", "black", "white"),
    "head": ("round", "long", "wide"),
    "background": ("sky blue", "mint", "lavender", "rose", "lemon", "lime", "orchid"),
}
"""Every attribute with its values. ``mark_side`` is the person's own side: their left is the picture's right."""

NAMES: Final = tuple(ATTRIBUTES)
SIZES: Final = np.array([len(values) for values in ATTRIBUTES.values()])
COLUMN: Final = {name: i for i, name in enumerate(NAMES)}

HIDES_EARS: Final = ("long", "afro")
"""Hair that covers the ears."""
HIDDEN_BY_HATS: Final = ("mohawk", "bun")
"""Hair whose shape is lost under a hat; its colour still shows below the rim."""


def code(name: str, value: str) -> int:
    """Place of ``value`` among the values of attribute ``name``; ValueError or KeyError where there is none."""
    return ATTRIBUTES[name].index(value)


def nameable(codes: np.ndarray) -> np.ndarray:
    """Which attributes of each person can be named by one who sees the portrait: [N, 16] codes -> [N, 16] bool."""
    seen = np.ones(codes.shape, dtype=bool)
    hair, hat = codes[:, COLUMN["hair"]], codes[:, COLUMN["hat"]]
    hatless = hat == code("hat", "none")
    covered = np.isin(hair, [code("hair", style) for style in HIDDEN_BY_HATS]) & ~hatless
    seen[:, COLUMN["hair"]] = ~covered
    seen[:, COLUMN["hair_color"]] = hair != code("hair", "bald")
    seen[:, COLUMN["hat_color"]] = ~hatless
    seen[:, COLUMN["eyes"]] = codes[:, COLUMN["glasses"]] != code("glasses", "sunglasses")
    seen[:, COLUMN["ears"]] = ~np.isin(hair, [code("hair", style) for style in HIDES_EARS])
    return seen


def distinct_people() -> int:
    """How many people can be told apart by what can be named, hidden attributes left out of the count."""
    dependent = [COLUMN[name] for name in ("hair", "hair_color", "eyes", "ears", "hat", "hat_color", "glasses")]
    grid = np.indices(tuple(SIZES[dependent])).reshape(len(dependent), -1).T
    codes = np.zeros((len(grid), len(NAMES)), dtype=np.int64)
    codes[:, dependent] = grid
    shown = np.where(nameable(codes), codes, SIZES)
    places = np.ravel_multi_index(tuple(shown.T), tuple(SIZES + 1))
    others = np.delete(SIZES, dependent)
    return len(np.unique(places)) * int(np.prod(others))
