"""Claims with their figures: one form for everything that the project says of itself, in ``evidence/*.json``.

A claim has a number, a bar (or none) and the command that measures it again. Whether it holds is computed, never typed.
"""

from __future__ import annotations

import json
import operator
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import NamedTuple

from safelight.errors import ConfigError
from safelight.evaluate.origin import Origin

COMPARISONS = {">=": operator.ge, "<=": operator.le}


class Finding(NamedTuple):
    """What was measured, before it is said where and how.

    Attributes:
        claim: what the number is, in words; it names the entry, so two entries of a file never share it.
        value: the number; shares run from 0 to 1.
        unit: ``s``, ``share of 143``, ``times``; shares say of how many.
        bar: what was promised, as ``">= 0.97"`` or ``"<= 6"``; None where a number is only reported.
    """

    claim: str
    value: float
    unit: str
    bar: str | None = None


@dataclass(frozen=True)
class Claim:
    """One entry of a file: a `Finding`, whether it holds (None without a bar), and its `Origin`."""

    claim: str
    value: float
    unit: str
    bar: str | None
    holds: bool | None
    command: str
    commit: str
    machine: str


def claim(finding: Finding, source: Origin) -> Claim:
    """Judge a finding as measured, round it where that does not move it over its bar, and say where it comes from."""
    value, held = rounded(finding.value), holds(finding.value, finding.bar)
    value = value if holds(value, finding.bar) == held else finding.value
    return Claim(finding.claim, value, finding.unit, finding.bar, held, source.command, source.commit, source.machine)


def holds(value: float, bar: str | None) -> bool | None:
    """Whether a number keeps its bar; None without one.

    Raises:
        ConfigError: the bar is not ``>=`` or ``<=`` and a number.
    """
    if bar is None:
        return None
    sign, _, limit = bar.partition(" ")
    try:
        return bool(COMPARISONS[sign](value, float(limit)))
    except (KeyError, ValueError):
        raise ConfigError(f"the bar {bar!r} is not one; write '>= 0.97' or '<= 6'") from None


def rounded(value: float) -> float:
    """Four significant digits; whole numbers stay whole."""
    return value if isinstance(value, int) else float(f"{value:.4g}")


def read(path: Path) -> list[Claim]:
    """All claims of a file, in its order; none where there is no file.

    Raises:
        ConfigError: it is not a list of claims, or holds other fields.
    """
    if not path.exists():
        return []
    names = {field.name for field in fields(Claim)}
    try:
        entries = json.loads(path.read_text("utf-8"))
        if not isinstance(entries, list) or any(set(entry) != names for entry in entries):
            raise ConfigError(f"{path}: every entry has exactly the fields {', '.join(sorted(names))}")
        return [Claim(**entry) for entry in entries]
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{path}: is not a list of claims ({error})") from None


def record(path: Path, claims: Iterable[Claim]) -> list[Claim]:
    """Put claims into a file: those it already makes are replaced where they stand, new ones are added at the end.

    Returns:
        everything that the file holds now.

    Raises:
        ConfigError: what is there is not a list of claims. FileError: it cannot be written.
    """
    from safelight.weights.save import write  # loads torch, which must not be resident while processes are measured

    entries = {entry.claim: entry for entry in read(path)} | {entry.claim: entry for entry in claims}
    lines = ",\n".join(json.dumps(asdict(entry), ensure_ascii=False) for entry in entries.values())
    write(path, [f"[\n{lines}\n]\n".encode()])
    return list(entries.values())
