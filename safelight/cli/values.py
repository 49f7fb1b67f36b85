"""Values of flags as they are typed: seeds, sizes, numbers with commas between them, options."""

from __future__ import annotations

import random

from safelight.errors import RequestError

DRAWN_SEEDS = 2**32
"""Seeds drawn for those who give none are below this: every other program takes them."""


def seed(text: str) -> int:
    """A whole number, or one drawn for ``random`` and -1."""
    if text.strip().lower() in ("-1", "random"):
        return random.SystemRandom().randrange(DRAWN_SEEDS)
    try:
        return int(text)
    except ValueError:
        raise RequestError(f"--seed is a whole number or random, not {text!r}") from None


def variation(text: str) -> tuple[int, float]:
    """``SEED:STRENGTH``."""
    other, colon, strength = text.rpartition(":")
    try:
        return (seed(other) if colon else int(other)), float(strength)
    except ValueError:
        raise RequestError(f"--variation is SEED:STRENGTH, such as 7:0.2, not {text!r}") from None


def numbers(flag: str, text: str, count: int, each: str = "step") -> tuple[float, ...]:
    """Numbers with commas between them, ``count`` of them, or any for 0: one for all, or one for ``each``."""
    try:
        found = tuple(float(part) for part in text.split(","))
    except ValueError:
        found = ()
    if not found or (count and len(found) != count):
        any_of_them = f"a number, or one for each {each} with commas"
        what = f"{count} numbers with a comma between them" if count else any_of_them
        raise RequestError(f"{flag} is {what}, not {text!r}")
    return found


def interval(text: str) -> tuple[float, float]:
    """``LOW,HIGH``."""
    low, high = numbers("--guidance-interval", text, 2)
    return low, high


def size(text: str | None) -> tuple[int, int] | None:
    """``WIDTHxHEIGHT`` in pixels."""
    if text is None:
        return None
    width, cross, height = text.lower().replace("×", "x").partition("x")
    if not (cross and width.strip().isdecimal() and height.strip().isdecimal()):
        raise RequestError(f"--size is WIDTHxHEIGHT in pixels, such as 128x128, not {text!r}")
    return int(width), int(height)


def option(flag: str, text: str) -> tuple[str, str]:
    """``NAME=VALUE``."""
    name, equals, value = text.partition("=")
    if not (equals and name.strip() and value.strip()):
        example = "eta=0.5" if flag == "--option" else "rho=5"
        raise RequestError(f"{flag} is NAME=VALUE, such as {example}, not {text!r}")
    return name.strip(), value.strip()
