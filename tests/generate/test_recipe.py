"""Recipes: strict JSON there and back, and the text that other programs read."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from safelight.errors import ImageError
from safelight.generate.metadata.carrier import RECIPE
from safelight.generate.recipe import Recipe, recipe_in
from safelight.generate.request import Request
from tests.architecture.source import ROOT
from tests.generate.scenes import PROMPT, mask, picture, pipe

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)


def recipe(**change: Any) -> Recipe:
    return pipe().recipe(pipe().settle(Request(PROMPT, **change)))


def strict(text: str) -> Any:
    """JSON as the standard has it, which knows no infinity."""

    def refuse(name: str) -> None:
        raise AssertionError(name)

    return json.loads(text, parse_constant=refuse)


@settings(max_examples=30, deadline=None)
@given(TEXTS, TEXTS)
def test_a_recipe_is_strict_json_there_and_back(prompt: str, negative: str) -> None:
    told = replace(recipe(sampler="euler"), prompt=prompt, negative=negative)
    assert strict(told.json())["prompt"] == prompt
    again = Recipe.from_json(told.json())
    assert replace(again, options={}) == replace(told, options={})
    assert again.options == {**told.options, "s_tmax": "inf"}


def test_a_recipe_over_a_picture_says_what_it_was_by_its_pixels() -> None:
    told = recipe(image=picture(), mask=mask(), strength=0.5)
    assert told.image and told.mask and len(told.image["sha256"]) == 64
    assert told.image != told.mask
    assert (told.strength, told.task) == (0.5, "inpaint")


def test_a_recipe_lists_every_level_that_is_visited() -> None:
    assert len(recipe(steps=7).levels) == 8
    assert len(recipe(steps=8, image=picture(), strength=0.5).levels) == 5


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "damaged"),
        ("[]", "damaged"),
        ('{"size": [1, 2]}', "damaged"),
        ('{"tomorrow": 1}', "does not know: tomorrow"),
        ("[" * 100_000, "damaged"),
    ],
)
def test_a_damaged_recipe_is_an_error_of_the_picture(text: str, words: str) -> None:
    with pytest.raises(ImageError, match=words):
        Recipe.from_json(text)


def test_a_recipe_of_wrong_types_is_damaged() -> None:
    raw = json.loads(recipe().json())
    for name, value in (
        ("steps", "many"),
        ("levels", 3),
        ("model", []),
        ("size", [1]),
        ("prompt", None),
        ("seed", 1.5),
        ("interval", 5),
        ("guidance", 10**400),
        ("rules", [{"name": [], "options": {}}]),
        ("hires", {"scale": 2, "strength": 0.5, "upscaler": [], "steps": 2, "run": 1, "size": [1, 1]}),
    ):
        with pytest.raises(ImageError, match="damaged"):
            Recipe.from_json(json.dumps({**raw, name: value}))


def test_a_picture_without_a_recipe_says_so() -> None:
    with pytest.raises(ImageError, match="no recipe of safelight's"):
        recipe_in(Image.new("RGB", (2, 2)))


def test_the_parameters_text_holds_what_other_programs_look_for() -> None:
    told = recipe(steps=7, sampler="DPM++ 2M Karras", guidance=4.5, seed=9, skip=1, image=picture(), strength=0.5)
    last = told.parameters().splitlines()[-1]
    for part in (
        "Steps: 7",
        "Sampler: DPM++ 2M,",
        "Schedule type: Karras,",
        "CFG scale: 4.5",
        "Seed: 9",
        "Size: 32x32",
        "Denoising strength: 0.5",
        "Clip skip: 2",
        "Version: safelight ",
    ):
        assert part in last


def test_the_parameters_text_names_the_models_own_levels_in_words_that_are_known() -> None:
    last = recipe(sampler="euler_ancestral").parameters().splitlines()[-1]
    assert "Sampler: Euler a, Schedule type: Automatic, " in last


@pytest.mark.parametrize(
    ("name", "file"), [("v1-5", "v1-5.safetensors"), ("folder", "unet/diffusion_pytorch_model.safetensors")]
)
def test_other_programs_know_a_model_by_ten_digits_of_its_hash(name: str, file: str) -> None:
    files = {"tokenizer/vocab.json": "0" * 64, file: "0123456789abcdef" * 4, "vae/x.safetensors": "1" * 64}
    last = replace(recipe(), model={"name": name, "files": files}).parameters().splitlines()[-1]
    assert f"Model hash: 0123456789, Model: {name}, " in last


def test_reading_a_recipe_loads_no_torch() -> None:
    code = "import sys, safelight.generate.file, safelight.generate.recipe; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_the_recipe_has_a_place_of_its_own_in_the_file() -> None:
    assert RECIPE == "safelight"
