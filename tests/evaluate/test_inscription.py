"""A model's card tells the scores that were measured, and only models of ours have one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from safelight.errors import ConfigError
from safelight.evaluate.evidence import Finding, claim
from safelight.evaluate.figurines.inscription import inscribe
from safelight.evaluate.origin import Origin

HERE = Origin("0123456789ab", "a lamp, 2 cores", "safelight evaluate figurines --card")


def test_scores_stand_in_the_card_and_the_rest_stays(tmp_path: Path) -> None:
    notes = tmp_path / "safelight.json"
    notes.write_text(json.dumps({"card": {"licence": "Apache-2.0", "scores": {"old": "1"}}, "vocabulary": "figurines"}))
    inscribe(tmp_path, [claim(Finding("colours", 0.98, "share of 143", ">= 0.97"), HERE)])
    told = json.loads(notes.read_text())
    assert told["card"] == {"licence": "Apache-2.0", "scores": {"colours": "0.98 share of 143 (bar >= 0.97)"}}
    assert told["vocabulary"] == "figurines"


def test_a_model_without_a_card_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no card"):
        inscribe(tmp_path, [])
