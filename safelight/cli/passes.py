"""Flags of a second pass, and of what networks are told beside the text."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from safelight.errors import RequestError

if TYPE_CHECKING:
    from safelight.generate.hires import Hires


def hires(args: argparse.Namespace) -> Hires | None:
    """The second pass that the flags mean."""
    from safelight.generate.hires import Hires

    told = {"strength": args.hires_strength, "steps": args.hires_steps, "upscaler": args.hires_upscaler}
    given = {name: value for name, value in told.items() if value is not None}
    if args.hires is None:
        if given:
            raise RequestError(f"--hires-{next(iter(given))} needs --hires, such as --hires 2")
        return None
    return Hires(args.hires, **given)


def fact(text: str) -> tuple[str, tuple[float, ...]]:
    """A fact as it is typed, such as original=1024x1024."""
    name, equals, value = text.partition("=")
    try:
        numbers = tuple(float(part) for part in value.lower().replace("x", ",").split(","))
    except ValueError:
        numbers = ()
    if not (equals and name.strip() and numbers):
        raise RequestError(f"--fact is NAME=VALUE, such as original=1024x1024, crop=0,64 or score=6, not {text!r}")
    return name.strip(), numbers
