"""2,000 damaged files: each is read or refused with one line, at once."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from safelight.evaluate.evidence import claim
from safelight.evaluate.origin import Origin
from safelight.weights.container import read_any
from tests.fuzz import damaged, findings, fuzz, look, seeds


def test_two_thousand_damaged_files_are_read_or_refused(tmp_path: Path) -> None:
    seen = fuzz(20261121, tmp_path, lambda seen: seen.count >= 2000)
    assert not seen.wrong, "\n".join(seen.wrong)
    assert seen.slowest < 1
    assert 1000 < seen.refused < 2000, "damage that nothing notices, or that everything does, tests little"


@pytest.mark.parametrize("name", seeds())
def test_the_files_are_good_before_they_are_damaged(name: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(seeds()[name])
    assert read_any(tmp_path / "file", pickles=True).entries
    if name != "single":
        look(tmp_path / "file")


def test_a_seed_makes_the_same_damage_again() -> None:
    good = seeds()["ckpt"]
    assert damaged(good, random.Random(5)) == damaged(good, random.Random(5)) != damaged(good, random.Random(6))


def test_what_a_run_saw_becomes_claims(tmp_path: Path) -> None:
    seen = fuzz(1, tmp_path, lambda seen: seen.count >= 5)
    made = [claim(each, Origin("c", "m", "x")) for each in findings(seen, 3.0)]
    assert [each.holds for each in made] == [False, True, True, True]
    seen.wrong.append("one")
    assert [each.holds for each in (claim(f, Origin("c", "m", "x")) for f in findings(seen, 101.0))][1::2] == [
        False,
        False,
    ]
