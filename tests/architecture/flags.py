"""Writes down every flag of every command; ``python -m tests.architecture.flags`` renews flags.txt.

What stands in flags.txt is a promise to the people whose scripts use it: a flag may be added, and a change of an old
one belongs in the CHANGELOG.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from safelight.cli.main import parser
from safelight.cli.table import COMMANDS
from tests.architecture.source import ROOT

FILE = ROOT / "tests/architecture/flags.txt"


def frozen() -> str:
    """One line per flag: command, spellings, what it takes, default."""
    lines = [f"safelight {_line(action)}" for action in _flags(parser())]
    for command in COMMANDS:
        lines += _all(command.name, _below(parser(command.name))[command.name])
    return "\n".join(lines) + "\n"


def _all(name: str, parser: argparse.ArgumentParser) -> list[str]:
    lines = [f"{name} {_line(action)}" for action in _flags(parser)]
    for word, below in _below(parser).items():
        lines += _all(f"{name} {word}", below)
    return lines


def _below(top: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    rows = [action.choices for action in top._actions if isinstance(action, argparse._SubParsersAction)]
    return rows[0] if rows else {}


def _flags(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    yield from (action for action in parser._actions if not isinstance(action, argparse._SubParsersAction))


def _line(action: argparse.Action) -> str:
    spellings = " ".join(action.option_strings) or action.dest.upper()
    takes = "" if action.nargs == 0 else f" {action.metavar or action.dest.upper()}"
    many = f" nargs={action.nargs}" if action.nargs not in (None, 0) else ""
    choices = f" choices={','.join(map(str, action.choices))}" if action.choices else ""
    default = "" if action.default in (None, False, argparse.SUPPRESS) else f" default={action.default}"
    return f"{spellings}{takes}{many}{choices}{default}"


if __name__ == "__main__":
    FILE.write_text(frozen(), encoding="utf-8")
