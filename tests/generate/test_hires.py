"""A second pass at a larger size is image to image over the first, to the last bit."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from safelight.core.sample import sample
from safelight.errors import ImageError, RequestError, UnknownNameError
from safelight.generate import image as task
from safelight.generate.hires import Hires
from safelight.generate.recipe import Recipe
from safelight.generate.reproduce import compare, differing, load_for, request_of
from safelight.generate.request import Request
from tests.generate.scenes import PROMPT, mask, picture, pipe

FIRST = Request(PROMPT, seed=3, steps=3, sampler="euler_ancestral")
LATENTS = ("nearest-exact", "bilinear", "bicubic")


@pytest.mark.parametrize("asked", [FIRST, replace(FIRST, image=picture(), strength=0.7)], ids=["text", "image"])
def test_the_picture_is_that_of_image_to_image_over_the_first_enlarged(asked: Request) -> None:
    (drawn,) = pipe().draw(replace(asked, hires=Hires(1.5, strength=0.6, steps=5)))
    (first,) = pipe().draw(asked)
    larger = first.image.resize((48, 48), Image.Resampling.LANCZOS)
    (second,) = pipe().draw(replace(asked, image=larger, strength=0.6, steps=5, size=(48, 48)))
    assert drawn.image.size == (48, 48)
    assert torch.equal(drawn.latents, second.latents)
    assert compare(drawn.image, second.image).equal


HOLE = {"image": picture(), "mask": mask()}


def by_hand(first: Image.Image) -> Image.Image:
    """The first pass enlarged, and the kept part of the image, enlarged itself, put back into it."""
    large = (48, 48)
    over, kept = (each.resize(large, Image.Resampling.LANCZOS) for each in (first, picture()))
    return Image.composite(over, kept, mask().resize(large, Image.Resampling.NEAREST))


@pytest.mark.parametrize("kind", ["sd1", "inpaint"])
@pytest.mark.parametrize("strength", [0.6, 1.0])
def test_a_hole_is_repainted_twice_and_around_it_is_the_image_enlarged(kind: str, strength: float) -> None:
    asked = replace(FIRST, **HOLE)  # type: ignore[arg-type]
    (drawn,) = pipe(kind).draw(replace(asked, hires=Hires(1.5, strength, steps=5)))
    (first,) = pipe(kind).draw(asked)
    large = mask().resize((48, 48), Image.Resampling.NEAREST)
    over = by_hand(first.image)
    (second,) = pipe(kind).draw(replace(asked, image=over, mask=large, strength=strength, steps=5, size=(48, 48)))
    assert torch.equal(drawn.latents, second.latents)
    assert compare(drawn.image, second.image).equal
    kept, whole = Image.new("RGB", (48, 48)), picture().resize((48, 48), Image.Resampling.LANCZOS)
    away = [Image.composite(kept, each, large).tobytes() for each in (drawn.image, whole)]
    assert away[0] == away[1]
    assert drawn.image.tobytes() != whole.tobytes()


@pytest.mark.parametrize("kind", ["sd1", "inpaint"])
@pytest.mark.parametrize("upscaler", LATENTS)
def test_around_a_hole_in_enlarged_latents_is_the_image_enlarged(kind: str, upscaler: str) -> None:
    asked = replace(FIRST, **HOLE)  # type: ignore[arg-type]
    (drawn,) = pipe(kind).draw(replace(asked, hires=Hires(2, strength=0.7, upscaler=upscaler)))
    (first,) = pipe(kind).draw(asked)
    model, settled = pipe(kind).model, pipe(kind).settle(replace(asked, strength=0.7, size=(64, 64)))
    scene = task.read(model, settled)
    assert scene.known is not None
    larger = F.interpolate(first.latents, size=(16, 16), mode=upscaler)
    larger[..., 8:] = scene.known[..., 8:]  # the left half is repainted
    *_, last = sample(task.evaluator(model), task.job(model, settled, replace(scene, known=larger)))
    assert torch.equal(drawn.latents, last.x)
    whole = picture().resize((64, 64), Image.Resampling.LANCZOS)
    assert drawn.image.crop((32, 0, 64, 64)).tobytes() == whole.crop((32, 0, 64, 64)).tobytes()


def test_a_repainted_hole_is_drawn_again_from_its_recipe() -> None:
    asked = replace(FIRST, **HOLE, hires=Hires(1.5, 0.6))  # type: ignore[arg-type]
    (drawn,) = pipe().draw(asked)
    recipe = Recipe.from_json(drawn.recipe.json())
    again = request_of(recipe, picture(), mask())
    assert compare(drawn.image, pipe().draw(again)[0].image).equal
    assert pipe().draw(replace(asked, hires=None))[0].image.size == (32, 32)


@pytest.mark.parametrize("upscaler", LATENTS)
def test_enlarged_latents_are_where_the_second_pass_begins(upscaler: str) -> None:
    (drawn,) = pipe().draw(replace(FIRST, hires=Hires(2, strength=0.7, upscaler=upscaler)))
    (first,) = pipe().draw(FIRST)
    settled = pipe().settle(replace(FIRST, image=picture(), strength=0.7, size=(64, 64)))
    scene = task.read(pipe().model, settled)
    larger = F.interpolate(first.latents, size=(16, 16), mode=upscaler)
    *_, last = sample(task.evaluator(pipe().model), task.job(pipe().model, settled, replace(scene, known=larger)))
    assert torch.equal(drawn.latents, last.x)


def test_every_upscaler_and_strength_gives_another_picture() -> None:
    ways = [Hires(2, 0.7, upscaler=name) for name in ("lanczos", *LATENTS)] + [Hires(2, 1.0), Hires(2, 0.7, steps=6)]
    pictures = [pipe().draw(replace(FIRST, hires=way))[0].image.tobytes() for way in ways]
    assert len(set(pictures)) == len(ways)


def test_company_changes_no_bit() -> None:
    asked = [replace(FIRST, seed=seed, hires=hires) for seed, hires in ((3, Hires(1.5)), (4, None), (5, Hires(2)))]
    together = [shown.drawn for shown in pipe().watch(asked, 3) if shown.drawn]
    alone = {each.seed: pipe().draw(each)[0].latents for each in asked}
    assert len(together) == 3
    assert all(torch.equal(each.latents, alone[each.recipe.seed]) for each in together)


def test_evaluations_are_counted_through_both_passes() -> None:
    seen = list(pipe()(replace(FIRST, hires=Hires(2, strength=0.7))))
    assert [shown.index for shown in seen] == [1, 2, 3, 4, 5]
    assert {shown.total for shown in seen} == {5}
    assert [shown.drawn is not None for shown in seen] == [False] * 4 + [True]
    assert [tuple(shown.latents.shape[-2:]) for shown in seen] == [(8, 8)] * 3 + [(16, 16)] * 2


@pytest.mark.parametrize("sampler", ["euler_ancestral", "dpmpp_2m_sde", "euler"])
def test_it_is_drawn_again_from_its_recipe(sampler: str) -> None:
    (drawn,) = pipe().draw(Request(PROMPT, seed=3, steps=3, sampler=sampler, hires=Hires(1.5, 0.5, 4, "bicubic")))
    recipe = Recipe.from_json(drawn.recipe.json())
    (again,) = load_for(recipe, str(pipe().folder)).draw(request_of(recipe))
    assert compare(drawn.image, again.image).equal
    assert list(differing(recipe, again.recipe)) == []
    assert recipe.size == (32, 32)
    told = {"scale": 1.5, "strength": 0.5, "upscaler": "bicubic", "steps": 4, "run": 2, "size": [48, 48]}
    assert recipe.hires == told


def test_the_text_for_other_programs_names_it() -> None:
    hires = Hires(1.5, 0.5, 4, "nearest-exact")
    told = pipe().recipe(pipe().settle(replace(FIRST, hires=hires))).parameters()
    assert "Denoising strength: 0.5" in told
    assert "Hires upscale: 1.5, Hires steps: 2, Hires upscaler: Latent (nearest-exact)" in told
    assert "Hires" not in pipe().recipe(pipe().settle(FIRST)).parameters()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"noise": "comfyui", "sampler": "euler"}, "leave it or hires out"),
        ({"hires": Hires(1.01)}, "enlarge by more"),
        ({"hires": Hires(2, 0.1)}, "the second pass, of hires"),
    ],
)
def test_what_cannot_be_is_refused_before_the_first_step(change: dict[str, object], words: str) -> None:
    with pytest.raises(RequestError, match=words):
        pipe().settle(replace(FIRST, **{"hires": Hires(2), **change}))  # type: ignore[arg-type]


def test_numbers_out_of_range_are_refused() -> None:
    for wrong in ({"scale": 1.0}, {"scale": 9.0}, {"scale": 2, "strength": 0.0}, {"scale": 2, "strength": 1.1}):
        with pytest.raises(RequestError):
            Hires(**wrong)
    with pytest.raises(UnknownNameError, match="lanczos"):
        Hires(2, upscaler="lanzcos")
    with pytest.raises(RequestError, match="steps of hires"):
        Request(hires=Hires(2, steps=0))


@pytest.mark.parametrize("change", [{"scale": 0.5}, {"upscaler": "esrgan"}, {"run": "x"}, {"size": [1]}, {"more": 1}])
def test_a_damaged_recipe_is_told(change: dict[str, object]) -> None:
    told = pipe().recipe(pipe().settle(replace(FIRST, hires=Hires(2))))
    with pytest.raises(ImageError, match="damaged"):
        request_of(Recipe.from_json(replace(told, hires={**(told.hires or {}), **change}).json()))
