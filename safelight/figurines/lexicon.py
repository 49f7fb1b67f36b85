"""The vocabulary shared by the caption writer and its parser: which words name which value of which attribute.

One table per role, so that saying and understanding can never drift apart: ``ADJECTIVES`` modify a noun and mean
something only there ("long" is a length beside "hair", a shape beside "head"); ``NOUNS`` take adjectives and may state
a value by themselves ("a mohawk"); ``ALONE`` state a value wherever they stand ("bald"); ``ABSENT`` says what a negated
noun means ("no hat").  Words in ``HEARD_*`` are understood from users but never written in a caption.
"""

from __future__ import annotations

from typing import NamedTuple

from safelight.figurines.person import ATTRIBUTES


class Noun(NamedTuple):
    """What one noun means: ``states`` are values it names itself, ``slots`` the attributes its adjectives may fill."""

    states: dict[str, str]
    slots: tuple[str, ...]


# Other spellings of a value used as an adjective; the value's own name is always the first of its ways.
_OTHER_ADJECTIVES: dict[str, dict[str, tuple[str, ...]]] = {
    "skin": {"tan": ("tanned",)},
    "hair_color": {"blond": ("blonde", "yellow"), "purple": ("violet",)},
    "hat_color": {"purple": ("violet",)},
    "clothes_color": {"purple": ("violet",)},
    "mouth": {"smile": ("smiling", "happy"), "frown": ("frowning", "sad"), "flat": ("straight",)},
    "nose": {"small": ("tiny", "little")},
    "ears": {"pointed": ("pointy",), "big": ("large",)},
    "clothes": {"striped": ("stripy",)},
    "head": {"wide": ("broad",)},
    "hat": {"top hat": ("tall",), "party hat": ("pointed",), "beanie": ("knitted", "woolly")},
}
HEARD_ADJECTIVES: dict[str, dict[str, tuple[str, ...]]] = {
    "hair_color": {"black": ("dark",), "blond": ("golden", "fair"), "red": ("ginger",), "brown": ("brunette",)},
    "eyes": {"brown": ("hazel",)},
    "nose": {"small": ("short",)},
    "ears": {"big": ("huge", "giant"), "pointed": ("elf", "elven")},
    "mouth": {"open": ("gaping",), "flat": ("neutral",)},
    "glasses": {"sunglasses": ("dark",), "round": ("circular",)},
    "background": {
        "sky blue": ("blue",),
        "mint": ("turquoise",),
        "lavender": ("purple", "violet"),
        "rose": ("pink",),
        "lemon": ("yellow",),
        "lime": ("green",),
    },
}
_NOT_ADJECTIVES = frozenset(
    ("bald", "none", "top hat", "party hat", "beanie", "crown", "sunglasses", "tie", "afro", "mohawk", "bun")
)  # values that are nouns, or are said in a way of their own


def _adjectives() -> dict[str, dict[str, tuple[str, ...]]]:
    table = {}
    for attribute, values in ATTRIBUTES.items():
        other = _OTHER_ADJECTIVES.get(attribute, {})
        ways = {v: (() if v in _NOT_ADJECTIVES else (v,)) + other.get(v, ()) for v in values}
        table[attribute] = {v: said for v, said in ways.items() if said}
    return table


#: attribute -> value -> the adjectives that captions use for it, the plainest first.
ADJECTIVES = _adjectives()

SUBJECTS = ("person", "figure", "figurine", "toy", "character")
HEARD_SUBJECTS = (
    "man", "woman", "boy", "girl", "guy", "lady", "child", "kid", "human", "doll", "creature", "alien", "someone",
    "somebody", "people", "portrait", "minifigure", "baby",
)  # fmt: skip

_SHIRT = Noun({}, ("clothes", "clothes_color"))
_HAT = Noun({}, ("hat", "hat_color"))
_GLASSES = Noun({}, ("glasses",))
_MARK = Noun({}, ("mark_color",))
_CHEEK = Noun({}, ("mark_side", "mark_color"))
_HAIR = Noun({}, ("hair", "hair_color"))
_HEAD = Noun({}, ("head",))

