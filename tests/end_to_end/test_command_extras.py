"""The flags of adapters without weights: each changes the picture, is told of, and draws the same bits again."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from tests.end_to_end.shell import PROMPT, Shell, wrong
from tests.end_to_end.test_command_adapters import FLAGS as LOADED
from tests.generate.scenes import mask, picture
from tests.models import tiny

FLAGS = ("--freeu", "--reference", "--style-of", "--region", "--region-base", "--tileable")
ADAPTERS = (*LOADED, *FLAGS)
"""The flags of all adapters."""
WRONG = {
    "--freeu 1,2,3": "4 numbers with a comma between them",
    "--freeu 1,1,1,1": "does nothing",
    "--freeu 1,1,1,9": "between 0 and 4, not 1, 1, 1, 9",
    "--freeu 1,1,1,nan": "between 0 and 4",
    "--reference none.png": "no such file",
    "--reference given.png:2": "between 0 and 1, not 2",
    "--reference given.png:much": "a number, such as 0.8, not 'much'",
    "--reference given.png:0.5:1": "FILE[:fidelity]",
    "--style-of none.png": "no such file",
    "--region half.png": "MASK=PROMPT",
    "--region none.png=hat": "no such file",
    "--region black.png=hat": "has no white",
    "--region half.png=hat:0": "above 0 and up to 100, not 0",
    "--region-base 1": "give a --region",
    "--region-base -1 --region half.png=hat": "between 0 and 100, not -1",
    "--tileable z": "x, y or xy, not 'z'",
}
FILES = ("none.png", "black.png")
CHANGES = {
    "freeu": ("--freeu", "1.5,1.6,0.9,0.2"),
    "reference": ("--reference", "given.png"),
    "faithful reference": ("--reference", "given.png:1"),
    "style": ("--style-of", "given.png"),
    "region": ("--region", "half.png=a red hat"),
    "heavy region": ("--region", "half.png=a red hat:3", "--region-base", "1"),
    "based region": ("--region", "half.png=a red hat", "--region-base", "1"),
    "two regions": ("--region", "half.png=a red hat", "--region", "white.png=a crown:0.5"),
    "across": ("--tileable", "x"),
    "down": ("--tileable", "y"),
    "around": ("--tileable", "xy"),
}
ALL = ("freeu", "reference", "style", "heavy region", "around")
CHANGES["all"] = tuple(word for name in ALL for word in CHANGES[name])


@pytest.fixture
def desk(shell: Shell) -> Shell:
    """A folder with a picture and masks."""
    picture(seed=3).save("given.png")
    mask().save("half.png")
    Image.new("L", (8, 8), 255).save("white.png")
    Image.new("L", (8, 8)).save("black.png")
    return shell


def test_every_form_of_a_flag_changes_the_picture_and_is_drawn_again_to_the_last_bit(desk: Shell) -> None:
    seen = set()
    for name, words in {"plain": (), **CHANGES}.items():
        recipe = desk.drawn(*words, "-o", f"{name}.png")
        seen.add(desk.pixels)
        assert len(recipe.adapters) == (len(ALL) if name == "all" else bool(words)), name
        assert all(len(value) == 64 for each in recipe.adapters for value in each["files"].values())
        said = desk.run("reproduce", f"{name}.png", "-m", str(tiny()), *words)
        assert (said.code, said.out) == (0, "bit-equal\n"), (name, said)
    assert len(seen) == len(CHANGES) + 1


def test_half_of_fidelity_is_meant_where_none_is_said(desk: Shell) -> None:
    desk.drawn("--reference", "given.png", "-o", "x.png")
    before = desk.pixels
    desk.drawn("--reference", "given.png:0.5", "-o", "y.png")
    assert desk.pixels == before


def test_a_number_behind_the_last_colon_of_a_region_is_its_weight(desk: Shell) -> None:
    said = [("half.png=a hat:2", "a hat", 2.0), ("half.png=red: a hat", "red: a hat", 1.0), ("half.png=:3", "", 3.0)]
    for place, (text, prompt, weight) in enumerate(said):
        (told,) = desk.drawn("--region", text, "-o", f"{place}.png").adapters
        assert (told["prompts"], told["weights"]) == ([prompt], [weight])


def test_a_picture_says_what_it_lacks_and_that_other_pixels_were_given(desk: Shell) -> None:
    desk.drawn("--reference", "given.png", "-o", "x.png")
    again = ("reproduce", "x.png", "-m", str(tiny()))
    said = wrong(desk.run(*again), 1)
    assert "drawn with the reference given.png (picture); give it with the same flag" in said
    picture(seed=4).save("given.png")
    other = desk.run(*again, "--reference", "given.png")
    assert other.code == 1 and "the reference given.png's picture has other bytes" in other.out
    desk.drawn("--freeu", "1,1,1,0.5", "-o", "y.png")
    said = wrong(desk.run("reproduce", "y.png", "-m", str(tiny())), 1)
    assert "drawn with the freeu 1,1,1,0.5; give it" in said
    weaker = desk.run("reproduce", "y.png", "-m", str(tiny()), "--freeu", "1,1,1,0.6")
    assert "s2 of the freeu 1,1,1,0.5 was 0.5, now 0.6" in weaker.out


def test_edges_meet_in_every_model_that_draws(desk: Shell) -> None:
    words = ("--steps", "4", "--refiner", str(tiny("refiner")), "--handover", "0.5")
    desk.drawn(*words, "-o", "plain.png", model=tiny("sdxl"))
    plain = desk.pixels
    desk.drawn(*words, "--tileable", "xy", "-o", "x.png", model=tiny("sdxl"))
    assert desk.pixels != plain
    again = ("reproduce", "x.png", "-m", str(tiny("sdxl")), "--refiner", str(tiny("refiner")), "--tileable", "xy")
    assert desk.run(*again).out == "bit-equal\n"


@pytest.mark.parametrize("words", WRONG)
def test_what_cannot_be_is_said_at_once_and_leaves_nothing(words: str, desk: Shell) -> None:
    before = desk.names()
    said = desk.generate(*words.split())
    assert said.code == (1 if any(each in words for each in FILES) else 2), said
    assert WRONG[words] in said.err and "Traceback" not in said.err
    assert desk.names() == before


def test_a_prompt_of_a_region_may_be_cut_and_is_told(desk: Shell) -> None:
    said = desk.generate("--region", "half.png=" + "red hat " * 60, "-o", "x.png", prompt=PROMPT)
    assert "this was cut off" in said.err and Path("x.png").exists()
