"""Guidance from the command to the picture and back from its recipe."""

from __future__ import annotations

from tests.end_to_end.shell import Shell, wrong
from tests.models import tiny

MODEL = ("--model", str(tiny()))
WEAK = ("--weak-model", str(tiny("sd2")))


def test_rules_interval_and_scales_by_step_are_drawn_again_to_the_last_bit(shell: Shell) -> None:
    rules = ("--guidance-rule", "apg:momentum=0.3", "--guidance-rule", "seg:blur=1,layers=mid+down_blocks.0")
    recipe = shell.drawn("--guidance", "5,3", *rules, "--guidance-interval", "0.01,inf", "-o", "x.png")
    assert (recipe.guidance, recipe.interval) == ([5.0, 3.0], [0.01, "inf"])
    assert [rule["name"] for rule in recipe.rules] == ["apg", "seg"]
    options = {"scale": 3.0, "blur": 1.0, "layers": "mid+down_blocks.0", "low": 0.0, "high": "inf"}
    assert recipe.rules[1]["options"] == options
    assert shell.run("reproduce", "x.png", *MODEL).out == "bit-equal\n"
    assert "CFG scale" not in recipe.parameters(), "there is not one"


def test_what_guides_is_printed(shell: Shell) -> None:
    said = shell.generate("--guidance", "5,3", "--guidance-rule", "pag", "-o", "x.png")
    assert ", guidance 5 to 3 + pag, " in said.out


def test_a_weaker_model_is_recorded_by_its_bytes_and_needed_to_draw_again(shell: Shell) -> None:
    auto = ("--guidance-rule", "autoguidance:scale=1.5", *WEAK)
    recipe = shell.drawn(*auto, "-o", "x.png")
    before = shell.pixels
    assert recipe.weak is not None and recipe.weak["name"] == "sd2"
    assert all(len(digest) == 64 for digest in recipe.weak["files"].values())
    shell.drawn("-o", "plain.png")
    assert shell.pixels != before
    assert shell.run("reproduce", "x.png", *MODEL, *WEAK).out == "bit-equal\n"
    assert "--weak-model" in wrong(shell.run("reproduce", "x.png", *MODEL)), "a folder that a file names is not opened"
    other = shell.run("reproduce", "x.png", *MODEL, "--weak-model", str(tiny()))
    assert other.code == 1 and "the weaker model's unet/" in other.out
    assert "drawn without --weak-model" in wrong(shell.run("reproduce", "plain.png", *MODEL, *WEAK))
    assert "give both or neither" in wrong(shell.generate(*WEAK))
