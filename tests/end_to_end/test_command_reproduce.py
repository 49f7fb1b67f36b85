"""``safelight reproduce``, ``info`` and ``models``: what is in a picture's file is enough to draw it again."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from safelight.cli import generate
from safelight.generate import source
from safelight.weights.load import read
from safelight.weights.save import save
from tests.architecture.source import ROOT
from tests.end_to_end.shell import Said, Shell, wrong
from tests.generate.scenes import mask, picture
from tests.models import NOTES, tiny


def again(shell: Shell, *words: str) -> Said:
    """``safelight reproduce`` with the tiny model, where the words name none."""
    model = [] if "--model" in words else ["--model", str(tiny())]
    return shell.run("reproduce", *words, *model)


def repacked(source: str, target: str, change: dict[str, object]) -> None:
    """A copy of a picture whose recipe says something else."""
    with Image.open(source) as image:
        recipe = json.loads(image.info["safelight"])
        info = PngInfo()
        info.add_text("safelight", json.dumps({**recipe, **change}))
        image.save(target, pnginfo=info)


def test_a_picture_is_drawn_again_to_the_last_bit(shell: Shell) -> None:
    shell.generate("-n", "2", "--width", "4", "--sampler", "euler_ancestral", "--rescale", "0.3", "-o", "x.png")
    for name in ("x-1.png", "x-2.png"):
        said = again(shell, name)
        assert (said.code, said.out, said.err) == (0, "bit-equal\n", "")
    assert shell.names() == ["x-1.png", "x-2.png"]


def test_a_picture_over_a_picture_needs_what_it_was_drawn_over(shell: Shell) -> None:
    picture().save("start.png")
    mask().save("mask.png")
    shell.generate("--image", "start.png", "--mask", "mask.png", "--strength", "1", "-o", "x.png")
    assert "the image start.png; give it with --image" in wrong(again(shell, "x.png"), 1)
    assert "the mask mask.png; give it with --mask" in wrong(again(shell, "x.png", "--image", "start.png"), 1)
    both = ("--image", "start.png", "--mask", "mask.png")
    assert again(shell, "x.png", *both).out == "bit-equal\n"
    assert "holds other pixels" in wrong(again(shell, "x.png", *both[:1], "mask.png", *both[2:]), 1)
    shell.generate("-o", "plain.png")
    assert "leave it out" in wrong(again(shell, "plain.png", "--mask", "mask.png"), 1)


def test_another_model_is_found_out_and_measured(shell: Shell) -> None:
    shutil.copytree(tiny(), "model")
    shell.generate("-o", "x.png", model="model")
    file = Path("model/unet/diffusion_pytorch_model.safetensors")
    tensors = {name: tensor.clone() for name, tensor in read(file).items()}
    tensors["conv_out.bias"] += 0.05
    save(tensors, file)
    said = again(shell, "x.png", "--model", "model")
    assert said.code == 1
    first, *causes = said.out.splitlines()
    assert first.startswith("not equal: ") and " of 255, PSNR " in first
    assert len(causes) == 1 and "unet/diffusion_pytorch_model.safetensors has other bytes" in causes[0]
    assert "--model" in wrong(shell.run("reproduce", "x.png")), "a folder that a file names is not looked for"
    said = again(shell, "x.png", "--model", str(tiny()))
    assert (said.code, said.out) == (0, "bit-equal\n"), "a model is its bytes, wherever it lies"


def test_changed_pixels_are_measured(shell: Shell) -> None:
    shell.generate("-o", "x.png")
    with Image.open("x.png") as image:
        image.putpixel((0, 0), tuple(value ^ 4 for value in image.getpixel((0, 0))))
        info = PngInfo()
        info.add_text("safelight", image.info["safelight"])
        image.save("y.png", pnginfo=info)
    said = again(shell, "y.png")
    assert said.code == 1
    assert said.out.startswith("not equal: 0.10% of the pixels differ, by at most 4 of 255, PSNR ")


def test_other_versions_are_told_even_where_the_bits_are_equal(shell: Shell) -> None:
    shell.generate("-o", "x.png")
    repacked("x.png", "y.png", {"torch": "1.0", "numerics": 0})
    said = again(shell, "y.png")
    assert said.code == 0
    assert "though the version of the numbers was 0, now 1\n  though torch was 1.0, now " in said.out


@pytest.mark.parametrize(
    "change",
    [{"size": [10**6, 10**6]}, {"steps": -1}, {"sampler": "x"}, {"dtype": "int8"}, {"threads": 0}, {"levels": []}],
)
def test_a_hostile_recipe_is_one_line(change: dict[str, object], shell: Shell) -> None:
    shell.generate("-o", "x.png")
    repacked("x.png", "y.png", change)
    said = again(shell, "y.png")
    assert said.code in (1, 2)
    wrong(said, said.code)


def test_a_picture_without_a_recipe_says_so(shell: Shell) -> None:
    picture().save("x.png")
    for command in ("info", "reproduce"):
        assert "no recipe of safelight's" in wrong(shell.run(command, "x.png"), 1)


def test_info_tells_the_recipe_to_people_and_to_programs(shell: Shell) -> None:
    picture().save("start.png")
    shell.generate("--image", "start.png", "--strength", "0.5", "--steps", "6", "--negative", "red", "-o", "x.png")
    lines = shell.run("info", "x.png").out.splitlines()
    told = {line.split("  ")[0]: line.split("  ", 1)[1].strip() for line in lines}
    assert told["prompt"] == "a person with green hair" and told["negative"] == "red"
    assert (told["steps"], told["size"], told["seed"]) == ("3 of 6", "32x32", "5")
    assert told["image"].startswith("sha256 ") and "file start.png" in told["image"]
    assert any(name.startswith("file unet/") for name in told)
    recipe = json.loads(shell.run("info", "x.png", "--json").out)
    assert recipe["seed"] == 5 and len(recipe["levels"]) == 4


def test_info_shows_what_another_program_wrote(shell: Shell) -> None:
    info = PngInfo()
    info.add_text("parameters", "a hat\nSteps: 20, Sampler: Euler a, Seed: 1")
    picture().save("x.png", pnginfo=info)
    told = ["prompt   a hat", "program  A1111", "steps    20", "sampler  Euler a", "seed     1"]
    assert shell.run("info", "x.png").out.splitlines() == told
    assert json.loads(shell.run("info", "x.png", "--json").out)["parameters"].startswith("a hat")


def test_info_answers_without_torch(shell: Shell) -> None:
    shell.generate("-o", "x.png")
    code = "import sys, safelight.cli.main as m; m.main(['info', sys.argv[1]]); assert 'torch' not in sys.modules"
    begun = time.monotonic()
    subprocess.run([sys.executable, "-c", code, str(shell.folder / "x.png")], cwd=ROOT, check=True, capture_output=True)
    assert time.monotonic() - begun < 5


def test_models_are_listed_with_their_cards(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "shipped", lambda: {"figurines": tiny()})
    lines = shell.run("models").out.splitlines()
    assert lines[0] == "figurines (the default)"
    assert "  licence: Apache-2.0" in lines and "    hair: 0.5" in lines
    assert json.loads(shell.run("models", "--json").out)["figurines"]["card"] == NOTES["card"]
    monkeypatch.setattr(source, "shipped", dict)
    assert "no model came with this installation" in shell.run("models").out


def test_the_commands_and_the_library_mean_the_same_default_model() -> None:
    assert generate.DEFAULT == source.DEFAULT
