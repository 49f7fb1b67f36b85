"""The page of views names every layout and preset, says of layouts what the table says, and its code runs."""

from __future__ import annotations

import re

import pytest

from safelight.multiview.layouts import LAYOUTS
from safelight.multiview.network import Conditions
from safelight.multiview.presets import presets
from tests.docs.pages import ROOT, run
from tests.dreams import dream, small
from tests.multiview.test_layouts import ALONE, BITS

PAGE = "docs/learn/views.md"
TEXT = (ROOT / PAGE).read_text(encoding="utf-8")


def rows() -> dict[str, list[str]]:
    """The name in the first column -> the other cells, of all tables of the page."""
    return {
        found[1]: found[2].split(" | ") for found in re.finditer(r"^\| `([\w.-]+)` \| (.+) \|$", TEXT, re.MULTILINE)
    }


def test_every_layout_is_told_as_its_row_has_it() -> None:
    for name, row in LAYOUTS.items():
        alone = "yes, to the bit" if name in BITS else "yes, to rounding" if name in ALONE else "no"
        assert rows()[name] == [row.what, row.who, alone], name


def test_every_preset_and_every_input_has_a_row() -> None:
    inputs = set(Conditions.__dataclass_fields__) - {"beside_reference"}
    assert set(rows()) == {*LAYOUTS, *presets(), *inputs}
    for name, row in presets().items():
        cells = rows()[name]
        ways = {"": "none", "ramp": "bank and ramp", "time": "beside the time, beside the latents"}
        told = ways.get(row.picture, "one token, beside the latents")
        assert cells[1] == (f"`{row.camera}`" if row.camera else "none"), name
        own = " and ".join(kind for kind, has in (("slot", row.slot), ("tokens", row.tokens)) if has)
        assert cells[2] == (own or told), name
        assert cells[-1] in (row.weights, "none are public"), name


def test_the_pages_code_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    small(monkeypatch)
    assert run(PAGE, mvdream=dream("mvdream"))["last"].last
