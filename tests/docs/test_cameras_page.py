"""The page of cameras names every rig, format, encoder and convention, and says of rigs what their rows say."""

from __future__ import annotations

import re

from safelight.multiview.conventions import CONVENTIONS
from safelight.multiview.encode import ENCODERS
from safelight.multiview.export.table import FORMATS
from safelight.multiview.rig import rigs
from tests.docs.pages import ROOT

TEXT = (ROOT / "docs/learn/cameras.md").read_text(encoding="utf-8")
FRONTS = {0: "-y", 90: "+x", -90: "-x"}


def rows() -> dict[str, list[str]]:
    """The first column's names -> the other cells, of all tables of the page."""
    found = {}
    for line in re.findall(r"^\| (`.+) \|$", TEXT, re.MULTILINE):
        first, *others = line.split(" | ")
        found |= dict.fromkeys(re.findall(r"`([\w.-]+)`", first), others)
    return found


def test_every_table_is_complete() -> None:
    assert set(rows()) == {*rigs(), *FORMATS, *ENCODERS, *CONVENTIONS}


def test_rigs_are_told_as_their_rows_have_them() -> None:
    for name, (views, front, counted) in ((name, cells) for name, cells in rows().items() if name in rigs()):
        row = rigs()[name]
        assert int(views.split(",")[0]) == len(row.azimuths), name
        assert ("orthographic" in views) == (row.span is not None), name
        assert front == FRONTS[int(row.turn)], name
        assert counted.startswith("the given picture") == row.relative, name
