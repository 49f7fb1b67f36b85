"""``safelight generate``: every flag changes the output or is an error; one test for each."""

from __future__ import annotations

import json
import re
import sys
from io import BytesIO, TextIOWrapper
from pathlib import Path

import pytest
import torch
from PIL import Image

from safelight.generate import pipe as pipes
from safelight.generate.file import open_picture
from safelight.generate.recipe import recipe_in
from safelight.runtime import device
from tests.architecture.flags import FILE
from tests.end_to_end.shell import PROMPT, Said, Shell, wrong
from tests.end_to_end.test_command_extras import ADAPTERS
from tests.end_to_end.test_command_passes import WRONG as PASSES
from tests.end_to_end.test_command_upscale import WRONG as LATER
from tests.generate.scenes import mask, picture
from tests.models import tiny

# Flags of which a value is enough: the pixels differ from those without it.
CHANGES: dict[str, tuple[str, ...]] = {
    "--negative": ("a red hat",),
    "--size": ("48x32",),
    "--seed": ("6",),
    "--steps": ("3",),
    "--num-inference-steps": ("3",),
    "--sampler": ("Euler a",),
    "--schedule": ("karras",),
    "--option": ("eta=0.7",),
    "--schedule-option": ("shift=0.7",),
    "--guidance": ("1",),
    "--guidance-interval": ("0.5,3",),
    "--guidance-rule": ("pag:scale=2",),
    "--rescale": ("0.7",),
    "--noise": ("a1111-gpu",),
    "--variation": ("8:0.5",),
    "--clip-skip": ("2",),
    "--dtype": ("bf16",),
}
# And what is said of a value that cannot be.
WRONG: dict[str, dict[str, str]] = {
    "--negative": {"x --guidance 1": "does nothing at guidance 1"},
    "--model": {"figurine5": "unknown model"},
    "--size": {"30x32": "nearest are 28 and 32", "32": "WIDTHxHEIGHT", "axb": "WIDTHxHEIGHT", "0x32": "not 0x32"},
    "--count": {"0": "number of pictures", "x": "invalid int value"},
    "--seed": {"x": "whole number or random", "18446744073709551616": "64 bits"},
    "--steps": {"0": "between 1 and 1000, not 0", "1001": "not 1001", "x": "invalid int value"},
    "--sampler": {"eular": "the nearest known: euler"},
    "--schedule": {
        "karas": "the nearest known: karras",
        "14,x,0": "'x' in a list of levels is not a number",
        "2,5,0": "noise must fall from level to level",
        "14,2,0 --steps 3": "has 2 steps, not 3",
        "20,2,0": "not between 0 and 14.6146",
    },
    "--schedule-option": {
        "rho": "--schedule-option is NAME=VALUE",
        "rho=5": "option of schedule model",
        "roh=5 --schedule karras": "nearest known: rho",
        "rho=x --schedule karras": "must be a number from 0.1 to 100",
        "sigma_max=20 --schedule karras": "knows at most 14.6146",
        "terminal=0.1": "no flow",
        "first=2": "give an image",
        "spare=1 --schedule 14,2,0": "option of schedule list",
    },
    "--option": {
        "eta": "NAME=VALUE",
        "eat=1": "nearest known: eta",
        "eta=x": "is a number",
        "rule=x --sampler dpmpp_2m": "unknown rule",
    },
    "--guidance": {
        "nan": "finite number",
        "inf": "finite number",
        "x": "a number, or one for each step with commas",
        "4,3,2": "3 scales of guidance for 2 steps",
    },
    "--guidance-interval": {
        "3": "2 numbers with a comma between them",
        "5,1": "a lower noise, 0 or more, to a higher, not 5 to 1",
        "100,200": "meets no level; they lie from",
        "0,1 --guidance 1": "does nothing at guidance 1",
    },
    "--guidance-rule": {
        "pagg": "nearest known: pag",
        "pag:2": "NAME:OPTION=VALUE",
        "pag:scael=2": "nearest known: scale",
        "pag:scale=x": "must lie between -100 and 100",
        "pag:scale=0": "does nothing",
        "pag:layers=up_blocks.7": "nearest known: up_blocks.1",
        "pag --guidance-rule pag": "given twice",
        "apg --guidance-rule cfg-zero": "both stand in place of",
        "apg --guidance 1": "does nothing at guidance 1",
        "cfg-zero:steps=4": "below the 2 steps",
        "autoguidance": "give one",
        "seg:blur=0": "must lie between 0.2 and inf",
    },
    "--weak-model": {"figurines": "--guidance-rule autoguidance only"},
    "--rescale": {"2": "between 0 and 1"},
    "--noise": {
        "comfy": "the nearest known: comfyui",
        "path --sampler euler": "does nothing: euler draws no noise",
        "diffusers --sampler euler --option s_churn=1": "is not known",
    },
    "--ensd": {"x": "invalid int value", "3": "belongs to noise 'a1111'", "3 --noise a1111": "draws no noise"},
    "--variation": {
        "7": "SEED:STRENGTH",
        "7:x": "SEED:STRENGTH",
        "7:2": "between 0 and 1",
        "7:0.5 --noise comfyui": "knows no variations",
        "18446744073709551616:0.5": "64 bits",
    },
    "--clip-skip": {"0": "1 and up", "4": "text encoder allows 2"},
    "--image": {"none.png": "no such file", ".": "cannot be read"},
    "--strength": {"0.5": "need an --image"},
    "--mask": {"mask.png": "need an --image"},
    "--prompt-file": {"none.txt": "give one prompt"},
    "--output": {"x.gif": "written as PNG", "none/x.png": "cannot be written to", "- -n 2": "takes one picture, not 2"},
    "--json": {"-o -": "both want standard output"},
    "--every-step": {"film.mp4": "a folder or a file that ends in .gif", "none/x.gif": "cannot be written to"},
    "--device": {"gpu": "unknown device", "cuda:99": "no device 'cuda:99'"},
    "--dtype": {"float23": "the nearest known: float32"},
    "--threads": {"0": "from 1 to 1024"},
    "--width": {"0": "1 to 64", "65": "between 0 and 64"},
    "--stepz": {"3": "the nearest known: --steps"},
}
FILES = {"none.png", ".", "none/x.png", "none/x.gif"}  # what is wrong with these is a file, exit code 1
TOLD_BY_ITS_OWN_TEST = {
    *("--prompt-file", "--model", "--weak-model", "--count", "--image", "--strength", "--mask"),
    *("--output", "--force", "--json", "--from", "--quality", "--variant", "--tokenizer", "--allow-pickle"),
    *("--emphasis", "--every-step", "--device", "--threads", "--width", "--ensd", "--debug", "--help"),
    *("--download", *PASSES, *LATER, *ADAPTERS),
}


