"""Words that a model was never taught are named; models of all English are left alone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from safelight.generate.vocabulary import PROMPTS, unknown
from tests.models import NOTES, tiny


def test_unknown_words_are_named_once_and_in_order() -> None:
    assert unknown(tiny(), ["a dog rides with green hair", "a dog and a cat"]) == ["dog", "rides", "cat"]


def test_the_prompts_that_are_recommended_hold_no_unknown_word() -> None:
    assert len(PROMPTS) == 3 and unknown(tiny(), PROMPTS) == []


def test_only_a_model_that_says_so_has_a_small_vocabulary(tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(tiny(), other)
    (other / "safelight.json").write_text(json.dumps({**NOTES, "vocabulary": "english"}))
    assert unknown(other, ["a dog"]) == []
    (other / "safelight.json").unlink()
    assert unknown(other, ["a dog"]) == []
