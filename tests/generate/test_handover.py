"""A model that takes over from itself draws what it draws alone, to the last bit: nothing is lost on the way."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from safelight.errors import ImageError, RequestError, UnknownNameError
from safelight.generate.hires import Hires
from safelight.generate.pipe import load
from safelight.generate.recipe import Recipe
from safelight.generate.reproduce import compare, differing, load_for, request_of
from safelight.generate.request import Request
from tests.generate.scenes import PROMPT, mask, picture, pipe
from tests.models import tiny

SDXL = replace(pipe("sdxl"), refiner=pipe("sdxl"))
REFINED = replace(pipe("sdxl"), refiner=pipe("refiner"))
FIRST = Request(PROMPT, negative="a red hat", seed=3, steps=6, guidance=4.0, sampler="ddim")


@pytest.mark.parametrize(
    "asked",
    [
        FIRST,
        replace(FIRST, sampler="euler_ancestral", guidance=1.0, negative=""),
        replace(FIRST, sampler="euler_ancestral", noise="path"),
        replace(FIRST, guidance=(1.0, 2.0, 3.0, 4.0, 5.0, 6.0)),
        replace(FIRST, interval=(0.5, 3.0), rescale=0.5),
        replace(FIRST, image=picture(), strength=0.95),
        replace(FIRST, facts={"crop": (3, 4), "negative-target": (8, 8)}),
        replace(FIRST, prompt="a [red:green:0.5] hat", emphasis="a1111"),
        replace(FIRST, prompt="a [red|green] hat", emphasis="a1111", image=picture(), strength=0.95),
    ],
    ids=["ddim", "alone", "path", "scales", "interval", "image", "facts", "texts", "texts over an image"],
)
@pytest.mark.parametrize("handover", [0.4, 0.7])
def test_a_model_takes_over_from_itself(asked: Request, handover: float) -> None:
    (whole,) = SDXL.draw(asked)
    seen = list(SDXL(replace(asked, handover=handover)))
    assert seen[-1].drawn is not None
    assert torch.equal(seen[-1].drawn.latents, whole.latents)
    assert [shown.index for shown in seen] == list(range(1, (seen[-1].total or 0) + 1))


def test_another_model_draws_something_else_and_is_drawn_again() -> None:
    asked = replace(FIRST, handover=0.5)
    (drawn,) = REFINED.draw(asked)
    (alone,) = SDXL.draw(FIRST)
    assert not torch.equal(drawn.latents, alone.latents)
    recipe = Recipe.from_json(drawn.recipe.json())
    told = recipe.refiner or {}
    assert (told["name"], told["handover"], told["run"]) == ("refiner", 0.5, 4)
    folder = str(tiny("refiner"))
    (again,) = load_for(recipe, str(tiny("sdxl")), refiner=folder).draw(request_of(recipe))
    assert compare(drawn.image, again.image).equal
    assert list(differing(recipe, again.recipe)) == []
    with pytest.raises(UnknownNameError, match="--refiner"):
        load_for(recipe, str(tiny("sdxl")))
    changed = replace(recipe, refiner={**told, "files": {}, "handover": 0.25})
    assert any("refiner" in words for words in differing(changed, again.recipe))
    assert "the refiner took over elsewhere" in list(differing(changed, again.recipe))


def test_strangers_change_no_bit() -> None:
    asked = [replace(FIRST, seed=seed, handover=at) for seed, at in ((3, 0.5), (4, None), (5, 0.3))]
    together = REFINED.draw_many(asked)
    for each, drawn in zip(asked, together):
        assert torch.equal(drawn.latents, REFINED.draw(each)[0].latents)


def test_what_cannot_be_is_refused() -> None:
    for drawing, change, words in (
        (pipe("sdxl"), {}, "give a refiner"),
        (replace(pipe("sd1"), refiner=pipe("sdxl")), {"skip": 2}, "1 layers can be skipped, not 2"),
        (REFINED, {"handover": 0.9995}, "the refiner has no step"),
        (REFINED, {"handover": 0.01}, "the model itself has no step"),
        (REFINED, {"image": picture(), "mask": mask()}, "cannot both be"),
        (REFINED, {"hires": Hires(2)}, "cannot both be"),
        (REFINED, {"noise": "comfyui", "sampler": "euler_ancestral"}, "not known for two models"),
        (REFINED, {"facts": {"sco": 3}}, "nearest known: score"),
    ):
        with pytest.raises(RequestError, match=words):
            drawing.settle(replace(FIRST, **{"handover": 0.5, **change}))
    for handover in (0.0, 1.0):
        with pytest.raises(RequestError, match="both left out"):
            Request(handover=handover)
    other = replace(pipe("sdxl"), refiner=pipe("sd1"))
    path = replace(pipe("sd1").model, path=replace(pipe("sd1").model.path, name="other"))
    with pytest.raises(RequestError, match="other noise path"):
        replace(other, refiner=replace(pipe("sd1"), model=path)).settle(replace(FIRST, handover=0.5))


@pytest.mark.parametrize("change", [{"handover": "x"}, {"handover": 2.0}, {"run": 1.5}, {"files": 3}])
def test_a_damaged_recipe_is_told(change: dict[str, object]) -> None:
    told = REFINED.recipe(REFINED.settle(replace(FIRST, handover=0.5)))
    with pytest.raises(ImageError, match="damaged"):
        request_of(Recipe.from_json(replace(told, refiner={**(told.refiner or {}), **change}).json()))


def test_an_empty_negative_prompt_of_xl_is_zeros_unless_the_folder_says_not(tmp_path: Path) -> None:
    drawn = {}
    for said in (True, None, False):
        folder = tmp_path / str(said)
        shutil.copytree(tiny("sdxl"), folder)
        index = json.loads((folder / "model_index.json").read_text("utf-8"))
        index["force_zeros_for_empty_prompt"] = said
        index = {key: value for key, value in index.items() if value is not None}
        (folder / "model_index.json").write_text(json.dumps(index))
        (drawn[said],) = load(str(folder), device="cpu", threads=1).draw(Request(PROMPT, steps=2, seed=3))
    assert torch.equal(drawn[True].latents, drawn[None].latents)
    assert not torch.equal(drawn[True].latents, drawn[False].latents)
