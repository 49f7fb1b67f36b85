"""Nothing held out is ever trained on, nothing becomes impossible, and identities stay in their split."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from safelight.errors import UnknownNameError
from safelight.figurines.attributes import ATTRIBUTES, COLUMN, NAMES, SIZES, code, nameable
from safelight.figurines.person import Person, random_people, visible
from safelight.figurines.splits import HELD_OUT_PAIRS, SEEDS, SPLITS, draw_codes, identity, split_codes, split_of


@pytest.fixture(scope="module")
def trained() -> np.ndarray:
    return draw_codes(np.random.default_rng(SEEDS["train"]), 100_000, "train")


def test_a_hundred_thousand_training_people_show_no_held_out_pair(trained):
    seen = nameable(trained)
    for (first, value), (second, other) in HELD_OUT_PAIRS:
        a, b = COLUMN[first], COLUMN[second]
        both = (trained[:, a] == code(first, value)) & (trained[:, b] == code(second, other))
        assert not (both & seen[:, a] & seen[:, b]).any()


def test_a_twentieth_of_all_pairs_of_values_is_held_out():
    possible = sum(len(ATTRIBUTES[a]) * len(ATTRIBUTES[b]) for a, b in combinations(NAMES, 2))
    assert len(HELD_OUT_PAIRS) >= 0.05 * possible
    assert all(NAMES.index(a) < NAMES.index(b) for (a, _), (b, _) in HELD_OUT_PAIRS)


def pairs(codes: np.ndarray) -> set[tuple[tuple[str, str], tuple[str, str]]]:
    """All pairs of values that some person shows together."""
    seen, shown = nameable(codes), set()
    for a, b in combinations(NAMES, 2):
        i, j = COLUMN[a], COLUMN[b]
        both = seen[:, i] & seen[:, j]
        found = np.bincount(codes[both, i] * SIZES[j] + codes[both, j], minlength=SIZES[i] * SIZES[j])
        shown |= {((a, ATTRIBUTES[a][k // SIZES[j]]), (b, ATTRIBUTES[b][k % SIZES[j]])) for k in np.flatnonzero(found)}
    return shown


def test_every_other_pair_of_values_does_occur_in_training(trained):
    anybody = np.random.default_rng(0).integers(0, SIZES, size=(200_000, len(NAMES)))
    assert pairs(trained) == pairs(anybody) - HELD_OUT_PAIRS


def test_training_values_stay_near_even(trained):
    seen = nameable(trained)
    for name in NAMES:
        if name in ("hair", "hat"):
            continue
        counts = np.bincount(trained[seen[:, COLUMN[name]], COLUMN[name]], minlength=len(ATTRIBUTES[name]))
        assert counts.min() > 0.7 * counts.mean()
        assert counts.max() < 1.35 * counts.mean()


@pytest.mark.parametrize("split", SPLITS)
def test_people_drawn_from_a_split_belong_to_it(split):
    people = random_people(np.random.default_rng(SEEDS[split]), 50, split)
    assert {split_of(person) for person in people} == {split}


def test_every_unseen_person_shows_a_held_out_pair():
    for person in random_people(np.random.default_rng(9), 100, "unseen"):
        shown = visible(person).items()
        assert any((a in shown) and (b in shown) for a, b in HELD_OUT_PAIRS)


def test_identity_ignores_what_is_hidden_and_never_changes():
    person = Person.from_codes(np.zeros(16, dtype=np.int64))
    assert person.hair == "bald"
    codes = np.repeat(person.codes()[None], 2, 0)
    codes[1, COLUMN["hair_color"]] = 3
    first, second = identity(codes)
    assert first == second
    assert int(first) == IDENTITY_OF_ZEROS


IDENTITY_OF_ZEROS = 8387738003585906311


def test_identity_divides_ninety_to_five_to_five():
    codes = np.random.default_rng(0).integers(0, SIZES, size=(150_000, len(NAMES)))
    places = split_codes(codes)
    known = places[places < SPLITS.index("unseen")]
    shares = np.bincount(known) / len(known)
    assert np.allclose(shares, [0.90, 0.05, 0.05], atol=0.01)


def test_an_unknown_split_is_refused():
    with pytest.raises(UnknownNameError, match="train"):
        draw_codes(np.random.default_rng(0), 1, "training")
