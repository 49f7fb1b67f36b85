"""Numbers that some networks are told beside the text, such as the size that a picture had before it was cropped."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from safelight.errors import RequestError, UnknownNameError
from safelight.families.family import Model


def plain(facts: Mapping[str, float | Sequence[float]]) -> dict[str, tuple[float, ...]]:
    """Facts in one form: a tuple of numbers each.

    Raises:
        RequestError: a number that no fact can be.
    """
    told: dict[str, tuple[float, ...]] = {}
    for name, value in facts.items():
        numbers = (value,) if isinstance(value, int | float) else tuple(value)
        told[name] = tuple(float(number) for number in numbers)
        for number in told[name]:
            if not math.isfinite(number):
                raise RequestError(f"the fact {name} must be finite, not {number:g}")
    return told


def fit(facts: Mapping[str, tuple[float, ...]], models: Sequence[Model]) -> None:
    """Check that one of the models is told each of the facts, in as many numbers.

    Raises:
        UnknownNameError: none of them is told it. RequestError: too few numbers, too many, or one that it cannot be.
    """
    known = {name: fact for model in models for name, fact in model.facts.items()}
    for name, numbers in facts.items():
        if name not in known:
            raise UnknownNameError("fact of this model", name, known or ["none"])
        fact = known[name]
        if len(numbers) != fact.numbers:
            raise RequestError(f"the fact {name} is {fact.numbers} numbers, not {len(numbers)}")
        for number in numbers:
            if not 0.0 <= number <= fact.most or (fact.whole and number != int(number)):
                what = "a whole number from 0 to" if fact.whole else "between 0 and"
                raise RequestError(f"the fact {name} is {what} {fact.most:g}, not {number:g}")


def idle(facts: Mapping[str, tuple[float, ...]], *, guided: bool) -> None:
    """Refuse facts of a negative prompt that nothing asks.

    Raises:
        RequestError: they would do nothing.
    """
    for name in facts:
        if name.startswith("negative-") and not guided:
            raise RequestError(f"the fact {name} does nothing at guidance 1; raise the guidance or leave it out")
