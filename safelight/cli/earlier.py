"""``--from``: the settings in a picture, under the flags that are given, and what of them cannot be repeated."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from safelight.cli.info import harmless

if TYPE_CHECKING:
    from safelight.generate.pipe import Pipe
    from safelight.generate.repeat import Repeat
    from safelight.generate.request import Request

LONGEST = 300
"""Letters of a line; names in a file may be of any length."""


@dataclass
class Earlier:
    """A picture that is drawn again with other flags.

    Attributes:
        file: its name. asked: what it asks for. given: what the flags say.
    """

    file: str
    asked: Repeat
    given: set[str] = field(default_factory=set)

    def under(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The fields of a request: the flags', and where they say nothing the picture's. Says what is left out."""
        self.given = set(given)
        merged, left = self.asked.under(given)
        for line in left:
            self.say(line)
        return merged

    def fit(self, pipe: Pipe, requests: Sequence[Request]) -> list[Request]:
        """The requests as this model can honour them; says what of the picture it cannot.

        Raises:
            RequestError: for a reason that the flags gave.
        """
        from safelight.generate.repeat import easier, other_model
        from safelight.generate.source import on_shelves, shipped

        if line := other_model(self.asked, pipe.name, pipe.hashes, {**shipped(), **on_shelves()}):
            self.say(line)
        found = list(requests)
        for fields, line in easier(pipe.settle, found[0], set(self.asked.fields) - self.given):
            self.say(line)
            found = [replace(each, **fields) for each in found]
        return found

    def say(self, line: str) -> None:
        """One thing that is not as it was."""
        told = harmless(line).replace("\n", " ")
        print(f"safelight: {self.file}: not repeated: {told[:LONGEST]}", file=sys.stderr)


def read(args: argparse.Namespace) -> Earlier | None:
    """What ``--from`` names; None without it.

    Raises:
        ImageError: it is no picture, or does not say how it was drawn.
    """
    if args.origin is None:
        return None
    from safelight.generate.file import RECIPES, open_picture
    from safelight.generate.repeat import repeat

    brought = {"image": args.image, "mask": args.mask, "depth": args.depth}
    brought |= {"weak": args.weak_model, "refiner": args.refiner, "upscaler": args.upscale_with}
    given = {name for name, value in brought.items() if value is not None}
    return Earlier(args.origin, repeat(open_picture(args.origin, RECIPES), given))
