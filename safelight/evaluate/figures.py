"""The figures of the documentation, written from the files that measuring left: never by hand.

``<!-- figures:start -->`` begins one table of speed (the newest line of every ``benchmarks/results/*.jsonl``) and one
of claims (those of ``evidence/*.json`` that have a bar, but the many of samplers); ``<!-- figures:CASE -->`` begins the
speed of one case, ``<!-- figures:samplers -->`` what samplers do to pictures. All go up to ``<!-- figures:end -->``.
``python -m benchmarks.readme`` renews them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path

from safelight.errors import ConfigError
from safelight.evaluate.bench import Line
from safelight.evaluate.evidence import Claim, read
from safelight.evaluate.samplers import BUDGETS

START, END = "<!-- figures:start -->", "<!-- figures:end -->"
MARKED = re.compile(rf"(<!-- figures:(?!end)([a-z0-9-]+) -->)\n(?:(?!{END}).)*{END}", re.DOTALL)
SAMPLERS = "samplers"
"""The file of claims that has a table of its own: a sampler a row."""
MEASURED = re.compile(r"(\S+), (\S+) evaluations: (stated attributes right|distance from the solution)")
NONE_YET = "Nothing has been measured yet."


def renewed(text: str, root: Path) -> str:
    """A page with what stands between its markers replaced by the figures of the files below ``root``.

    Raises:
        ConfigError: the markers are missing, or a file is not in its form.
    """
    page, count = MARKED.subn(lambda found: f"{found[1]}\n{block(found[2], root)}\n{END}", text)
    if not count:
        raise ConfigError(f"the page has no {START} ... {END}")
    return page


def block(name: str, root: Path) -> str:
    """What belongs behind a marker: ``start`` for all figures, else the speed of the case of that name."""
    if name == "start":
        return figures(root)
    if name == SAMPLERS:
        return samplers(read(root / "evidence" / f"{SAMPLERS}.json"))
    file = root / "benchmarks/results" / f"{name}.jsonl"
    return "\n\n".join(_speed([newest(file)])) if file.is_file() else NONE_YET


def figures(root: Path) -> str:
    """Both tables as Markdown."""
    lines = [newest(file) for file in sorted((root / "benchmarks/results").glob("*.jsonl"))]
    files = [file for file in sorted((root / "evidence").glob("*.json")) if file.stem != SAMPLERS]
    claims = [entry for file in files for entry in read(file) if entry.bar]
    parts = [*_speed(lines), *_claims(claims)]
    return "\n\n".join(parts) or NONE_YET


def samplers(claims: Sequence[Claim]) -> str:
    """A row for each sampler, a column for each number of evaluations: right, and how far from the solution."""
    found = [(match, entry) for entry in claims if (match := MEASURED.fullmatch(entry.claim))]
    if not found:
        return NONE_YET
    cells: dict[tuple[str, float], list[str]] = {}
    for match, entry in found:
        right = match[3].startswith("stated")
        text = f"{100 * entry.value:.0f} %" if right else f"{entry.value:.2g}"
        cells.setdefault((match[1], float(match[2])), []).append(text)
    rows = []
    for name in dict.fromkeys(name for name, _ in cells):
        own = {spent: ", ".join(texts) for (each, spent), texts in cells.items() if each == name}
        rows.append([f"`{name}`", *(_nearest(own, budget) for budget in BUDGETS)])
    heads = ["sampler", *(f"{budget} evaluations" for budget in BUDGETS)]
    return "\n\n".join([_table(heads, rows), _origins((entry.commit, entry.machine) for _, entry in found)])


def _nearest(own: Mapping[float, str], budget: float) -> str:
    """What was measured with at most this many evaluations and more than half of them."""
    fitting = [spent for spent in own if budget / 2 < spent <= budget]
    return own[max(fitting)] if fitting else "-"


def newest(file: Path) -> Line:
    """The last line of a file of results.

    Raises:
        ConfigError: any of its lines is not a result.
    """
    names = {field.name for field in fields(Line)}
    try:
        found = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
        if not found or any(set(line) != names for line in found):
            raise ConfigError(f"{file}: every line has exactly the fields {', '.join(sorted(names))}")
        return Line(**found[-1])
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{file}: is not a list of results ({error})") from None


def _speed(lines: Sequence[Line]) -> list[str]:
    if not lines:
        return []
    rows = [
        (line.subject, f"{line.median_s:.3g} s", _times(line), _megabytes(line), f"`{line.command}`") for line in lines
    ]
    heads = ("what", "median", "against: theirs over ours", "memory at most", "command")
    return [_table(heads, rows), _origins((line.commit, line.machine) for line in lines)]


def _claims(claims: Sequence[Claim]) -> list[str]:
    if not claims:
        return []
    rows = [
        (entry.claim, _number(entry.value, entry.unit), _bar(entry), "yes" if entry.holds else "**no**")
        for entry in claims
    ]
    heads = ("claim", "measured", "bar", "holds")
    return [_table(heads, rows), _origins((entry.commit, entry.machine) for entry in claims)]


def _times(line: Line) -> str:
    return f"{line.opponent}: {line.ratio:.2f}" if line.ratio is not None else "-"


def _megabytes(line: Line) -> str:
    return f"{line.peak_bytes / 1e6:.0f} MB" if line.peak_bytes is not None else "-"


def _bar(entry: Claim) -> str:
    sign, _, limit = (entry.bar or "").partition(" ")
    return f"{'≥' if sign == '>=' else '≤'} {_number(float(limit), entry.unit)}"


def _number(value: float, unit: str) -> str:
    if unit.startswith("share"):
        return f"{100 * value:.4g} %"
    return f"{value:.3g} {unit}"


def _origins(found: Iterable[tuple[str, str]]) -> str:
    """Which commits on which machines, each once."""
    by_machine: dict[str, list[str]] = {}
    for commit, machine in found:
        commits = by_machine.setdefault(machine, [])
        if commit not in commits:
            commits.append(commit)
    many = [f"{machine} (commit {', '.join(commits)})" for machine, commits in by_machine.items()]
    return f"Measured on {'; '.join(many)}."


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
