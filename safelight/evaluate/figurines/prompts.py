"""Prompts that no training caption can have been: each states a pair of values that never meet in training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from safelight.figurines.captions import caption
from safelight.figurines.person import Person, random_people
from safelight.figurines.splits import HELD_OUT_PAIRS, SEEDS

SPLIT = "unseen"


@dataclass(frozen=True)
class Prompt:
    """What is drawn and what must be seen.

    Attributes:
        text: the caption. stated: what it says, attribute -> value. person: whom it describes, true of all attributes.
    """

    text: str
    stated: Mapping[str, str]
    person: Person


def held_out(count: int, seed: int = SEEDS[SPLIT]) -> list[Prompt]:
    """``count`` different captions of people who were never trained on, each with a held-out pair among what it states.

    Captions that leave the pair out say nothing new, so they are passed over; short captions are rarer here than in
    training for that reason.
    """
    rng = np.random.default_rng(seed)
    found: dict[str, Prompt] = {}
    while len(found) < count:
        for person in random_people(rng, 256, SPLIT):
            text, stated = caption(person, rng)
            if states_a_held_out_pair(stated):
                found.setdefault(text, Prompt(text, stated, person))
    return list(found.values())[:count]


def states_a_held_out_pair(stated: Mapping[str, str]) -> bool:
    """Whether two of these values never meet in training; ``stated`` is in the order of the attributes."""
    return any(pair in HELD_OUT_PAIRS for pair in combinations(stated.items(), 2))
