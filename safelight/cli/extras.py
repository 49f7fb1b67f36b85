"""The flags of adapters that need no weights, the same where a picture is drawn and where it is drawn again."""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from safelight.cli import values
from safelight.cli.adapters import split
from safelight.errors import RequestError

if TYPE_CHECKING:
    from safelight.adapters.regions import Region
    from safelight.adapters.use import Use
    from safelight.generate.pipe import Pipe


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    add = parser.add_argument_group("with adapters that need no weights").add_argument
    add("--freeu", metavar="B1,B2,S1,S2", help="FreeU: 1.5,1.6,0.9,0.2 for Stable Diffusion 1, 1.3,1.4,0.9,0.2 for XL")
    add("--reference", metavar="FILE", help="FILE[:fidelity], a picture that self-attention reads too; 0.5 by default")
    add("--style-of", metavar="FILE", help="a picture whose style is taken")
    add("--region", metavar="MASK=PROMPT", action="append", default=[],
        help="MASK=PROMPT[:weight], a prompt that is read where the mask is white; may be repeated")  # fmt: skip
    add("--region-base", type=float, metavar="X", help="weight of the whole prompt inside regions, 0 by default")
    add("--tileable", metavar="EDGES", help="edges that meet: x, y or xy")


def uses(args: argparse.Namespace) -> Iterator[Use]:
    """What the flags say of adapters that a request uses.

    Raises:
        RequestError: a value that is none. FileError, ImageError: a picture that cannot be read.
    """
    from safelight.adapters.freeu import FreeU
    from safelight.adapters.reference import Reference
    from safelight.adapters.regions import Regions
    from safelight.adapters.style import Style
    from safelight.generate.file import open_picture

    if args.freeu is not None:
        yield FreeU(*values.numbers("--freeu", args.freeu, 4))
    if args.reference is not None:
        asked = split("--reference", args.reference)
        if asked.rest:
            raise RequestError(f"--reference is FILE[:fidelity]; {asked.rest!r} follows it")
        shown = open_picture(asked.name)
        yield Reference(shown) if asked.name == args.reference else Reference(shown, asked.scale)
    if args.style_of is not None:
        yield Style(open_picture(args.style_of))
    if args.region_base is not None and not args.region:
        raise RequestError("--region-base is a weight inside regions; give a --region")
    if args.region:
        yield Regions(tuple(region(text) for text in args.region), args.region_base or 0.0)


def region(text: str) -> Region:
    """One ``--region``: a number behind the last colon is a weight."""
    from safelight.adapters.regions import Region
    from safelight.generate.file import open_picture

    mask, equals, said = text.partition("=")
    if not (equals and mask):
        raise RequestError(f"--region is MASK=PROMPT[:weight], such as left.png='a red hat':2, not {text!r}")
    prompt, colon, tail = said.rpartition(":")
    try:
        weight = float(tail) if colon else math.nan
    except ValueError:
        weight = math.nan
    shown = open_picture(mask)
    return Region(shown, said) if math.isnan(weight) else Region(shown, prompt, weight)


def dress(args: argparse.Namespace, pipe: Pipe) -> None:
    """Lay over the pipe, and over those that draw with it, what the flags say, for good.

    Raises:
        RequestError: no such edges, or a model that cannot let them meet.
    """
    if args.tileable is None:
        return
    from safelight.adapters.tile import Tileable

    edges = Tileable(args.tileable)
    for each in (pipe, pipe.weak, pipe.refiner, pipe.upscaler):
        if each is not None:
            each.wardrobe.put_on(edges)