def test_every_flag_is_tested() -> None:
    lines = [line for line in FILE.read_text("utf-8").splitlines() if line.startswith("generate -")]
    flags = {word for line in lines for word in line.split() if word.startswith("--")}
    assert flags == set(CHANGES) | TOLD_BY_ITS_OWN_TEST


@pytest.mark.parametrize("flag", CHANGES)
def test_a_flag_changes_the_picture(flag: str, shell: Shell) -> None:
    plain = shell.drawn("-o", "plain.png")
    before = shell.pixels
    changed = shell.drawn(*(["--steps", "2"] if "steps" not in flag else []), flag, *CHANGES[flag], "-o", "changed.png")
    assert shell.pixels != before
    assert changed != plain


@pytest.mark.parametrize(("flag", "value"), [(flag, value) for flag, values in WRONG.items() for value in values])
def test_a_value_that_cannot_be_is_one_line_and_leaves_nothing(flag: str, value: str, shell: Shell) -> None:
    said = shell.generate(flag, *value.split(), *(["--steps", "2"] if flag == "--stepz" else []))
    assert WRONG[flag][value] in wrong(said, 1 if value in FILES else 2)
    assert shell.names() == []


def test_the_model_is_what_draws(shell: Shell) -> None:
    shell.drawn("-o", "a.png")
    before = shell.pixels
    recipe = shell.drawn("-o", "b.png", model=tiny("sd2"))
    assert shell.pixels != before and recipe.model["name"] == "sd2"


