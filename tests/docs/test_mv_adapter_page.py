"""The page of MV-Adapter lists every checkpoint as its facts have it."""

from __future__ import annotations

import re

from safelight.multiview.mv_adapter.released import every
from tests.docs.pages import ROOT

TEXT = (ROOT / "docs/learn/mv-adapter.md").read_text(encoding="utf-8")


def test_every_checkpoint_stands_in_its_table() -> None:
    rows = [line.split(" | ") for line in re.findall(r"^\| `(mv-adapter-.+) \|$", TEXT, re.MULTILINE)]
    told = {name.strip("`"): cells for name, *cells in rows}
    wanted = {
        name: [
            "XL" if "xl" in row.base else "2.1",
            "yes" if row.refers else "no",
            f"`{row.maps}`",
            f"`{row.across}`",
        ]
        for name, row in every().items()
    }
    assert told == wanted
