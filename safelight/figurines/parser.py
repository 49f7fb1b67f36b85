"""Read a description: from words to the attributes they state, the exact inverse of ``captions.caption``.

One pass from left to right.  Adjectives wait until a noun takes those that mean something beside it ("long red hair");
adjectives that follow a noun belong to it when no other noun takes them ("hair is long and green", "mouth wide open");
"no" and "without" turn the next noun into its absence.  Free text is read as far as it is understood, the rest is left.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cache

from safelight.figurines import lexicon
from safelight.figurines.lexicon import ABSENT, ALONE, COPULAS, GLUE, JOINED, NEGATORS, NOUNS, Noun
from safelight.figurines.person import ATTRIBUTES

_TOKEN = re.compile(r"[a-z]+|[.,:;=!?]")
_STOPS = frozenset(".;!?")


@cache
def _meanings() -> dict[str, dict[str, str]]:
    """Adjective -> attribute -> the value it names there."""
    table: dict[str, dict[str, str]] = {}
    for ways in (lexicon.ADJECTIVES, lexicon.HEARD_ADJECTIVES):
        for attribute, values in ways.items():
            for value, adjectives in values.items():
                for adjective in adjectives:
                    table.setdefault(adjective, {}).setdefault(attribute, value)
    return table


@cache
def _colors() -> frozenset[str]:
    """Adjectives that name a colour; a colour that a noun does not know is worth telling, "a nice hat" is not."""
    attributes = ("skin", "hair_color", "hat_color", "clothes_color")
    return frozenset(word for word, meaning in _meanings().items() if not meaning.keys().isdisjoint(attributes))


def tokens(text: str) -> list[str]:
    """Lower-case words and punctuation; words that belong together ("top hat") are one token."""
    raw = _TOKEN.findall(text.lower())
    out: list[str] = []
    i = 0
    while i < len(raw):
        joined = JOINED.get((raw[i], raw[i + 1])) if i + 1 < len(raw) else None
        out.append(joined or raw[i])
        i += 2 if joined else 1
    return out


@dataclass
class _Reader:
    stated: dict[str, str] = field(default_factory=dict)
    waiting: list[str] = field(default_factory=list)  # adjectives that no noun has taken yet
    last: Noun | None = None  # the noun that adjectives after it may belong to
    behind: bool = False  # the waiting adjectives follow `last` directly
    negated: bool = False
    misfits: list[str] = field(default_factory=list)  # "orange hair": known words that mean nothing together

    def bind(self, noun: Noun | None, adjectives: list[str]) -> list[str]:
        """Give each slot of ``noun`` the nearest adjective that fits; returns the adjectives that found no place."""
        if noun is None:
            return adjectives
        left: list[str] = []
        filled = set(noun.states)
        for adjective in reversed(adjectives):
            meaning = _meanings().get(adjective.split()[-1], {}) | _meanings().get(adjective, {})  # a "sky blue" hat
            slot = next((s for s in noun.slots if s in meaning and s not in filled), None)
            if slot is None:
                left.append(adjective)
                continue
            self.stated[slot] = meaning[slot]
            filled.add(slot)
        return left[::-1]

    def settle(self) -> None:
        """Waiting adjectives meet a boundary: they belong to the noun before them, or to nothing."""
        if self.behind:
            self.bind(self.last, self.waiting)
        self.waiting, self.behind = [], False

    def noun(self, word: str) -> None:
        meaning = NOUNS[word]
        if self.negated:
            if word in ABSENT and not self.waiting:
                attribute, value = ABSENT[word]
                self.stated[attribute] = value
            self.waiting, self.last, self.behind = [], None, False
            return
        self.stated.update(meaning.states)
        left = self.bind(meaning, self.waiting)
        if self.behind:
            left = self.bind(self.last, left)
        # "a green blue-eyed person": what "eyed" leaves, "person" may take.
        self.waiting = left if word.endswith("ed") else []
        if not self.waiting:
            self.misfits += [f"{adjective} {word}" for adjective in left if adjective in _colors()]
        self.last, self.behind = meaning, False


def _is_adjective(word: str) -> bool:
    return word in _meanings() or (" " in word and word not in NOUNS and word.split()[-1] in _meanings())


def _read(words: list[str]) -> _Reader:
    reader = _Reader()
    padded = ["", *words, "", ""]
    for before, word, after, then in zip(padded, words, padded[2:], padded[3:], strict=False):
        if word in ALONE and not (after in NOUNS and _is_adjective(word) and reader.negated):
            attribute, value = ALONE[word]
            if not reader.negated:
                reader.stated[attribute] = value
            reader.negated = False
        elif word in NOUNS:
            reader.noun(word)
            # "no hat or glasses", "without hat and glasses"; but "no hat and round glasses" denies the hat alone.
            reader.negated = reader.negated and (after in ("or", "nor") or (after == "and" and then in ABSENT))
        elif _is_adjective(word):
            follows = reader.last is not None and (before in COPULAS or before in NOUNS) and not reader.waiting
            reader.behind = reader.behind or follows
            if follows and before in COPULAS and after not in NOUNS and not _is_adjective(after):
                reader.waiting += reader.bind(reader.last, [word])  # "hair is green and red hat": it is taken already
            else:
                reader.waiting.append(word)
            reader.negated = reader.negated and before != "and"
        elif word in NEGATORS:
            reader.settle()
            reader.negated = True
        elif word == ",":
            reader.negated = False
            if reader.behind:  # "mouth open, ..."; but the length of "toy: long, red hair" waits on
                reader.waiting, reader.behind = reader.bind(reader.last, reader.waiting), False
        elif word in ("and", "or", "nor"):
            pass
        elif word in GLUE or word in COPULAS or word in _STOPS:
            reader.settle()
            if word in _STOPS or word in ("with", "but", "who", "has", "on"):
                reader.negated = False
            if word in _STOPS:
                reader.last = None
    reader.settle()
    return reader


def parse(text: str) -> dict[str, str]:
    """The attributes that a description states.

    Args:
        text: a caption, or anything a user typed; words that are not understood are passed over.

    Returns:
        Attribute -> value, in the order of ``ATTRIBUTES``; attributes that are not mentioned are absent.  Of two
        contradicting statements the later one counts.  Left and right are the person's own.
    """
    stated = _read(tokens(text)).stated
    for absent, attribute, value in (("hat", "hat_color", "none"), ("hair", "hair_color", "bald")):
        if stated.get(absent) == value:
            stated.pop(attribute, None)
    return {attribute: stated[attribute] for attribute in ATTRIBUTES if attribute in stated}


def misfits(text: str) -> list[str]:
    """Colours put beside nouns that do not come in them, such as "orange hair": known words, unknown together."""
    return list(dict.fromkeys(_read(tokens(text)).misfits))
