"""Laws that do not apply to a row of a table, each with its reason.

A law runs over ``rows(law, names)``: what is left out is named here and nowhere else.
"""

from __future__ import annotations

EXEMPT: dict[tuple[str, str], str] = {}


def rows(law: str, names: list[str]) -> list[str]:
    """The rows to which a law applies."""
    return [name for name in names if (law, name) not in EXEMPT]
