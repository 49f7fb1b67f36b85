"""The list of exemptions stays honest."""

from __future__ import annotations

from safelight.core.samplers.table import SAMPLERS
from tests.laws.exempt import EXEMPT


def test_every_exemption_names_a_row_and_gives_a_reason() -> None:
    for (law, row), reason in EXEMPT.items():
        assert law
        assert row in SAMPLERS
        assert len(reason.split()) >= 4, f"{law} of {row} needs a reason"
