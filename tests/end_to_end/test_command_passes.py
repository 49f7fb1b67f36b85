"""``safelight generate``: the flags of a second pass, of a refiner, and of what networks are told beside the text."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from safelight.generate.file import open_picture
from tests.end_to_end.shell import Shell, wrong
from tests.models import tiny, tiny_preview

WRONG: dict[str, dict[str, str]] = {
    "--hires": {"1": "more than 1", "9": "at most 8", "x": "invalid float", "1.05": "enlarge by more"},
    "--hires-strength": {"0.5": "needs --hires", "2 --hires 2": "above 0 and not above 1"},
    "--hires-steps": {"4": "needs --hires", "0 --hires 2": "between 1 and 1000, not 0"},
    "--hires-upscaler": {"bicubic": "needs --hires", "lanzcos --hires 2": "nearest known: lanczos"},
    "--fact": {
        "crop": "NAME=VALUE",
        "crop=x": "NAME=VALUE",
        "crop=0,nan": "must be finite",
        "crop=0,1": "unknown fact",
    },
    "--depth": {"none.png": "no such file", "depth.png": "is shown no depth"},
    "--refiner": {"figurine5": "unknown model"},
    "--preview-vae": {"x": "give both or neither"},
    "--handover": {"0.5": "needs a --refiner"},
    "--invert": {"x": "need an --image"},
}


@pytest.mark.parametrize(("flag", "value"), [(flag, value) for flag, values in WRONG.items() for value in values])
def test_a_value_that_cannot_be_is_one_line_and_leaves_nothing(flag: str, value: str, shell: Shell) -> None:
    Image.new("L", (4, 4)).save("depth.png")
    code = 1 if value == "none.png" else 2
    assert WRONG[flag][value] in wrong(shell.generate(flag, *value.split()), code)
    assert shell.names() == ["depth.png"]


def test_the_second_pass_obeys_its_flags(shell: Shell) -> None:
    plain = ("--hires", "1.5")
    ways = [(), ("--hires-strength", "1"), ("--hires-steps", "3"), ("--hires-upscaler", "bicubic")]
    seen = set()
    for place, way in enumerate(ways):
        shell.drawn(*plain, *way, "-o", f"{place}.png")
        seen.add(shell.pixels)
    assert len(seen) == len(ways)
    said = shell.generate(*plain, "-o", "z.png", "--every-step", "steps")
    assert "32x32 to 48x48" in said.out
    assert [Image.open(file).size for file in sorted(Path("steps").iterdir())] == [(32, 32)] * 2 + [(48, 48)]


@pytest.mark.parametrize(
    "fact",
    ["original=64x64", "crop=8,0", "target=16x32", "negative-original=8x8", "negative-crop=1,2", "negative-target=8x9"],
)
def test_a_fact_changes_the_picture(fact: str, shell: Shell) -> None:
    shell.drawn("-o", "plain.png", model=tiny("sdxl"))
    before = shell.pixels
    recipe = shell.drawn("--fact", fact, "-o", "told.png", model=tiny("sdxl"))
    assert shell.pixels != before
    assert list(recipe.facts) == [fact.partition("=")[0]]


WRONG_FACTS = {
    "negative-crop=1,2": "does nothing at guidance 1",
    "crop=1": "is 2 numbers, not 1",
    "crop=0,-1": "between 0 and 100000, not -1",
    "score=6": "nearest known: ",
}


def test_a_fact_that_does_nothing_or_has_too_few_numbers_is_refused(shell: Shell) -> None:
    for fact, words in WRONG_FACTS.items():
        said = shell.generate("--fact", fact, "--guidance", "1", model=tiny("sdxl"))
        assert words in wrong(said)


def test_the_refiner_takes_over_where_it_is_told(shell: Shell) -> None:
    folders = {"model": tiny("sdxl")}
    shell.drawn("--steps", "4", "-o", "alone.png", model=folders["model"])
    seen = {shell.pixels}
    for place, way in enumerate((("--handover", "0.3"), (), ("--handover", "0.5", "--fact", "score=9"))):
        words = ("--steps", "4", "--refiner", str(tiny("refiner")), *way)
        recipe = shell.drawn(*words, "-o", f"{place}.png", model=folders["model"])
        seen.add(shell.pixels)
        assert (recipe.refiner or {})["handover"] == float(way[1] if way else 0.8)
    assert len(seen) == 4
    again = ("reproduce", "1.png", "-m", str(folders["model"]))
    assert "with --refiner" in wrong(shell.run(*again), 2)
    assert shell.run(*again, "--refiner", str(tiny("refiner"))).out.startswith("bit-equal")
    shell.drawn("-o", "plain.png")
    assert "drawn without --refiner" in wrong(shell.run("reproduce", "plain.png", "--refiner", "x"), 2)


def test_a_refiner_draws_alone_over_a_picture(shell: Shell) -> None:
    shell.drawn("-o", "start.png")
    before = shell.pixels
    words = ("--image", "start.png", "--strength", "0.6", "--steps", "4")
    shell.drawn(*words, "-o", "refined.png", model=tiny("refiner"))
    refined = shell.pixels
    shell.drawn(*words, "--fact", "negative-score=9", "-o", "scored.png", model=tiny("refiner"))
    assert len({before, refined, shell.pixels}) == 3
    assert open_picture("refined.png").size == (32, 32)
    assert "does not do the task 'text'" in wrong(shell.generate(model=tiny("refiner")))


def test_depth_is_what_is_drawn_over(shell: Shell) -> None:
    rise = Image.linear_gradient("L").resize((32, 32))
    rise.save("near.png")
    rise.rotate(90).save("side.png")
    Image.fromarray(np.array(rise, np.uint16) * 257).save("deep.png")
    Image.new("L", (32, 32), 7).save("flat.png")
    seen = []
    for name in ("near", "side", "deep"):
        recipe = shell.drawn("--depth", f"{name}.png", "-o", f"{name}-drawn.png", model=tiny("depth"))
        assert (recipe.depth or {})["file"] == f"{name}.png"
        seen.append(shell.pixels)
    assert seen[0] != seen[1]
    assert seen[0] == seen[2], "sixteen bits of the same depth"
    again = ("reproduce", "near-drawn.png", "-m", str(tiny("depth")), "--threads")
    assert "with --depth" in wrong(shell.run(*again[:-1]), 1)
    assert shell.run(*again[:-1], "--depth", "near.png").out.startswith("bit-equal")
    assert "same all over" in wrong(shell.generate("--depth", "flat.png", model=tiny("depth")), 1)
    assert "is shown depth; give" in wrong(shell.generate(model=tiny("depth")))


def test_a_small_picture_is_drawn_larger(shell: Shell) -> None:
    Image.linear_gradient("L").resize((8, 16)).save("small.png")
    seen = set()
    for place, words in enumerate(((), ("--fact", "noise-level=50"), ("--seed", "6"))):
        recipe = shell.drawn("--image", "small.png", *words, "-o", f"{place}.png", model=tiny("x4"))
        assert (recipe.task, recipe.size) == ("upscale", (32, 64))
        seen.add(shell.pixels)
    assert len(seen) == 3
    again = ("reproduce", "1.png", "-m", str(tiny("x4")), "--image", "small.png")
    assert shell.run(*again).out.startswith("bit-equal")
    wide = shell.generate("--image", "small.png", "--fact", "noise-level=51", model=tiny("x4"))
    assert "from 0 to 50" in wrong(wide)


def test_a_tiny_autoencoder_draws_the_steps_and_not_the_picture(shell: Shell) -> None:
    named = ("--preview-vae", str(tiny_preview()))
    for name, words in (("plain", ()), ("tiny", named)):
        shell.generate(*words, "-o", f"{name}.png", "--every-step", name)
    plain, drawn = (sorted(Path(name).iterdir()) for name in ("plain", "tiny"))
    assert open_picture("plain.png").tobytes() == open_picture("tiny.png").tobytes()
    assert [open_picture(file).size for file in drawn] == [(32, 32)] * 2
    assert open_picture(plain[0]).tobytes() != open_picture(drawn[0]).tobytes()
    assert open_picture(plain[1]).tobytes() == open_picture(drawn[1]).tobytes()
    model = shutil.copytree(tiny(), "model")
    shutil.copytree(tiny_preview(), Path(model) / "preview_vae")
    shell.generate("-o", "beside.png", "--every-step", "beside", model=model)
    beside = sorted(Path("beside").iterdir())
    assert [open_picture(file).tobytes() for file in beside] == [open_picture(file).tobytes() for file in drawn]
    other = ("--preview-vae", str(tiny_preview(2)), "--every-step", "other")
    assert "is for latents of 4 channels, 2 pixels wide, and this model's have 4, 4" in wrong(shell.generate(*other), 1)


def test_an_image_is_inverted_under_the_text_that_describes_it(shell: Shell) -> None:
    shell.drawn("-o", "start.png")
    seen = {shell.pixels}
    over = ("--image", "start.png", "--steps", "4", "--strength", "0.5")
    for place, way in enumerate(((), ("--invert", "a red hat"), ("--invert", ""))):
        said = shell.generate(*over, *way, "-o", f"{place}.png", prompt="a crown", model=tiny("sd2"))
        assert ("2 of 4 steps (strength 0.5) after an inversion" in said.out) == bool(way)
        assert (f"({4 if way else 2} evaluations)") in said.out
        seen.add(open_picture(f"{place}.png").tobytes())
    assert len(seen) == 4
    again = ("reproduce", "2.png", "-m", str(tiny("sd2")), "--image", "start.png")
    assert shell.run(*again).out.startswith("bit-equal")
    line = shell.generate(*over, "--invert", "", "--json", "-o", "j.png").out
    told = json.loads(line)
    assert (told["steps_run"], told["evaluations"], told["recipe"]["invert"]) == (4, 4, "")
