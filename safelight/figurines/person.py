"""A figurine described: sixteen words, drawn at random or read from a mapping."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np

from safelight.errors import RequestError, UnknownNameError
from safelight.figurines.attributes import ATTRIBUTES, NAMES, nameable
from safelight.figurines.splits import draw_codes

__all__ = ["ATTRIBUTES", "Person", "random_people", "random_person", "visible"]


@dataclass(frozen=True)
class Person:
    """One person; every field is one of its values in `ATTRIBUTES`.

    Raises:
        UnknownNameError: a value that the attribute does not have.
    """

    skin: str
    hair: str
    hair_color: str
    eyes: str
    mouth: str
    nose: str
    ears: str
    hat: str
    hat_color: str
    glasses: str
    clothes: str
    clothes_color: str
    mark_side: str
    mark_color: str
    head: str
    background: str

    def __post_init__(self) -> None:
        for name, values in ATTRIBUTES.items():
            if getattr(self, name) not in values:
                raise UnknownNameError(name, str(getattr(self, name)), values)

    def codes(self) -> np.ndarray:
        """The description as numbers: int64 [16]."""
        return np.array([values.index(getattr(self, name)) for name, values in ATTRIBUTES.items()])

    @classmethod
    def from_codes(cls, codes: np.ndarray) -> Person:
        """The person that codes [16] describe."""
        return cls(*(ATTRIBUTES[name][int(c)] for name, c in zip(NAMES, codes, strict=True)))

    @classmethod
    def from_mapping(cls, values: Mapping[str, str]) -> Person:
        """The person of a full mapping attribute -> value; RequestError where an attribute lacks or is unknown."""
        if set(values) != set(NAMES):
            wrong = ", ".join(sorted(set(values) ^ set(NAMES)))
            raise RequestError(f"a person has exactly the attributes {', '.join(NAMES)}; missing or unknown: {wrong}")
        return cls(**{name: values[name] for name in NAMES})


if tuple(field.name for field in fields(Person)) != NAMES:  # pragma: no cover - a slip while editing
    raise AssertionError("the fields of Person and the names in ATTRIBUTES must agree, in order")


def random_people(rng: np.random.Generator, count: int, split: str = "train") -> list[Person]:
    """``count`` independent people of one of ``splits.SPLITS``, every value about equally often."""
    return [Person.from_codes(codes) for codes in draw_codes(rng, count, split)]


def random_person(rng: np.random.Generator, split: str = "train") -> Person:
    """One person of one of ``splits.SPLITS``; for many, `random_people` is much faster."""
    return random_people(rng, 1, split)[0]


def visible(person: Person) -> dict[str, str]:
    """The attributes that can be named by one who sees the portrait, in order: no hat colour without a hat, ..."""
    seen = nameable(person.codes()[None])[0]
    return {name: getattr(person, name) for name, shows in zip(NAMES, seen, strict=True) if shows}
