"""The project's own pages as text: their code blocks, run as a reader would run them, and what they name."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)


class Block(NamedTuple):
    """A fenced block: its language, its text, and the line of the page on which the text begins."""

    language: str
    text: str
    line: int


def pages() -> list[Path]:
    """Every page of the project, in order."""
    return [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(page: Path, language: str) -> Iterator[Block]:
    """The blocks of a page in one language, in order."""
    text = page.read_text(encoding="utf-8")
    for found in _BLOCK.finditer(text):
        if found[1] == language:
            yield Block(language, found[2], text.count("\n", 0, found.start(2)) + 1)


def run(page: str, **given: Any) -> dict[str, Any]:
    """Run the Python blocks of a page one after the other, as one program.

    Args:
        page: its path below the project.
        given: names that the page may use beside its own.

    Returns:
        Every name that is defined at the end. Errors point at the lines of the page.
    """
    names: dict[str, Any] = {"__name__": Path(page).stem, **given}
    found = list(blocks(ROOT / page, "python"))
    assert found, f"{page} has no Python to run"
    for block in found:
        # Empty lines in front put the block's lines where they stand on the page.
        exec(compile("\n" * (block.line - 1) + block.text, page, "exec", dont_inherit=True), names)
    return names
