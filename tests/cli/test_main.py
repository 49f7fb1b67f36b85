"""The command line as a whole: help, version, errors as one line, exit codes."""

from __future__ import annotations

import argparse
import subprocess
import sys
from types import SimpleNamespace

import pytest

import safelight
from safelight.cli import main as entry
from safelight.cli.main import main
from safelight.cli.table import COMMANDS, Command
from safelight.errors import DeviceError, RequestError, SafelightError, WeightsError


def _obey(monkeypatch: pytest.MonkeyPatch, error: BaseException | None = None) -> None:
    """Put a command ``try`` in the table, which raises ``error``."""

    def run(args: argparse.Namespace) -> int:
        if error is not None:
            raise error
        return args.code if args.code is not None else 0

    def arguments(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--code", type=int)

    functions = {"try:arguments": arguments, "try:run": run}
    monkeypatch.setattr(entry, "COMMANDS", (Command("try", "do as told", *functions),))
    monkeypatch.setattr(entry, "find", functions.__getitem__)


def test_every_command_is_named_with_its_line_in_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    said = " ".join(capsys.readouterr().out.split())
    for command in COMMANDS:
        assert f"{command.name} {command.help}" in said


def test_rows_of_the_table_are_sentences_that_fit_a_line() -> None:
    assert len({command.name for command in COMMANDS}) == len(COMMANDS)
    for command in COMMANDS:
        assert command.help[0].islower() and not command.help.endswith("."), command.help
        assert len(command.help) <= 80, command.help


def test_version_is_the_packages_own(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out == f"safelight {safelight.__version__}\n"


def test_without_a_command_the_help_is_shown_as_a_wrong_request(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "commands:" in capsys.readouterr().out


@pytest.mark.parametrize("words", [["draw"], ["doctor", "--jason"], ["doctor", "--js"], ["--verbose", "doctor"]])
def test_wrong_words_are_exit_code_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(words)
    assert "safelight" in capsys.readouterr().err


def test_a_commands_exit_code_is_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    _obey(monkeypatch)
    assert main(["try"]) == 0
    assert main(["try", "--code", "7"]) == 7


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (SafelightError("the lamp is out; change it"), 1, "safelight: the lamp is out; change it\n"),
        (WeightsError("torn.safetensors is truncated"), 1, "safelight: torn.safetensors is truncated\n"),
        (RequestError("steps must be from 1 to 1000, not 0"), 2, "safelight: steps must be from 1 to 1000, not 0\n"),
        (DeviceError("no cuda here"), 2, "safelight: no cuda here\n"),
        (KeyboardInterrupt(), 130, "safelight: interrupted\n"),
        (KeyError("x"), 1, "safelight: unexpected KeyError: 'x'; please report it with what --debug prints\n"),
    ],
)
def test_an_error_is_one_line_and_an_exit_code(
    error: BaseException, code: int, line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _obey(monkeypatch, error)
    assert main(["try"]) == code
    assert capsys.readouterr() == ("", line)


@pytest.mark.parametrize("words", [["--debug", "try"], ["try", "--debug"]])
def test_debug_before_or_after_the_command_shows_the_traceback(
    words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _obey(monkeypatch, RequestError("no"))
    with pytest.raises(RequestError):
        main(words)


def test_only_the_chosen_command_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(place: str) -> SimpleNamespace:
        raise AssertionError(place)

    monkeypatch.setattr(entry, "find", never)
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])


@pytest.mark.skipif(sys.platform == "win32", reason="pipes there do not break this way")
def test_a_reader_that_goes_away_is_no_error() -> None:
    code = (
        "import safelight.cli.main as m, safelight.cli.table as t\n"
        "def talk(args):\n    while True: print('y' * 1000)\n"
        "m.find = lambda place: talk if place.endswith('run') else (lambda parser: None)\n"
        "raise SystemExit(m.main(['doctor']))\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as talker:
        assert talker.stdout and talker.stderr
        talker.stdout.read(10)
        talker.stdout.close()
        assert (talker.wait(20), talker.stderr.read()) == (141, b"")
