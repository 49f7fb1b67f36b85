"""What describes a person, and what can be named of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from safelight.errors import RequestError, UnknownNameError
from safelight.figurines.attributes import distinct_people
from safelight.figurines.person import ATTRIBUTES, Person, random_people, random_person, visible

PLAIN = Person(
    skin="tan", hair="short", hair_color="brown", eyes="blue", mouth="smile", nose="small", ears="round", hat="none",
    hat_color="red", glasses="none", clothes="plain", clothes_color="blue", mark_side="left", mark_color="red",
    head="round", background="lime",
)  # fmt: skip


def test_there_are_at_least_twelve_attributes_and_ten_million_nameable_people():
    assert len(ATTRIBUTES) >= 12
    assert distinct_people() == 4_808_958_336


def test_the_count_is_that_of_distinct_descriptions():
    """Checked on what the attributes that depend on each other can say, by listing all descriptions."""
    dependent = ("hair", "hair_color", "eyes", "ears", "hat", "hat_color", "glasses")
    rng = np.random.default_rng(0)
    said = set()
    for codes in np.stack([rng.integers(0, len(ATTRIBUTES[name]), 8000) for name in dependent], 1):
        person = replace(PLAIN, **{n: ATTRIBUTES[n][c] for n, c in zip(dependent, codes, strict=True)})
        said.add(tuple(value for name, value in visible(person).items() if name in dependent))
    free = np.prod([len(v) for n, v in ATTRIBUTES.items() if n not in dependent])
    assert len(said) <= distinct_people() // free
    assert distinct_people() % free == 0


@pytest.mark.parametrize(
    ("change", "hidden"),
    [({}, {"hat_color"}), ({"hair": "bald"}, {"hair_color", "hat_color"}), ({"hat": "crown"}, set()),
     ({"hair": "long"}, {"ears", "hat_color"}), ({"glasses": "sunglasses"}, {"eyes", "hat_color"}),
     ({"hair": "bun", "hat": "beanie"}, {"hair"}), ({"hair": "mohawk"}, {"hat_color"})],
)  # fmt: skip
def test_only_what_shows_can_be_named(change, hidden):
    person = replace(PLAIN, **change)
    assert set(ATTRIBUTES) - set(visible(person)) == hidden
    assert all(getattr(person, name) == value for name, value in visible(person).items())


def test_codes_and_mappings_lead_back_to_the_person():
    for person in random_people(np.random.default_rng(1), 20):
        assert Person.from_codes(person.codes()) == person
        assert Person.from_mapping({name: getattr(person, name) for name in ATTRIBUTES}) == person


def test_unknown_values_are_refused_with_the_nearest_ones():
    with pytest.raises(UnknownNameError, match="beanie"):
        replace(PLAIN, hat="beany")
    with pytest.raises(RequestError, match="background"):
        Person.from_mapping({name: getattr(PLAIN, name) for name in ATTRIBUTES if name != "background"})


def test_the_same_seed_draws_the_same_person():
    assert random_person(np.random.default_rng(5)) == random_person(np.random.default_rng(5))
    assert random_person(np.random.default_rng(5)) != random_person(np.random.default_rng(6))
