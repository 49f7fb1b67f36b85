"""The README's Python is run as it stands, on the default model."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.pages import ROOT, blocks, run


def test_the_first_thing_to_see_is_a_picture() -> None:
    lines = [line for line in (ROOT / "README.md").read_text(encoding="utf-8").splitlines() if line]
    assert lines[0].startswith("# ")
    assert lines[1].startswith("![")


def test_the_readme_draws_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import Image

    from safelight.generate.recipe import recipe_in

    monkeypatch.chdir(tmp_path)
    assert len(list(blocks(ROOT / "README.md", "python"))) == 1
    names = run("README.md")
    assert isinstance(names["look"], Image.Image), "the default model brings a linear preview"
    drawn = sorted(tmp_path.glob("*.png"))
    assert [file.name for file in drawn] == ["figurine-7.png", "figurine-8.png"]
    for seed, file in zip((7, 8), drawn, strict=True):
        with Image.open(file) as picture:
            recipe = recipe_in(picture)
            assert picture.size == (128, 128)
        assert (recipe.seed, recipe.steps) == (seed, 10)
        assert recipe.prompt == "a smiling figurine with round glasses"
