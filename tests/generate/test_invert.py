"""A picture is carried up to its own noise, and drawn again from there."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from safelight.core.prediction import denoised
from safelight.errors import ImageError, PromptError, RequestError
from safelight.generate import image as task
from safelight.generate.hires import Hires
from safelight.generate.passes import carried
from safelight.generate.recipe import Recipe
from safelight.generate.reproduce import compare, differing, load_for, request_of
from safelight.generate.request import Request
from tests.generate.scenes import PROMPT, mask, picture, pipe

# Under the same text, unguided and by DDIM: nothing but the picture comes back.
AGAIN = Request(PROMPT, invert=PROMPT, guidance=1.0, sampler="ddim", seed=3, steps=8, image=picture(), strength=0.75)
EDIT = replace(AGAIN, prompt="a red hat", negative="green", guidance=4.0, steps=4)


def known(kind: str = "sd1") -> torch.Tensor:
    """Latents of the picture."""
    scene = task.read(pipe(kind).model, pipe(kind).settle(replace(AGAIN, invert=None)))
    assert scene.known is not None
    return scene.known


@pytest.mark.parametrize("kind", ["sd1", "sd2"])  # predicting eps and v
def test_under_the_same_text_the_picture_comes_back_better_with_every_step(kind: str) -> None:
    wanted = known(kind)
    errors = [
        (pipe(kind).draw(replace(AGAIN, steps=steps))[0].latents - wanted).norm() / wanted.norm()
        for steps in (8, 32, 128)
    ]
    assert errors[0] > 2 * errors[1] > 4 * errors[2], errors
    assert errors[2] < 0.25, errors
    noise = pipe(kind).draw(replace(AGAIN, invert=None))[0].latents
    assert (noise - wanted).norm() / wanted.norm() > 5 * errors[0]


def test_it_is_asked_under_the_text_alone_at_the_levels_of_the_way_down() -> None:
    first = pipe().settle(EDIT)
    up, down = first.passes
    assert up.levels == down.levels[::-1] and len(up.levels) == 4
    assert (up.request.prompt, up.request.negative, up.rows) == (PROMPT, "", 2)
    assert (down.request.prompt, down.request.negative, down.rows) == ("a red hat", "green", 2)


def test_a_network_that_is_told_its_guidance_is_told_of_none() -> None:
    own = pipe("lcm")
    up, down = own.settle(replace(EDIT, negative="")).passes
    told, plain = (task.read(own.model, each).conds["cond"] for each in (up, down))
    assert own.model.tell is not None
    assert torch.equal(told.scale, own.model.tell(plain, 1.0).scale)
    assert not torch.equal(told.scale, plain.scale)


def test_it_is_what_the_network_says_step_by_step() -> None:
    own = pipe()
    (up, _), x = own.settle(AGAIN).passes, known()
    cond = task.read(own.model, up).conds["cond"]
    for s, t in zip(up.levels, up.levels[1:]):
        with torch.no_grad():
            out = own.model.predict(x, torch.tensor([t.t]), cond)
        at = s if s.sigma else t
        x0 = denoised(own.model.prediction, x, out, at)
        eps = (x - at.alpha * x0) / at.sigma
        x = t.alpha * (x - s.sigma * eps) / s.alpha + t.sigma * eps
    ups = [shown.latents for shown in own(AGAIN) if shown.index == len(up.levels) - 1]
    torch.testing.assert_close(ups[0], x, rtol=0, atol=1e-5)


def test_every_text_and_strength_gives_another_picture_and_the_seed_none() -> None:
    ways = [EDIT, *(replace(EDIT, invert=text) for text in ("", "a crown", None)), replace(EDIT, strength=0.5)]
    seen = {pipe().draw(way)[0].image.tobytes() for way in ways}
    assert len(seen) == len(ways)
    first, second = pipe().draw(EDIT, 2)
    assert compare(first.image, second.image).equal
    first, second = pipe().draw(replace(EDIT, sampler="euler_ancestral"), 2)
    assert not compare(first.image, second.image).equal


def test_what_a_mask_keeps_is_kept_and_the_rest_is_drawn_from_its_own_noise() -> None:
    (drawn,) = pipe().draw(replace(EDIT, mask=mask()))
    size = (16, 0, 32, 32)
    assert drawn.image.crop(size).tobytes() == picture().crop(size).tobytes()
    (whole,) = pipe().draw(EDIT)
    assert drawn.image.crop((0, 0, 16, 32)).tobytes() != whole.image.crop((0, 0, 16, 32)).tobytes()
    (noise,) = pipe().draw(replace(EDIT, invert=None, mask=mask()))
    assert drawn.image.tobytes() != noise.image.tobytes()


def test_the_first_question_over_a_mask_is_what_the_way_up_came_to() -> None:
    own = pipe()
    up, down = own.settle(replace(EDIT, mask=mask())).passes
    left = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    job = task.job(own.model, down, carried(own.model, down, task.read(own.model, down), left))
    assert job.constraint is not None and task.job(own.model, up, task.read(own.model, up)).constraint is None
    torch.testing.assert_close(job.constraint.question(job.x, down.levels[0]), left, rtol=0, atol=1e-6)


def test_a_network_that_is_shown_the_hole_is_so_on_both_ways() -> None:
    shown = pipe("inpaint").draw(replace(AGAIN, steps=128, mask=mask()))[0].latents
    wanted = known()
    assert (shown - wanted).norm() / wanted.norm() < 0.1


def test_company_changes_no_bit() -> None:
    asked = [
        EDIT,
        replace(EDIT, seed=4, invert=None),
        replace(EDIT, seed=5, steps=5, image=picture(seed=1)),
        replace(EDIT, seed=6, sampler="euler_ancestral", mask=mask()),
        replace(EDIT, seed=7, hires=Hires(1.5)),
        Request(PROMPT, seed=8),
        replace(EDIT, seed=9, rows=4),
    ]
    alone = [pipe().draw(each)[0] for each in asked]
    together = {shown.picture: shown.drawn for shown in pipe().watch(asked, 7) if shown.drawn}
    for place, wanted in enumerate(alone):
        assert torch.equal(together[place].latents, wanted.latents)
        assert together[place].recipe == wanted.recipe


def test_the_way_up_counts_and_can_be_stopped() -> None:
    seen = list(pipe()(EDIT))
    assert [shown.index for shown in seen] == [1, 2, 3, 4, 5, 6]
    assert {shown.total for shown in seen} == {6}
    assert [shown.drawn is not None for shown in seen] == [False] * 5 + [True]
    clocks = [shown.level.sigma / shown.level.alpha for shown in seen]
    assert clocks[0] < clocks[2] > clocks[-1]
    steps = pipe()(EDIT)
    next(steps)
    steps.close()
    assert torch.equal(pipe().draw(EDIT)[0].latents, seen[-1].latents)


def test_the_text_for_other_programs_names_it() -> None:
    for text, told in (("a crown", "a crown"), ("a crown, green", '"a crown, green"')):
        assert f"Decode prompt: {told}" in pipe().recipe(pipe().settle(replace(EDIT, invert=text))).parameters()
    empty = pipe().recipe(pipe().settle(replace(EDIT, invert=""))).settings()
    assert empty.other == {"Decode prompt": ""}
    assert "Decode" not in pipe().recipe(pipe().settle(replace(EDIT, invert=None))).parameters()


@pytest.mark.parametrize("text", ["", "a crown, green"])
def test_it_is_drawn_again_from_its_recipe(text: str) -> None:
    (drawn,) = pipe().draw(replace(EDIT, invert=text))
    recipe = Recipe.from_json(drawn.recipe.json())
    assert recipe.invert == text
    (again,) = load_for(recipe, str(pipe().folder)).draw(request_of(recipe, picture()))
    assert compare(drawn.image, again.image).equal
    wide = [each.rows for each in pipe().settle(request_of(recipe, picture())).passes]
    assert wide == [each.rows for each in pipe().settle(replace(EDIT, invert=text)).passes] == [2, 2]
    assert list(differing(recipe, again.recipe)) == []
    assert list(differing(replace(recipe, invert=None), again.recipe)) == [f"invert was None, now {text}"]
    with pytest.raises(ImageError, match="invert cannot be '3'"):
        Recipe.from_json(replace(recipe, invert=3).json())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"image": None, "strength": None}, RequestError, "an inversion needs an image"),
        ({"handover": 0.5}, RequestError, "an inversion and a refiner"),
        ({"invert": "", "handover": 0.5}, RequestError, "an inversion and a refiner"),
        ({"variation": (3, 0.5)}, RequestError, "ddim draws no noise after an inversion"),
        ({"invert": "\ud800"}, PromptError, "no text"),
        ({"invert": "[a:b:0.5]", "emphasis": "a1111"}, PromptError, "leave out what changes"),
        ({"strength": 0.0}, RequestError, "raise the strength"),
    ],
)
def test_what_cannot_be_is_refused_before_the_first_step(
    change: dict[str, object], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        pipe().settle(replace(EDIT, **change))  # type: ignore[arg-type]
