"""What subjects of ``safelight evaluate`` share: findings as lines, their place, and the command to find them again."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from safelight.errors import FileError, RequestError
from safelight.weights.folder import typed

if TYPE_CHECKING:
    from safelight.evaluate.evidence import Finding
    from safelight.evaluate.origin import Origin


def told(findings: Iterable[Finding], source: Origin, place: Path | None) -> int:
    """Print every finding when it is known, and write it at once where there is a place; how many promises broke."""
    from safelight.evaluate.evidence import claim, record

    failed = 0
    for finding in findings:
        found = claim(finding, source)
        if place:
            record(place, [found])
        held = {True: "holds", False: "DOES NOT HOLD", None: ""}[found.holds]
        print(f"{found.value:>8g}  {found.bar or '':<8} {found.claim} ({found.unit})  {held}", flush=True)
        failed += found.holds is False
    return failed


def beside(args: argparse.Namespace) -> Path | None:
    """Where the claims go, by ``-o``; None for nowhere.

    Raises:
        RequestError: a sheet, which lies beside the claims, without a place for them. FileError: no such folder.
    """
    if args.sheet and not args.output:
        raise RequestError("--sheet needs -o FILE: its picture is written beside that file")
    place = typed(args.output) if args.output else None
    if place and not place.parent.is_dir():
        raise FileError(f"{place.parent}: no such folder; make it or choose another with -o")
    return place


def given(args: argparse.Namespace, names: Sequence[str]) -> list[str]:
    """Those of the flags of these names that were given, as they are typed; a 0 was given, too."""
    found = [name for name in names if getattr(args, name) is not None and getattr(args, name) is not False]
    return [f"--{name.replace('_', '-')}" for name in found]


def again(args: argparse.Namespace, *begun: str, flags: Sequence[str]) -> str:
    """The command that does this again: its first words, then the flags that were given, and the seed."""
    words = ["safelight", "evaluate", *begun]
    for flag in given(args, flags):
        value = getattr(args, flag.removeprefix("--"))
        for each in value if isinstance(value, list) else [value]:
            words += [flag] if each is True else [flag, str(each)]
    return shlex.join([*words, *(["--seed", str(args.seed)] if args.seed else [])])
