"""Captions say only what is true and visible, and the parser reads back exactly what they say."""

from __future__ import annotations

import re
from collections import Counter
from functools import cache

import numpy as np
import pytest

from safelight.figurines.attributes import ATTRIBUTES
from safelight.figurines.captions import FRAMES, MAX_PIECES, caption, parse, unknown_words, words
from safelight.figurines.person import Person, random_people, visible


@cache
def described() -> list[tuple[Person, str, dict[str, str]]]:
    rng = np.random.default_rng(0)
    people = random_people(rng, 5000) + random_people(rng, 5000, "unseen")
    return [(person, *caption(person, rng)) for person in people]


def test_parser_reads_back_exactly_what_ten_thousand_captions_state() -> None:
    wrong = [(text, stated, parse(text)) for _, text, stated in described() if parse(text) != stated]
    assert wrong == []


def test_captions_state_only_what_is_true_and_visible() -> None:
    for person, _, stated in described():
        assert stated
        assert stated.items() <= visible(person).items()


def test_captions_are_varied() -> None:
    assert len(FRAMES) >= 12
    assert len({text for _, text, _ in described()}) >= 5000


def test_each_attribute_is_stated_equally_often_where_it_is_visible() -> None:
    seen = Counter(name for person, _, _ in described() for name in visible(person))
    said = Counter(name for _, _, stated in described() for name in stated)
    shares = [said[name] / seen[name] for name in ATTRIBUTES]
    assert max(shares) - min(shares) < 0.05


def test_many_captions_say_little_and_some_say_nearly_all() -> None:
    sizes = np.array([len(stated) for _, _, stated in described()])
    assert np.mean((sizes >= 2) & (sizes <= 5)) > 0.3
    assert np.mean(sizes >= 11) > 0.15


def test_captions_fit_the_text_encoder() -> None:
    longest = max(len(re.findall(r"[a-z]+|[^\sa-z]", text.lower())) for _, text, _ in described())
    assert longest <= MAX_PIECES + 1  # a full stop may follow


def test_captions_use_exactly_the_words_the_grammar_names() -> None:
    used = {word for _, text, _ in described() for word in re.findall(r"[a-z]+", text.lower())}
    assert used == words()


@pytest.mark.parametrize(
    ("text", "stated"),
    [
        ("", {}),
        ("a person with green hair and a red hat", {"hair_color": "green", "hat_color": "red"}),
        ("a smiling man with no hat, without glasses", {"mouth": "smile", "hat": "none", "glasses": "none"}),
        ("bald", {"hair": "bald"}),
        ("bald blue alien in shades", {"skin": "blue", "hair": "bald", "glasses": "sunglasses"}),
        ("hat red, hair green, mouth open", {"hat_color": "red", "hair_color": "green", "mouth": "open"}),
        ("Hair: long green. Hat: red.", {"hair": "long", "hair_color": "green", "hat_color": "red"}),
        ("her hair is long and green and red hat", {"hair": "long", "hair_color": "green", "hat_color": "red"}),
        ("without a hat and sunglasses", {"hat": "none", "glasses": "sunglasses"}),
        ("neither hat nor glasses", {"hat": "none", "glasses": "none"}),
        ("she is not smiling", {}),
        ("not wearing a red hat", {}),
        ("bald with green hair", {"hair": "bald"}),
        ("a RED Top-Hat on a sky blue wall", {"hat": "top hat", "hat_color": "red", "background": "sky blue"}),
        ("sky blue shirt", {"clothes_color": "blue"}),
        ("a mark on their left cheek that is red", {"mark_side": "left", "mark_color": "red"}),
        ("12345 !!! ☃ ,,, and and no no", {}),
    ],
)
def test_free_text_is_read_as_a_person_would(text: str, stated: dict[str, str]) -> None:
    assert parse(text) == stated


def test_every_value_can_be_stated() -> None:
    said = {(name, value) for _, _, stated in described() for name, value in stated.items()}
    assert said == {(name, value) for name, values in ATTRIBUTES.items() for value in values}


def test_words_the_model_does_not_know_are_named() -> None:
    assert unknown_words("a pirate with curly green hair and a parrot") == ["pirate", "curly", "parrot"]
    assert unknown_words("A person with orange hair and a red hat") == ["orange hair"]
    assert all(unknown_words(text) == [] for _, text, _ in described()[:500])
