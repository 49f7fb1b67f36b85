"""Claims: judged by their bar, kept by their name, refused in any other form."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from safelight.errors import ConfigError
from safelight.evaluate.evidence import Claim, Finding, claim, holds, read, record, rounded
from safelight.evaluate.origin import Origin
from tests.architecture.source import ROOT

HERE = Origin("0123456789ab", "a lamp, 2 cores", "safelight bench help --runs 1")


@pytest.mark.parametrize(
    ("value", "bar", "held"),
    [(0.97, ">= 0.97", True), (0.9699, ">= 0.97", False), (6.0, "<= 6", True), (6.1, "<= 6", False), (1.0, None, None)],
)
def test_a_claim_holds_exactly_up_to_its_bar(value: float, bar: str | None, held: bool | None) -> None:
    assert holds(value, bar) is held
    assert claim(Finding("it is so", value, "s", bar), HERE).holds is held


@pytest.mark.parametrize(("value", "bar"), [(0.96996, ">= 0.97"), (6.0004, "<= 6")])
def test_a_value_that_only_rounding_would_move_to_its_bar_is_written_as_it_is(value: float, bar: str) -> None:
    entry = claim(Finding("it is so", value, "share of 9", bar), HERE)
    assert (entry.value, entry.holds) == (value, False)
    assert claim(Finding("it is so", 1.23456, "s", "<= 6"), HERE).value == 1.235


@pytest.mark.parametrize("bar", ["0.97", "> 0.97", ">= much", ">=0.97"])
def test_a_bar_that_is_none_is_refused(bar: str) -> None:
    with pytest.raises(ConfigError, match="is not one"):
        holds(1.0, bar)


def test_four_digits_are_kept_and_whole_numbers_stay_whole() -> None:
    assert rounded(0.123456) == 0.1235
    assert rounded(12345.6) == 12350.0
    assert rounded(123456) == 123456


def test_a_claim_replaces_its_older_self_in_place_and_others_stay(tmp_path: Path) -> None:
    place = tmp_path / "speed.json"
    first = [claim(Finding(name, 1.0, "s", "<= 2"), HERE) for name in ("a", "b")]
    record(place, first)
    newer = claim(Finding("a", 3.0, "s", "<= 2"), HERE)
    record(place, [newer, claim(Finding("c", 1.0, "s"), HERE)])
    kept = read(place)
    assert [entry.claim for entry in kept] == ["a", "b", "c"]
    assert kept[0] == newer and kept[0].holds is False and kept[2].holds is None
    assert place.read_text("utf-8").count("\n") == 5, "one claim a line, so that changes can be read"


@pytest.mark.parametrize("text", ["{", "{}", '[{"claim": "a"}]', "[1]"])
def test_another_form_is_refused(tmp_path: Path, text: str) -> None:
    place = tmp_path / "speed.json"
    place.write_text(text)
    with pytest.raises(ConfigError):
        read(place)


def test_the_projects_own_evidence_is_in_its_form_and_its_verdicts_are_computed() -> None:
    for file in sorted((ROOT / "evidence").glob("*.json")):
        assert isinstance(json.loads(file.read_text("utf-8")), list), file
        for entry in read(file):
            assert isinstance(entry, Claim)
            assert entry.holds is holds(entry.value, entry.bar), f"{file.name}: {entry.claim}"
