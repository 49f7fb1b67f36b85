"""``--from``, and the kinds of files: what a picture says of itself is drawn again, whoever wrote it, wherever."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from safelight.generate.file import RECIPES, open_picture
from safelight.generate.metadata.carrier import encoded
from safelight.generate.recipe import recipe_in
from tests.end_to_end.shell import PROMPT, Said, Shell, wrong
from tests.generate.scenes import picture
from tests.generate.test_comfyui import plain
from tests.models import tiny

TEXT = (
    "a person with green hair <lora:ink:0.8>\nNegative prompt: a red hat\nSteps: 3, Sampler: Eular a, Schedule type: "
    "Karras, CFG scale: 4, Seed: 77, Size: 32x32, Model hash: 6ce0161689, Model: v1-5, Clip skip: 9, Version: v1.10.1"
)


def again(shell: Shell, file: str, *words: str) -> Said:
    """Draw what a file says, with nothing else said."""
    return shell.run("generate", "--from", file, "-m", str(tiny()), "--threads", "1", *words)


def left(said: Said) -> list[str]:
    assert said.code == 0, said.err
    return [line.partition("not repeated: ")[2] for line in said.err.splitlines() if "not repeated" in line]


def test_our_own_picture_comes_again_bit_for_bit(shell: Shell) -> None:
    shell.drawn(
        "--sampler", "Euler a", "--schedule", "karras", "--negative", "a red hat", "--clip-skip", "2", "-o", "x.png"
    )
    assert left(again(shell, "x.png", "-o", "y.png")) == []
    assert open_picture("y.png").tobytes() == shell.pixels
    assert recipe_in(open_picture("y.png")) == recipe_in(open_picture("x.png"))


def test_flags_win_over_the_file(shell: Shell) -> None:
    shell.drawn("--sampler", "Euler a", "--clip-skip", "2", "--option", "eta=0.5", "-o", "x.png")
    words = ("a red hat", "--steps", "3", "--sampler", "ddim", "--clip-skip", "1", "--seed", "8", "-n", "2")
    assert left(again(shell, "x.png", *words, "-o", "y.png")) == []
    first, second = (recipe_in(open_picture(f"y-{place}.png")) for place in (1, 2))
    assert (first.prompt, first.steps, first.sampler, first.skip, first.seed) == ("a red hat", 3, "ddim", 0, 8)
    assert second.seed == 9 and first.options["eta"] == 0
    assert left(again(shell, "x.png", "--seed", "random", "-o", "z.png")) == []
    assert recipe_in(open_picture("z.png")).seed != 5


def test_another_programs_picture_is_repeated_and_the_rest_is_said_a_line_each(shell: Shell) -> None:
    info = PngInfo()
    info.add_text("parameters", TEXT)
    picture().save("x.png", pnginfo=info)
    said = left(again(shell, "x.png", "-o", "y.png"))
    recipe = recipe_in(open_picture("y.png"))
    assert (recipe.prompt, recipe.negative) == ("a person with green hair ", "a red hat")
    assert (recipe.steps, recipe.seed, recipe.size, recipe.guidance) == (3, 77, (32, 32), 4.0)
    assert (recipe.schedule, recipe.noise, recipe.skip) == ("karras", "a1111-gpu", 0)
    for words in (
        "LoRA 'ink' at 0.8",
        "unknown sampler 'Eular a'; the nearest known: ",
        "the model v1-5 (6ce0161689); drawn with sd1",
        "skip: 8 layers cannot be skipped",
    ):
        assert len([line for line in said if words in line]) == 1, said
    assert len(said) == 4


def test_a_graph_of_comfyui_in_a_webp_is_repeated(shell: Shell) -> None:
    graph = plain(steps=3, seed=77)
    graph["4"]["inputs"] |= {"width": 32, "height": 40}
    fields = Image.Exif()
    fields[0x0110] = f"prompt:{json.dumps(graph)}"
    picture().save("x.webp", exif=fields)
    told = shell.run("info", "x.webp")
    assert "program" in told.out and "sd15.safetensors" in told.out
    said = left(again(shell, "x.webp", PROMPT, "-o", "y.png"))
    recipe = recipe_in(open_picture("y.png"))
    assert (recipe.sampler, recipe.schedule, recipe.steps, recipe.seed) == ("euler", "karras", 3, 77)
    assert (recipe.size, recipe.noise, recipe.prompt) == ((32, 40), "comfyui-gpu", PROMPT)
    assert said == ["the model sd15.safetensors; drawn with sd1"]


def test_pictures_that_it_was_drawn_over_are_asked_for_and_taken(shell: Shell) -> None:
    picture().save("start.png")
    shell.drawn("--image", "start.png", "--strength", "0.5", "--steps", "4", "-o", "x.png")
    assert left(again(shell, "x.png", "-o", "y.png")) == ["the image start.png; give it with --image"]
    assert left(again(shell, "x.png", "--image", "start.png", "-o", "z.png")) == []
    assert open_picture("z.png").tobytes() == shell.pixels


def test_what_says_nothing_is_one_line(shell: Shell) -> None:
    picture().save("x.png")
    assert "does not say how it was drawn" in wrong(again(shell, "x.png"), 1)
    assert "no such file" in wrong(again(shell, "none.png"), 1)
    info = PngInfo()
    info.add_text("prompt", "[" * 100_000)
    picture().save("y.png", pnginfo=info)
    assert "graph of ComfyUI is damaged" in wrong(again(shell, "y.png"), 1)
    assert "graph of ComfyUI is damaged" in wrong(shell.run("info", "y.png"), 1)
    assert shell.names() == ["x.png", "y.png"]


@pytest.mark.parametrize(("name", "words"), [("x.webp", "bit-equal\n"), ("x.jpg", "equal\n"), ("x.JPEG", "equal\n")])
def test_other_kinds_of_files_hold_the_recipe_and_are_reproduced(name: str, words: str, shell: Shell) -> None:
    told = shell.drawn("-o", "x.png")
    pixels = shell.pixels
    assert shell.drawn("-o", name) == told
    assert (shell.pixels == pixels) == name.endswith("webp")
    assert json.loads(shell.run("info", name, "--json").out)["seed"] == 5
    said = shell.run("reproduce", name, "-m", str(tiny()))
    assert said.code == 0 and said.out.endswith(words)
    assert ("keeps no bits" in said.out) == (not name.endswith("webp"))
    read = open_picture(name, RECIPES)
    other = Image.new("RGB", read.size)
    Path("other.jpg").write_bytes(encoded(other, "JPEG", recipe_in(read).texts()))
    said = shell.run("reproduce", "other.jpg", "-m", str(tiny()))
    assert said.code == 1 and "not equal" in said.out


def test_a_quality_changes_a_jpeg_and_is_refused_elsewhere(shell: Shell) -> None:
    for name, more in (("a.jpg", []), ("b.jpg", ["--quality", "95"]), ("c.jpg", ["--quality", "20"])):
        assert shell.generate("-o", name, *more).code == 0
    sizes = [Path(name).stat().st_size for name in ("a.jpg", "b.jpg", "c.jpg")]
    assert sizes[0] == sizes[1] > sizes[2]
    assert Image.open(io.BytesIO(Path("a.jpg").read_bytes())).format == "JPEG"
    for out in ("x.png", "x.webp", "x", "."):
        assert "is of a JPEG" in wrong(shell.generate("--quality", "50", "-o", out))
    assert "is of a JPEG" in wrong(shell.generate("--quality", "50"))
    for value in ("0", "101"):
        assert f"between 1 and 100, not {value}" in wrong(shell.generate("--quality", value, "-o", "x.jpg"))


def test_a_recipe_too_long_for_a_jpeg_is_said_before_anything_is_drawn(shell: Shell) -> None:
    said = shell.generate("-o", "x.jpg", "--json", prompt="red hat " * 4000)
    assert said.code == 1 and said.out == "" and "does not fit in a JPEG; write PNG or WebP" in said.err
    assert shell.names() == []


def test_what_a_strangers_file_says_moves_no_cursor(shell: Shell) -> None:
    info = PngInfo()
    info.add_text(
        "parameters", f"a hat\nby the sea\nSteps: 3, Sampler: Euler, Seed: 1, Model: \x1b[2J{'x' * 500}, Size: 32x32"
    )
    picture().save("x.png", pnginfo=info)
    assert "\x1b" not in (told := shell.run("info", "x.png").out) and "a hat\nby the sea" in told
    (line,) = left(again(shell, "x.png", "-o", "y.png"))
    assert line.startswith("the model \\x1b[2Jxxx") and len(line) <= 300


@pytest.mark.parametrize(
    "change",
    [
        {"size": [10**6, 10**6]},
        {"steps": -1},
        {"sampler": "x"},
        {"guidance": []},
        {"rules": [{"name": "x", "options": {}}]},
        {"interval": [5, 1]},
        {"noise": "x"},
        {"model": {"name": 3}},
        {"seed": 2**70},
    ],
)
def test_a_hostile_recipe_is_drawn_in_part_or_refused_in_one_line(change: dict[str, object], shell: Shell) -> None:
    told = shell.drawn("-o", "x.png")
    info = PngInfo()
    info.add_text("safelight", json.dumps({**json.loads(told.json()), **change}))
    picture().save("y.png", pnginfo=info)
    said = again(shell, "y.png", "-o", "z.png")
    if said.code:
        wrong(said, said.code)
    else:
        assert all("not repeated" in line for line in said.err.splitlines())