#: noun -> what it states and which adjectives it takes.
NOUNS: dict[str, Noun] = {
    **dict.fromkeys((*SUBJECTS, *HEARD_SUBJECTS), Noun({}, ("skin",))),
    **dict.fromkeys(("skin", "skinned"), Noun({}, ("skin",))),
    **dict.fromkeys(("hair", "haired"), _HAIR),
    "afro": Noun({"hair": "afro"}, ("hair_color",)),
    "mohawk": Noun({"hair": "mohawk"}, ("hair_color",)),
    "bun": Noun({"hair": "bun"}, ("hair_color",)),
    **dict.fromkeys(("eyes", "eyed", "eye"), Noun({}, ("eyes",))),
    **dict.fromkeys(("mouth", "mouthed", "expression", "lips"), Noun({}, ("mouth",))),
    **dict.fromkeys(("nose", "nosed"), Noun({}, ("nose",))),
    **dict.fromkeys(("ears", "eared", "ear"), Noun({}, ("ears",))),
    **dict.fromkeys(("head", "headed"), _HEAD),
    **dict.fromkeys(("face", "faced"), Noun({}, ("head", "mouth"))),
    **dict.fromkeys(("hat", "cap"), _HAT),
    "beanie": Noun({"hat": "beanie"}, ("hat_color",)),
    "crown": Noun({"hat": "crown"}, ("hat_color",)),
    "top hat": Noun({"hat": "top hat"}, ("hat_color",)),
    "party hat": Noun({"hat": "party hat"}, ("hat_color",)),
    "glasses": _GLASSES,
    **dict.fromkeys(("spectacles", "eyeglasses", "specs"), _GLASSES),
    **dict.fromkeys(("sunglasses", "shades"), Noun({"glasses": "sunglasses"}, ())),
    **dict.fromkeys(("shirt", "top", "sweater", "clothes"), _SHIRT),
    **dict.fromkeys(("clothing", "outfit", "jumper", "pullover", "tshirt"), _SHIRT),
    **dict.fromkeys(("tie", "necktie"), Noun({"clothes": "tie"}, ())),
    **dict.fromkeys(("stripes",), Noun({"clothes": "striped"}, ())),
    **dict.fromkeys(("mark", "spot", "dot", "birthmark", "freckle"), _MARK),
    "cheek": _CHEEK,
    **dict.fromkeys(("background", "backdrop", "wall"), Noun({}, ("background",))),
}

#: words that state a value wherever they stand.
ALONE: dict[str, tuple[str, str]] = {
    "bald": ("hair", "bald"),
    "hairless": ("hair", "bald"),
    "hatless": ("hat", "none"),
    "bareheaded": ("hat", "none"),
    "smiling": ("mouth", "smile"),
    "smile": ("mouth", "smile"),
    "smiles": ("mouth", "smile"),
    "happy": ("mouth", "smile"),
    "grin": ("mouth", "smile"),
    "grinning": ("mouth", "smile"),
    "frowning": ("mouth", "frown"),
    "frown": ("mouth", "frown"),
    "frowns": ("mouth", "frown"),
    "sad": ("mouth", "frown"),
    "blonde": ("hair_color", "blond"),
    "brunette": ("hair_color", "brown"),
}

#: what a negated noun means; a negated noun that is not here means nothing.
ABSENT: dict[str, tuple[str, str]] = {
    "hat": ("hat", "none"),
    "cap": ("hat", "none"),
    "hair": ("hair", "bald"),
    "glasses": ("glasses", "none"),
    "spectacles": ("glasses", "none"),
}

#: two words that are one word of the language.
JOINED = {
    ("t", "shirt"): "tshirt",
    ("sun", "glasses"): "sunglasses",
    ("bare", "headed"): "bareheaded",
    ("top", "hat"): "top hat",
    ("party", "hat"): "party hat",
    ("birthday", "hat"): "party hat",
    ("bobble", "hat"): "beanie",
    **{(v.split()[0], v.split()[1]): v for v in ATTRIBUTES["background"] if " " in v},
}

NEGATORS = frozenset(("no", "not", "without", "never", "neither", "isn", "aren", "doesn", "don"))
COPULAS = frozenset(("is", "are", "was", ":", "="))

_GLUE = """
a an any some the of and or nor with without no not in on at by for from to is are was be it its this that these there
they them their he she his her him who whose which has have having had wears wear wearing dressed stands standing
against front behind before but both very i me my you your draw drawing paint make show picture image please want s t
"""
#: words without meaning of their own; they are never reported as unknown.
GLUE = frozenset(_GLUE.split())
