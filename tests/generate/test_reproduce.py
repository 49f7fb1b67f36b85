"""Drawing again: equal bits from the recipe alone, and a true account of what differs where they are not."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from safelight.errors import ImageError, UnknownNameError
from safelight.generate import reproduce, source
from safelight.generate.file import open_picture
from safelight.generate.recipe import Recipe, recipe_in
from safelight.generate.reproduce import compare, differing, load_for, request_of
from safelight.generate.request import Request
from tests.generate.scenes import PROMPT, mask, picture, pipe, requests

FOLDER = str(pipe().folder)


@pytest.mark.parametrize("place", range(len(requests())))
def test_every_kind_of_request_is_drawn_again_from_its_recipe(place: int) -> None:
    asked = requests()[place]
    (drawn,) = pipe().draw(asked)
    recipe = Recipe.from_json(drawn.recipe.json())
    (again,) = load_for(recipe, FOLDER).draw(request_of(recipe, asked.image, asked.mask))
    assert compare(drawn.image, again.image).equal
    assert list(differing(recipe, again.recipe)) == []


def test_images_are_given_and_known_by_their_pixels(tmp_path: Path) -> None:
    file = tmp_path / "start.png"
    picture().save(file)
    (drawn,) = pipe().draw(Request(PROMPT, image=open_picture(file), strength=0.5))
    with pytest.raises(ImageError, match=r"image given holds other pixels than start\.png"):
        request_of(drawn.recipe, picture(seed=1))
    with pytest.raises(ImageError, match=r"drawn with the image start\.png; give it with --image"):
        request_of(drawn.recipe)
    assert request_of(drawn.recipe, picture()).image is not None
    with pytest.raises(ImageError, match="drawn without --mask"):
        request_of(drawn.recipe, picture(), mask())


def test_a_model_that_is_not_here_is_asked_for() -> None:
    recipe = replace(pipe().recipe(pipe().settle(PROMPT)), model={"name": "no/where", "files": {}})
    with pytest.raises(UnknownNameError, match=r"no/where.*--model"):
        load_for(recipe)
    assert load_for(recipe, str(pipe().folder)).folder == pipe().folder


def test_a_recipe_names_no_folder_of_this_machine(tmp_path: Path) -> None:
    picture().save(tmp_path / "start.png")
    request = Request(PROMPT, image=open_picture(tmp_path / "start.png"), strength=0.5)
    text = pipe().recipe(pipe().settle(request)).json()
    assert str(tmp_path) not in text and str(pipe().folder.parent) not in text
    assert '"file": "start.png"' in text and '"name": "sd1"' in text


def test_what_a_strangers_file_names_is_never_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture().save(tmp_path / "start.png")
    told = pipe().recipe(pipe().settle(Request(PROMPT, image=picture(), strength=0.5)))
    image = {"file": str(tmp_path / "start.png"), "sha256": (told.image or {})["sha256"]}
    with pytest.raises(ImageError, match="give it with --image"):
        request_of(replace(told, image=image))
    with pytest.raises(UnknownNameError, match="--model"):
        load_for(replace(told, model={"name": FOLDER, "files": {}}))
    monkeypatch.setattr(source, "shipped", lambda: {"sd1": pipe().folder})
    monkeypatch.setattr(reproduce, "shipped", source.shipped)
    assert load_for(told).folder == pipe().folder


def test_the_recorded_numbers_of_the_machine_are_used() -> None:
    recipe = replace(pipe().recipe(pipe().settle(PROMPT)), dtype="bfloat16", threads=2)
    place = load_for(recipe, FOLDER).place
    assert (str(place.dtype), place.threads) == ("torch.bfloat16", 2)


CAUSES: list[tuple[dict[str, Any], str]] = [
    ({"numerics": 0}, "the version of the numbers was 0, now 1"),
    ({"torch": "1.0"}, "torch was 1.0, now "),
    ({"machine": "VAX"}, "the machine was VAX, now "),
    ({"rows": 4}, "rows was 4, now 2"),
    ({"levels": [[0.5, 0.5, 3.0]]}, "levels differs"),
    ({"model": {"name": "x", "files": {"unet/old": "aa"}}}, "the model has no unet/old any more"),
]


@pytest.mark.parametrize(("change", "words"), CAUSES)
def test_each_cause_is_named(change: dict[str, Any], words: str) -> None:
    now = pipe().recipe(pipe().settle(PROMPT))
    assert any(words in cause for cause in differing(replace(now, **change), now))


def test_another_byte_of_the_model_is_named_by_its_file() -> None:
    now = pipe().recipe(pipe().settle(PROMPT))
    files = {**now.model["files"], "vae/config.json": "f" * 64}
    (cause,) = differing(replace(now, model={**now.model, "files": files}), now)
    assert cause.startswith("the model's vae/config.json has other bytes (ffffffffff then, ")


def test_a_difference_is_measured() -> None:
    before = picture()
    bytes_ = np.array(before)
    bytes_[0, 0, 0] ^= 2
    found = compare(before, Image.fromarray(bytes_))
    assert (found.equal, found.largest, found.pixels) == (False, 2, 1 / 32**2)
    assert found.psnr == pytest.approx(10 * math.log10(255**2 / (4 / (3 * 32**2))))
    assert compare(before, before).psnr == math.inf
    with pytest.raises(ImageError, match="cannot be compared"):
        compare(before, picture(16))


def test_recipes_survive_the_file(tmp_path: Path) -> None:
    (drawn,) = pipe().draw(PROMPT)
    drawn.image.save(tmp_path / "a.png", pnginfo=drawn.metadata())
    assert recipe_in(open_picture(tmp_path / "a.png")) == drawn.recipe
