"""The page of guidance tells of every rule with its options, as the table has them."""

from __future__ import annotations

from safelight.generate.guiding import RULES
from tests.docs.pages import ROOT


def test_every_rule_stands_on_the_page_with_its_options() -> None:
    text = (ROOT / "docs/choose/guidance.md").read_text(encoding="utf-8")
    told = [line for line in text.splitlines() if line.startswith("| `") and line.count("|") == 4]
    wanted = []
    for name, row in RULES.items():
        written = {option: f"{value:g}" if isinstance(value, float) else value for option, value in row.options.items()}
        options = ", ".join(f"`{option}={value}`" for option, value in written.items())
        wanted.append(f"| `{name}` | {options} | {row.what} |")
    assert told == wanted
