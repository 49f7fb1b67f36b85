"""The command ``safelight``: reads the command line, runs one row of the table, turns errors into one line.

Exit codes: 0 done; 1 it failed (files, models, a self-test); 2 the request itself was wrong (flags, names, sizes);
130 interrupted; 141 the reader of our output went away.
"""

from __future__ import annotations

import argparse
import difflib
import io
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from safelight import __version__
from safelight.cli.table import COMMANDS, Command, find
from safelight.errors import DeviceError, RequestError, SafelightError

FAILED, WRONG_REQUEST, INTERRUPTED, BROKEN_PIPE = 1, 2, 130, 141


class Parser(argparse.ArgumentParser):
    """argparse, with an error in one line that says what to do."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong and where the help is, and exit with 2."""
        self.exit(WRONG_REQUEST, f"{self.prog}: {message}; '{self.prog} --help' lists what it takes\n")

    def flags(self) -> list[str]:
        """Every spelling of every flag, those of commands below included."""
        known = set(self._option_string_actions)
        for action in self._actions:
            if isinstance(action, argparse._SubParsersAction):
                known |= {flag for row in action.choices.values() for flag in row.flags()}
        return sorted(known)


def parser(chosen: str | None = None) -> Parser:
    """The parser of the whole command line.

    Args:
        chosen: the one command whose own flags are added, which imports its module; the others are names only.
    """
    top = Parser(
        prog="safelight",
        description="Draws pictures with diffusion models, and proves what it does.",
        epilog="'safelight COMMAND --help' says what a command can do.",
        allow_abbrev=False,
    )
    top.add_argument("--version", action="version", version=f"safelight {__version__}")
    top.add_argument("--debug", action="store_true", help="show the traceback of an error")
    rows = top.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    for command in COMMANDS:
        row = rows.add_parser(command.name, help=command.help, description=_sentence(command), allow_abbrev=False)
        if command.name == chosen:
            find(command.arguments)(row)
            # Accepted after the command as well; SUPPRESS keeps a --debug that was given before it.
            row.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help="show tracebacks")
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    Args:
        argv: the arguments without the program's name; by default those of the process.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal that cannot show a letter is no reason to lose a picture
            stream.reconfigure(errors="backslashreplace")
    words = list(sys.argv[1:] if argv is None else argv)
    # Flags in front of the command take no value, so the first word without a dash is the command.
    chosen = next((word for word in words if not word.startswith("-")), None)
    top = parser(chosen)
    args, strange = top.parse_known_args(words)
    if strange:
        near = difflib.get_close_matches(strange[0], top.flags(), n=3, cutoff=0.5)
        top.prog = " ".join(filter(None, [top.prog, args.command]))
        top.error(f"unknown argument {strange[0]!r}" + (f"; the nearest known: {', '.join(near)}" if near else ""))
    if args.command is None:
        top.print_help()
        return WRONG_REQUEST
    return _run(next(row for row in COMMANDS if row.name == args.command), args)


def _run(command: Command, args: argparse.Namespace) -> int:
    try:
        code: int = find(command.run)(args)
        sys.stdout.flush()  # here, where a reader that went away can still be answered
    except KeyboardInterrupt:
        return _complain("interrupted", INTERRUPTED)
    except BrokenPipeError:
        # The interpreter flushes once more at exit: give it somewhere to write.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except Exception as error:
        if args.debug:
            raise
        if isinstance(error, SafelightError):
            return _complain(str(error), WRONG_REQUEST if isinstance(error, RequestError | DeviceError) else FAILED)
        what = f"{type(error).__name__}: {error}"
        return _complain(f"unexpected {what}; please report it with what --debug prints", FAILED)
    return code


def _complain(text: str, code: int) -> int:
    print(f"safelight: {text}", file=sys.stderr)
    return code


def _sentence(command: Command) -> str:
    return command.help[0].upper() + command.help[1:] + "."