def test_the_prompt_is_what_is_drawn_and_may_be_empty(shell: Shell) -> None:
    seen = set()
    for place, prompt in enumerate((PROMPT, "a red hat", "")):
        recipe = shell.drawn("-o", f"{place}.png", prompt=prompt)
        assert recipe.prompt == prompt
        seen.add(shell.pixels)
    assert len(seen) == 3
    assert "give one prompt" in wrong(shell.generate(prompt=None))


def test_a_file_holds_one_prompt_a_line(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "a red hat\n\n  a crown \n"
    (shell.folder / "prompts.txt").write_text(text)
    assert shell.generate("--prompt-file", "prompts.txt", "-o", "x.png", "-n", "2", prompt=None).code == 0
    recipes = [recipe_in(open_picture(f"x-{place}.png")) for place in (1, 2, 3, 4)]
    assert [(r.prompt, r.seed) for r in recipes] == [("a red hat", 5), ("a red hat", 6), ("a crown", 5), ("a crown", 6)]
    monkeypatch.setattr(sys, "stdin", TextIOWrapper(BytesIO(b"a red hat\n")))
    shell.drawn("--prompt-file", "-", "-o", "y.png", prompt=None)
    assert shell.pixels == open_picture("x-1.png").tobytes()
    (shell.folder / "empty.txt").write_text("\n \n")
    (shell.folder / "bytes.txt").write_bytes(b"\xff\xfe\x00")
    told = {"empty.txt": "holds no prompts", "bytes.txt": "not text in UTF-8", "no.txt": "cannot be read"}
    for name, words in told.items():
        assert words in wrong(shell.generate("--prompt-file", name, prompt=None), 1)


def test_several_pictures_are_numbered_and_each_has_its_seed(shell: Shell) -> None:
    said = shell.generate("-n", "3", "-o", "x.png")
    assert shell.names() == ["x-1.png", "x-2.png", "x-3.png"]
    assert "seeds 5 to 7" in said.out
    assert [recipe_in(open_picture(name)).seed for name in shell.names()] == [5, 6, 7]
    shell.drawn("--seed", "6", "-o", "alone.png")
    assert shell.pixels == open_picture("x-2.png").tobytes()


@pytest.mark.parametrize("random", ["-1", "random", None])
def test_a_seed_that_is_not_given_is_drawn_and_printed(random: str | None, shell: Shell) -> None:
    seeds = set()
    for _ in range(2):
        given = ["--seed", random] if random else []
        said = shell.run("generate", PROMPT, "-m", str(tiny()), "--threads", "1", *given)
        seeds |= set(re.findall(r"seed (\d+)", said.out))
    assert len(seeds) == 2
    assert shell.names() == sorted(f"safelight-{seed}.png" for seed in seeds)


def test_an_image_is_where_it_begins_and_strength_is_how_much_is_forgotten(shell: Shell) -> None:
    picture().save("start.png")
    seen = set()
    for steps, strength in ((6, "0.5"), (6, "1"), (3, "1")):
        over = ["--image", "start.png", "--strength", strength, "--steps", str(steps)]
        said = shell.generate(*over, "-o", "x.png", "--force")
        run = int(steps * float(strength))
        assert (f"{run} of {steps} steps" if run != steps else f"{steps} steps") in said.out
        seen.add(open_picture("x.png").tobytes())
    assert len(seen) == 3
    assert "raise the strength" in wrong(shell.generate("--image", "start.png", "--strength", "0"))


def test_white_of_a_mask_is_repainted(shell: Shell) -> None:
    picture().save("start.png")
    mask().save("mask.png")
    shell.drawn("--image", "start.png", "--mask", "mask.png", "-o", "x.png")
    drawn, start = open_picture("x.png"), picture()
    assert drawn.crop((16, 0, 32, 32)).tobytes() == start.crop((16, 0, 32, 32)).tobytes()
    assert drawn.crop((0, 0, 16, 32)).tobytes() != start.crop((0, 0, 16, 32)).tobytes()
    picture(16).convert("L").save("small.png")
    assert "make them of one size" in wrong(shell.generate("--image", "start.png", "--mask", "small.png"))
    Image.new("L", (32, 32)).save("black.png")
    assert "no white" in wrong(shell.generate("--image", "start.png", "--mask", "black.png"), 1)


def test_a_size_fits_the_image_to_it(shell: Shell) -> None:
    picture(50).save("start.png")
    assert shell.drawn("--image", "start.png", "-o", "own.png").size == (48, 48)
    assert shell.drawn("--image", "start.png", "--size", "32x24", "-o", "given.png").size == (32, 24)


def test_output_is_a_file_a_folder_or_a_name_of_our_own(shell: Shell) -> None:
    shell.drawn("-o", "x")
    assert shell.names() == ["x.png"]
    (shell.folder / "many").mkdir()
    shell.generate("-o", "many")
    shell.generate("-o", "many/", "-n", "2")
    shell.generate()
    shell.generate()
    assert shell.names() == [
        "many",
        *("many/safelight-5-1.png", "many/safelight-5-2.png", "many/safelight-5.png"),
        *("safelight-5-v2.png", "safelight-5.png", "x.png"),
    ]


def test_nothing_is_overwritten_without_force(shell: Shell) -> None:
    (shell.folder / "x-2.png").write_text("precious")
    assert "x-2.png: exists; --force replaces it" in wrong(shell.generate("-n", "2", "-o", "x.png"), 1)
    assert shell.names() == ["x-2.png"], "it is found before anything is drawn"
    assert shell.generate("-n", "2", "-o", "x.png", "--force").code == 0
    assert recipe_in(open_picture("x-2.png")).seed == 6
    (shell.folder / "y.png").mkdir()
    assert shell.generate("-o", "y.png", "--force").code == 0
    assert (shell.folder / "y.png" / "safelight-5.png").is_file(), "a folder is a folder whatever it is called"


def test_a_file_that_appears_while_drawing_is_left_alone(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = pipes.Pipe.watch

    def slow(self: pipes.Pipe, requests: list[pipes.Request]) -> object:
        Path("x.png").write_text("precious")
        return ours(self, requests)

    monkeypatch.setattr(pipes.Pipe, "watch", slow)
    said = shell.generate("-o", "x.png")
    assert said.code == 1 and "x.png: exists; it was not overwritten" in said.err
    assert shell.names() == ["x.png"] and Path("x.png").read_text() == "precious"


def test_a_dash_writes_the_picture_to_standard_output_and_the_rest_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    from safelight.cli.main import main

    monkeypatch.chdir(tmp_path)
    assert main(["generate", PROMPT, "-m", str(tiny()), "--threads", "1", "--seed", "5", "-o", "-"]) == 0
    out, err = capsysbinary.readouterr()
    assert recipe_in(open_picture(BytesIO(out))).seed == 5
    assert b"seed 5" in err and b"denoise" in err
    assert list(tmp_path.iterdir()) == []


def test_json_is_a_line_for_each_picture_and_nothing_else(shell: Shell) -> None:
    said = shell.generate("--json", "-n", "2", "-o", "x.png")
    first, second = (json.loads(line) for line in said.out.splitlines())
    assert (first["file"], first["seed"], second["seed"]) == ("x-1.png", 5, 6)
    assert (first["steps_run"], first["evaluations"], first["cut"]) == (2, 2, [])
    assert set(first["seconds"]) == {"load", "encode", "denoise", "decode"}
    assert first["recipe"] == json.loads(recipe_in(open_picture("x-1.png")).json())
    assert said.err == ""


def test_every_step_is_kept_in_a_folder_or_as_a_film(shell: Shell) -> None:
    shell.generate("--every-step", "steps/of/it", "-o", "x.png", "--steps", "3")
    names = [f"steps/of/it/x-step-{step}.png" for step in (1, 2, 3)]
    assert [name for name in shell.names() if "step-" in name] == names
    assert open_picture(names[2]).tobytes() == open_picture("x.png").tobytes() != open_picture(names[0]).tobytes()
    assert "exists" in wrong(shell.generate("--every-step", "steps/of/it", "-o", "x.png", "--steps", "3"), 1)
    shell.generate("--every-step", "film.gif", "-o", "y.png", "-n", "2", "--steps", "3")
    for film in ("film-1.gif", "film-2.gif"):
        with Image.open(film) as read:
            assert getattr(read, "n_frames", 1) == 3 and read.size == (32, 32)
    assert "film-1.gif (and 1 more): exists" in wrong(shell.generate("--every-step", "film.gif", "-n", "2"), 1)


def places(monkeypatch: pytest.MonkeyPatch) -> list[device.Place]:
    """Where drawing was told to happen, without the process's threads being moved."""
    seen: list[device.Place] = []
    monkeypatch.setattr(device, "adopt", seen.append)
    monkeypatch.setattr(pipes, "adopt", seen.append)
    return seen


def test_the_device_and_the_threads_are_those_asked_for(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = places(monkeypatch)
    recipe = shell.drawn("--threads", "3", "--device", "cpu", "-o", "x.png")
    assert (recipe.threads, recipe.device) == (3, "cpu")
    assert {(place.threads, place.device) for place in seen} == {(3, torch.device("cpu"))}


def test_width_is_the_rows_of_a_call_and_is_recorded(shell: Shell) -> None:
    assert shell.drawn("-o", "x.png").rows == 2
    assert shell.drawn("--width", "6", "-o", "y.png").rows == 6


def test_noise_is_drawn_as_another_program_draws_it(shell: Shell) -> None:
    seen = set()
    kinds = ([], ["--noise", "path"], ["--noise", "comfyui"], ["--noise", "comfyui-gpu"], ["--noise", "a1111"])
    for place, kind in enumerate((*kinds, ["--noise", "a1111", "--ensd", "31337"])):
        recipe = shell.drawn("--sampler", "Euler a", *kind, "-o", f"{place}.png")
        assert recipe.noise == (kind or ["", "fresh"])[1]
        seen.add(shell.pixels)
    assert recipe.ensd == 31337 and "ENSD: 31337" in recipe.parameters()
    assert len(seen) == 6


def test_a_variation_lies_between_two_seeds_and_counts_its_own(shell: Shell) -> None:
    shell.drawn("--seed", "9", "-o", "other.png")
    other = shell.pixels
    shell.drawn("--variation", "9:1", "-o", "x.png")
    assert shell.pixels == other
    assert shell.generate("--variation", "9:0.3", "-n", "2", "-o", "v.png").code == 0
    recipes = [recipe_in(open_picture(name)) for name in ("v-1.png", "v-2.png")]
    assert [(each.seed, each.variation) for each in recipes] == [(5, (9, 0.3)), (5, (10, 0.3))]
    assert "Variation seed: 10, Variation seed strength: 0.3" in recipes[1].parameters()
    seeds = [shell.drawn("--variation", "random:0.3", "-o", f"r{place}.png").variation for place in range(2)]
    assert seeds[0] != seeds[1]


def test_debug_shows_where_an_error_came_from(shell: Shell) -> None:
    from safelight.errors import UnknownNameError

    with pytest.raises(UnknownNameError):
        shell.generate("--sampler", "eular", "--debug")


def test_help_names_every_flag_with_a_line(shell: Shell) -> None:
    said = shell.run("generate", "--help")
    assert said.code == 0
    for flag in {*CHANGES, *TOLD_BY_ITS_OWN_TEST}:
        assert flag in said.out


def test_the_work_is_timed_in_parts(shell: Shell) -> None:
    said: Said = shell.generate("-o", "x.png")
    last = said.out.splitlines()[-1]
    assert re.fullmatch(r"load \d+\.\d\d s  encode \d+\.\d\d s  denoise \d+\.\d\d s  decode \d+\.\d\d s", last)


def test_words_that_the_model_does_not_know_are_one_line_with_three_prompts(shell: Shell) -> None:
    said = shell.generate(prompt="a purple dog rides a red hat")
    (line,) = said.err.splitlines()
    assert "does not know" in line and "'dog', 'rides'" in line
    assert len(re.findall(r'"[^"]+"', line)) == 3
    assert shell.generate().err == ""


def test_what_was_cut_from_a_prompt_is_said_once(shell: Shell) -> None:
    said = shell.generate("-n", "2", prompt="red hat " * 40 + "crown")
    (line,) = said.err.splitlines()
    assert "too long" in line and line.endswith("'hat red hat red hat crown'"), line
