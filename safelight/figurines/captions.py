"""Describe a person in plain, varied English, and know exactly which attributes the description states.

A caption is drawn in four steps: how much to say, which visible attributes, which sentence frame, which words.
``stated`` is known before a word is chosen, and ``parser.parse`` reads it back from the text alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np

from safelight.figurines import lexicon
from safelight.figurines.parser import misfits, parse
from safelight.figurines.person import Person, visible

__all__ = ["FRAMES", "MAX_PIECES", "caption", "describe", "everything", "parse", "unknown_words", "words"]

#: ceiling on words and punctuation marks of a caption, so that a tokenizer trained on captions stays under 60 tokens.
MAX_PIECES = 52


class Saying(NamedTuple):
    """Templates for one set of attributes: ``when`` holds exactly these, each any value (None) or one of a few."""

    when: dict[str, str | None]
    phrases: tuple[str, ...]  # noun phrases: "a {hat_color} hat"
    facts: tuple[str, ...]  # whole sentences: "the hat is {hat_color}"
    adjectives: tuple[str, ...] = ()  # before the subject: "{hair_color}-haired"


class Topic(NamedTuple):
    """Attributes that are said in one breath; ``place`` is where in a sentence the phrase stands."""

    place: str  # "body", "wear" or "scene"
    attributes: tuple[str, ...]
    sayings: tuple[Saying, ...]


def _simple(attribute: str, noun: str, plural: bool, adjective: str) -> Topic:
    article, verb = ("", "are") if plural else ("a ", "is")
    hole = "{" + attribute + "}"
    facts = (f"the {noun} {verb} {hole}",)
    return Topic("body", (attribute,), (Saying({attribute: None}, (f"{article}{hole} {noun}",), facts, (adjective,)),))


def _bearer(attribute: str, value: str, phrases: tuple[str, ...], facts: tuple[str, ...]) -> tuple[Saying, Saying]:
    """One kind of hat or hair, alone and with its colour; ``_`` in a template is where the colour goes."""
    color = "hat_color" if attribute == "hat" else "hair_color"
    plain, colored = (
        tuple(tuple(p.replace("_ ", c) for p in ways) for ways in (phrases, facts)) for c in ("", "{" + color + "} ")
    )
    return Saying({attribute: value}, *plain), Saying({attribute: value, color: None}, *colored)


_HAIR = (
    Saying({"hair": "bald"}, ("no hair", "a bald head"), ("the head is bald", "there is no hair"), ("bald",)),
    *_bearer("hair", "afro", ("a _ afro", "_ hair in an afro"), ("the hair is a _ afro",)),
    *_bearer("hair", "mohawk", ("a _ mohawk", "_ hair in a mohawk"), ("the hair is a _ mohawk",)),
    *_bearer("hair", "bun", ("a _ bun", "_ hair in a bun", "a _ hair bun"), ("the hair is in a _ bun",)),
    Saying({"hair": None}, ("{hair} hair",), ("the hair is {hair}",), ("{hair}-haired",)),
    Saying({"hair_color": None}, ("{hair_color} hair",), ("the hair is {hair_color}",), ("{hair_color}-haired",)),
    Saying(
        {"hair": None, "hair_color": None},
        ("{hair} {hair_color} hair", "{hair_color} {hair} hair", "{hair}, {hair_color} hair"),
        ("the hair is {hair} and {hair_color}", "the {hair} hair is {hair_color}", "the {hair_color} hair is {hair}"),
    ),
)
_MOUTH = (
    Saying(
        {"mouth": "smile"},
        ("a smile", "a happy face", "a smiling mouth"),
        ("the mouth is smiling",),
        ("smiling", "happy"),
    ),
    Saying(
        {"mouth": "frown"},
        ("a frown", "a sad face", "a frowning mouth"),
        ("the mouth is frowning",),
        ("frowning", "sad"),
    ),
    Saying({"mouth": None}, ("a {mouth} mouth",), ("the mouth is {mouth}",)),
)
_HAT = (
    Saying({"hat": "none"}, ("no hat",), ("there is no hat",), ("hatless", "bareheaded")),
    *_bearer("hat", "beanie", ("a _ beanie", "a _ knitted hat", "a _ woolly hat"), ("the hat is a _ beanie",)),
    *_bearer("hat", "top hat", ("a _ top hat", "a tall _ hat"), ("the hat is a _ top hat",)),
    *_bearer("hat", "crown", ("a _ crown",), ("there is a _ crown on the head",)),
    *_bearer("hat", "party hat", ("a _ party hat", "a pointed _ hat"), ("the hat is a _ party hat",)),
    Saying({"hat_color": None}, ("a {hat_color} hat",), ("the hat is {hat_color}",)),
)
_GLASSES = (
    Saying({"glasses": "none"}, ("no glasses",), ("there are no glasses",)),
    Saying({"glasses": "sunglasses"}, ("sunglasses", "shades"), ("there are sunglasses on the nose",)),
    Saying({"glasses": None}, ("{glasses} glasses",), ("the glasses are {glasses}",)),
)
_COLOR = "{clothes_color} "
_CLOTHES = (
    Saying({"clothes": "tie"}, ("a tie", "a shirt and tie"), ("there is a tie",)),
    Saying(
        {"clothes": "tie", "clothes_color": None},
        (f"a {_COLOR}shirt and a tie", f"a {_COLOR}shirt with a tie", f"a tie and a {_COLOR}shirt"),
        ("the shirt is {clothes_color} and there is a tie",),
    ),
    Saying(
        {"clothes": None},
        ("a {clothes} shirt", "a {clothes} top", "a {clothes} sweater", "{clothes} clothes"),
        ("the shirt is {clothes}", "the clothes are {clothes}"),
    ),
    Saying(
        {"clothes_color": None},
        (f"a {_COLOR}shirt", f"a {_COLOR}top", f"a {_COLOR}sweater", f"{_COLOR}clothes"),
        ("the shirt is {clothes_color}", "the clothes are {clothes_color}"),
    ),
    Saying(
        {"clothes": None, "clothes_color": None},
        (f"a {{clothes}} {_COLOR}shirt", f"a {_COLOR}{{clothes}} shirt", f"a {{clothes}} {_COLOR}sweater"),
        ("the shirt is {clothes} and {clothes_color}", "the {clothes} shirt is {clothes_color}"),
    ),
)
_MARK = (
    Saying({"mark_color": None}, ("a {mark_color} mark", "a {mark_color} cheek mark"), ("the mark is {mark_color}",)),
    Saying(
        {"mark_side": None},
        ("a mark on the {mark_side} cheek", "a spot on the {mark_side} cheek"),
        ("the mark is on the {mark_side} cheek",),
    ),
    Saying(
        {"mark_side": None, "mark_color": None},
        ("a {mark_color} mark on the {mark_side} cheek", "a {mark_color} spot on the {mark_side} cheek"),
        ("there is a {mark_color} mark on the {mark_side} cheek", "the {mark_side} cheek has a {mark_color} spot"),
    ),
)
_SCENE = Saying(
    {"background": None},
    ("a {background} background", "a {background} wall", "a {background} backdrop"),
    ("the background is {background}",),
)

TOPICS: tuple[Topic, ...] = (
    Topic(
        "body",
        ("skin",),
        (Saying({"skin": None}, ("{skin} skin",), ("the skin is {skin}",), ("{skin}", "{skin}", "{skin}-skinned")),),
    ),
    Topic("body", ("hair", "hair_color"), _HAIR),
    _simple("eyes", "eyes", plural=True, adjective="{eyes}-eyed"),
    Topic("body", ("mouth",), _MOUTH),
    _simple("nose", "nose", plural=False, adjective="{nose}-nosed"),
    _simple("ears", "ears", plural=True, adjective="{ears}-eared"),
    _simple("head", "head", plural=False, adjective="{head}-headed"),
    Topic("body", ("mark_side", "mark_color"), _MARK),
    Topic("wear", ("hat", "hat_color"), _HAT),
    Topic("wear", ("glasses",), _GLASSES),
    Topic("wear", ("clothes", "clothes_color"), _CLOTHES),
    Topic("scene", ("background",), (_SCENE,)),
)

# The holes: {who} adjectives and subject, {with} {wearing} {on} clauses that may be empty, {body} {wear} {both} lists,
# {tags} everything without articles, {facts} sentences.  A sentence whose list is empty is left out.
FRAMES: tuple[tuple[str, ...], ...] = (
    ("a {who}{with}{wearing}{on}",),
    ("a {who}{wearing}{with}{on}",),
    ("a {who} with {both}{on}",),
    ("a portrait of a {who}{with}{wearing}{on}",),
    ("a picture of a {who}{wearing}{with}{on}",),
    ("someone{with}{wearing}{on}",),
    ("there is a {who}{with}{wearing}{on}",),
    ("draw a {who} with {both}{on}",),
    ("{tags}",),
    ("{tags}",),
    ("a {who}, {tags}",),
    ("{subject}: {tags}",),
    ("a {who}{with}{on}.", "they are wearing {wear}."),
    ("this {who} has {body}.", "they wear {wear}.", "the background is {scene}."),
    ("the {who} has {body}{on}.", "the {subject} wears {wear}."),
    ("wearing {wear}, a {who}{with}{on}",),
    ("{place}, a {who}{with}{wearing}",),
    ("a {subject}.", "{facts}."),
    ("{facts}.",),
    ("a {who} who has {body} and wears {wear}{on}",),
)


@cache
def _holes(frame: tuple[str, ...]) -> tuple[frozenset[str], frozenset[str]]:
    """All holes of a frame, and those of its first sentence."""
    holes = [frozenset(re.findall(r"{(\w+)}", sentence)) for sentence in frame]
    return frozenset().union(*holes), holes[0]


def _adjective(attribute: str, value: str, rng: np.random.Generator) -> str:
    ways = lexicon.ADJECTIVES[attribute][value]
    return ways[0] if len(ways) == 1 or rng.random() < 0.7 else _pick(ways[1:], rng)


def _pick(options: Sequence[str], rng: np.random.Generator) -> str:
    return options[int(rng.integers(len(options)))]


def _saying(topic: Topic, said: Mapping[str, str]) -> Saying:
    for saying in topic.sayings:
        if saying.when.keys() == said.keys() and all(want in (None, said[a]) for a, want in saying.when.items()):
            return saying
    raise AssertionError(f"the grammar cannot say {dict(said)}")


def _join(items: Sequence[str]) -> str:
    return items[0] if len(items) == 1 else ", ".join(items[:-1]) + " and " + items[-1]


class _Parts(NamedTuple):
    adjectives: list[str]
    body: list[str]
    wear: list[str]
    facts: list[str]
    scene: str  # the background's name, or ""
    place: str  # "on a mint background", or ""


def _parts(stated: Mapping[str, str], adjectives_allowed: int, rng: np.random.Generator) -> _Parts:
    parts = _Parts([], [], [], [], stated.get("background", ""), "")
    order = rng.permutation(len(TOPICS))
    for topic in (TOPICS[i] for i in order):
        said = {a: stated[a] for a in topic.attributes if a in stated}
        if not said:
            continue
        saying = _saying(topic, said)
        holes = {a: _adjective(a, said[a], rng) for a, want in saying.when.items() if want is None}
        parts.facts.append(_pick(saying.facts, rng).format(**holes))
        if topic.place == "scene":
            noun = _pick(saying.phrases, rng).format(**holes)
            parts = parts._replace(place=f"{_pick(('on', 'against', 'in front of'), rng)} {noun}")
        elif saying.adjectives and len(parts.adjectives) < adjectives_allowed and rng.random() < 0.5:
            parts.adjectives.append(_pick(saying.adjectives, rng).format(**holes))
        else:
            worn = topic.place == "wear" and "none" not in said.values()
            (parts.wear if worn else parts.body).append(_pick(saying.phrases, rng).format(**holes))
    # A bare colour stands next to its noun: "smiling green person", never "green long-nosed person".
    parts.adjectives.sort(key=lambda a: "-" not in a and a not in ("bald", "smiling", "happy", "sad", "frowning"))
    return parts


def _bare(phrase: str) -> str:
    return phrase.removeprefix("a ")


def _with(body: list[str], rng: np.random.Generator) -> str:
    """ " with a long nose and no hat", or half of the time " without a hat, with a long nose"."""
    lacking = [p for p in body if p in ("no hat", "no glasses")] if rng.random() < 0.5 else []
    having = [p for p in body if p not in lacking]
    things = ["a hat" if p == "no hat" else "glasses" for p in lacking]
    clauses = [f" without {' or '.join(things)}"] if lacking else []
    return ",".join([*clauses, f" with {_join(having)}"] if having else clauses)


def _fill(frame: tuple[str, ...], parts: _Parts, rng: np.random.Generator) -> str | None:
    """The frame with its holes filled, or None if what it must say is missing or would be lost."""
    holes, first = _holes(frame)
    both = [*parts.body, *parts.wear]
    subject = _pick(lexicon.SUBJECTS, rng)
    verb = _pick((" wearing ", ", wearing ", " in ", " who wears "), rng)
    tags = [_bare(p) for p in both] + ([f"{parts.scene} background"] if parts.scene else [])
    filled = {
        "subject": subject,
        "who": " ".join([*parts.adjectives, subject]),
        "body": _join(parts.body) if parts.body else "",
        "wear": _join(parts.wear) if parts.wear else "",
        "both": _join(both) if both else "",
        "scene": parts.scene,
        "place": parts.place,
        "facts": ". ".join(parts.facts),
        "tags": ", ".join(tags),
        "with": _with(parts.body, rng),
        "wearing": f"{verb}{_join(parts.wear)}" if parts.wear else "",
        "on": f" {parts.place}" if parts.place else "",
    }
    if any(not filled[hole] for hole in first - {"with", "wearing", "on"}):
        return None
    says = (
        ("body", holes & {"body", "with", "both", "tags", "facts"}),
        ("wear", holes & {"wear", "wearing", "both", "tags", "facts"}),
        ("place", holes & {"scene", "place", "on", "tags", "facts"}),
    )
    if any(filled[what] and not said for what, said in says):
        return None
    sentences = [s.format(**filled) for s in frame if all(filled[h] for h in re.findall(r"{(body|wear|scene)}", s))]
    return " ".join(sentences)


def _polish(text: str, rng: np.random.Generator) -> str:
    text = re.sub(r"\ba (?=[aeiou])", "an ", text)
    if text.endswith("."):
        return re.sub(r"(^|\. )([a-z])", lambda m: m[1] + m[2].upper(), text)
    return text[0].upper() + text[1:] + "." if rng.random() < 0.2 else text


def describe(stated: Mapping[str, str], rng: np.random.Generator) -> str:
    """Say exactly the given attributes in one caption.

    Args:
        stated: attribute -> value, at least one; no ``hat_color`` with ``hat`` none, no ``hair_color`` with bald hair.
        rng: the source of every choice.

    Returns:
        A caption with ``parse(caption) == stated``, of at most ``MAX_PIECES`` words and punctuation marks, one more
        where all there is is said.
    """
    for _ in range(20):
        frame = FRAMES[int(rng.integers(len(FRAMES)))]
        adjectives = int(rng.integers(3)) if "who" in _holes(frame)[1] else 0
        text = _fill(frame, _parts(stated, adjectives, rng), rng)
        if text is not None and len(re.findall(r"[a-z]+|[^\sa-z]", text.lower())) <= MAX_PIECES:
            return _polish(text, rng)
    filled = _fill(("{tags}",), _parts(stated, 0, rng), rng)
    if filled is None:
        raise ValueError("a caption states at least one attribute")
    return _polish(filled, rng)


def _how_many(most: int, rng: np.random.Generator) -> int:
    """How much to say: 45 % of captions 1 to 5 attributes, 30 % 6 to 10, 25 % 11 or more."""
    low, high = ((1, 5), (6, 10), (11, most))[int(np.searchsorted((0.45, 0.75), rng.random(), side="right"))]
    return min(int(rng.integers(low, max(low, high) + 1)), most)


def caption(person: Person, rng: np.random.Generator) -> tuple[str, dict[str, str]]:
    """Describe some of what is visible of a person.

    Args:
        person: whom to describe, seen from the front.
        rng: the source of every choice.

    Returns:
        The caption and the attributes it states, each true of the person and visible in the portrait.
    """
    seen = visible(person)
    names = list(seen)
    chosen = set(rng.choice(len(names), size=_how_many(len(names), rng), replace=False).tolist())
    stated = {name: seen[name] for i, name in enumerate(names) if i in chosen}
    return describe(stated, rng), stated


def everything(person: Person, rng: np.random.Generator) -> tuple[str, dict[str, str]]:
    """Describe all that is visible of a person from the front; as `caption`."""
    stated = dict(visible(person))
    return describe(stated, rng), stated


@cache
def words() -> frozenset[str]:
    """Every word that a caption can hold, lower case."""
    sayings = [saying for topic in TOPICS for saying in topic.sayings]
    templates = [t for s in sayings for t in (*s.phrases, *s.facts, *s.adjectives)]
    templates += [sentence for frame in FRAMES for sentence in frame]
    templates += ["an with without or wearing in who wears on against in front of and background", *lexicon.SUBJECTS]
    templates += [way for ways in lexicon.ADJECTIVES.values() for said in ways.values() for way in said]
    return frozenset(re.findall(r"[a-z]+", re.sub(r"{\w+}", " ", " ".join(templates).lower())))


def unknown_words(text: str) -> list[str]:
    """What a model trained on captions has never seen in a prompt; ``generate`` names it to the user.

    Returns:
        The words that no caption holds and that carry meaning, then colours that their noun does not come in
        ("orange hair"); each once, in their order.
    """
    known = words() | lexicon.GLUE
    strange = [word for word in dict.fromkeys(re.findall(r"[a-z]+", text.lower())) if word not in known]
    return strange + misfits(text)
