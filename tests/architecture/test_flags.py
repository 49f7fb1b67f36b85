"""The flags of the command line are a promise."""

from __future__ import annotations

from tests.architecture.flags import FILE, frozen


def test_flags_are_those_written_down() -> None:
    assert frozen() == FILE.read_text(encoding="utf-8"), (
        "the flags changed; if that is meant, run `python -m tests.architecture.flags` and say it in CHANGELOG.md"
    )
