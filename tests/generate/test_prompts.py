"""Weighted, long and changing prompts, from the request to the picture and back."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from safelight.core.sample import Changing
from safelight.errors import PromptError, RequestError, UnknownNameError
from safelight.families.family import Prompt, Words
from safelight.generate.image import common, read
from safelight.generate.pipe import Drawn, Pipe
from safelight.generate.recipe import Recipe
from safelight.generate.reproduce import redraw, request_of
from safelight.generate.request import Request
from tests.generate.scenes import PROMPT, mask, picture, pipe

LONG = "red " * 75 + "a green crown"
LONGER = "green hair and " * 60
KINDS = ["sd1", "sdxl"]


def drawn(request: Request, kind: str = "sd1") -> Drawn:
    (one,) = pipe(kind).draw(request)
    return one


def a1111(prompt: str, negative: str = "", **others: Any) -> Request:
    return Request(prompt, negative, seed=3, emphasis="a1111", **{"steps": 4, **others})


def requests() -> list[Request]:
    """Conditions of one, two and three chunks, of equal and of changing lengths."""
    return [
        a1111(PROMPT, rows=3),
        a1111(LONG, rows=3),
        a1111(LONG, negative="green"),
        a1111("a hat", negative=LONG, sampler="euler"),
        a1111(LONG, negative=LONGER),
        a1111("[a red hat:a crown:0.5]"),
        a1111(f"[{LONG}:a (crown:1.3):2]", negative="[red|green] hat", sampler="heun"),
        a1111("[red|green] hair", image=picture(), strength=0.5),
        a1111(LONG, image=picture(), mask=mask(), guidance=1.0),
        Request("a (red:1.4) hat", seed=3, steps=4, emphasis="comfyui", rows=3),
        Request("a red-- hat++", seed=3, steps=4, emphasis="compel", rows=3),
    ]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["a1111", "comfyui", "compel"])
def test_a_plain_prompt_draws_the_same_bits_under_every_emphasis(kind: str, name: str) -> None:
    plain, named = Request(PROMPT, seed=3, steps=2), Request(PROMPT, seed=3, steps=2, emphasis=name)
    assert torch.equal(drawn(plain, kind).latents, drawn(named, kind).latents)


@pytest.mark.parametrize("kind", KINDS)
def test_weights_and_what_follows_the_first_chunk_change_the_picture(kind: str) -> None:
    prompts = ["a (red:1.3) hat", "a (red:0.7) hat", "[a] red hat", "a red hat", "red " * 75, LONG, "a BREAK red hat"]
    pictures = [drawn(a1111(prompt, steps=2), kind).image.tobytes() for prompt in prompts]
    assert len(set(pictures)) == len(pictures)
    assert drawn(a1111(LONG, steps=2), kind).cut == () and drawn(Request(LONG, steps=2), kind).cut != ()


def test_strangers_with_prompts_of_any_length_change_nothing() -> None:
    alone = [drawn(request) for request in requests()]
    order = [5, 4, 9, 1, 10, 0, 8, 7, 6, 2, 3]
    for place, one in zip(order, pipe().draw_many([requests()[place] for place in order])):
        assert torch.equal(one.latents, alone[place].latents) and one.recipe == alone[place].recipe


def test_recipes_of_all_of_them_draw_the_same_bits_again() -> None:
    for request in requests():
        first = drawn(request)
        recipe = Recipe.from_json(first.recipe.json())
        assert recipe.json() == first.recipe.json() and recipe.emphasis == request.emphasis
        again = redraw(recipe, pipe(), request.image, request.mask)
        assert torch.equal(again.latents, first.latents)
        assert request_of(recipe, request.image, request.mask).emphasis == request.emphasis


def test_a_recipe_that_does_not_say_was_read_plainly() -> None:
    recipe = drawn(Request("a (red:1.2) hat", seed=3, steps=2)).recipe
    text = recipe.json().replace('"emphasis": "none", ', "")
    assert "emphasis" not in text and Recipe.from_json(text) == recipe


class Heard:
    """A model that keeps what it was told at each call."""

    def __init__(self, inside: Pipe) -> None:
        self.told: list[torch.Tensor] = []
        ours = inside.model.predict

        def predict(x: torch.Tensor, t: torch.Tensor, told: Any) -> torch.Tensor:
            self.told.append(told.context)
            return ours(x, t, told)

        self.pipe = replace(inside, model=replace(inside.model, predict=predict))

    def draw(self, request: Request) -> torch.Tensor:
        return self.pipe.draw(request)[0].latents


def context(text: str, negative: bool = False) -> torch.Tensor:
    found = pipe().model.encode(Prompt(text, (32, 32), negative=negative, emphasis="a1111")).cond.context
    assert isinstance(found, torch.Tensor)
    return found


def test_each_step_is_told_the_prompt_of_its_step_and_so_is_the_negative() -> None:
    heard = Heard(pipe())
    heard.draw(a1111("a [red:green:0.5] hat", negative="[a|person]", sampler="euler"))
    wanted = [("a red hat", "a"), ("a red hat", "person"), ("a green hat", "a"), ("a green hat", "person")]
    assert len(heard.told) == 4
    for told, (prompt, negative) in zip(heard.told, wanted):
        assert torch.equal(told, torch.cat([context(prompt), context(negative)]))


def test_steps_of_an_image_are_those_of_the_whole_schedule() -> None:
    heard = Heard(pipe())
    request = a1111("[red|green|crown|hat]", negative="[a|and|with|person]", image=picture(), sampler="euler")
    heard.draw(replace(request, strength=0.5))
    assert len(heard.told) == 2
    for told, words in zip(heard.told, (("crown", "with"), ("hat", "person"))):
        assert torch.equal(told, torch.cat([context(word) for word in words]))


def test_a_shorter_prompt_is_told_again_and_again_which_changes_nothing_but_rounding() -> None:
    heard, model = Heard(pipe()), pipe().model
    heard.draw(a1111(LONG, negative="green", steps=1))
    assert heard.told[0].shape == (2, 154, 16)
    assert torch.equal(heard.told[0][1], context("green")[0].repeat(2, 1))
    x, t = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([500.0])
    words = model.encode(Prompt("green", (32, 32)))
    once, twice = model.predict(x, t, words.cond), model.predict(x, t, words.cond.stretch(3))
    assert (once - twice).abs().max() < 1e-5 * once.abs().max()


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_prompts_of_unequal_length_draw_what_two_calls_would(guidance: float) -> None:
    """With the prompt alone nothing is stretched; guided, the answer is that of each branch asked for itself."""
    heard = Heard(pipe())
    heard.draw(a1111(LONGER, guidance=guidance, steps=1))
    chunks = 3
    assert heard.told[0].shape[1] == 77 * chunks
    assert torch.equal(heard.told[0][0], context(LONGER)[0])


def test_prompts_that_have_no_common_length_in_reach_are_refused() -> None:
    eleven, twelve = "red BREAK " * 10 + "red", "red BREAK " * 11 + "red"
    with pytest.raises(PromptError, match="prompts of 11, 12 chunks have a common length of 132, above 128"):
        drawn(a1111(eleven, negative=twelve))
    assert common([Words(None, chunks=4), Words(None, chunks=6)]) == 12 and common([]) == 1


def test_a_prompt_that_does_not_change_is_one_condition() -> None:
    settled = pipe().settle(a1111("a [red] hat"))
    assert not any(isinstance(cond, Changing) for cond in read(pipe().model, settled).conds.values())
    settled = pipe().settle(a1111("a [red:green:0.5] hat"))
    assert all(isinstance(cond, Changing) for cond in read(pipe().model, settled).conds.values())


def test_rules_and_weaker_models_hear_the_prompt_of_the_step_too() -> None:
    from safelight.generate.guiding import Rule

    rules = (Rule("pag", {"scale": 2.0}),)
    changing = drawn(a1111("[red:green:0.5]", rules=rules)).latents
    assert not torch.equal(changing, drawn(a1111("red", rules=rules)).latents)
    assert torch.equal(drawn(a1111("[red:red:0.5]", rules=rules)).latents, drawn(a1111("red", rules=rules)).latents)
    weak = replace(pipe(), weak=pipe())
    rules = (Rule("autoguidance", {"scale": 2.0}),)
    for prompt in (LONG, "[red:green:0.5]"):
        (one,) = weak.draw(a1111(prompt, rules=rules, guidance=1.0))
        assert not torch.equal(one.latents, drawn(a1111("red", guidance=1.0)).latents)


def test_what_cannot_be_meant_is_refused_before_anything_is_computed() -> None:
    with pytest.raises(UnknownNameError, match="unknown emphasis 'a111'; the nearest known: a1111"):
        Request(PROMPT, emphasis="a111")
    for prompt in ("(red:nan)", "[a:b:-1]", "a AND (b:nan)"):
        with pytest.raises(PromptError):
            pipe().settle(a1111(prompt))
        with pytest.raises(PromptError):
            pipe().settle(a1111("", negative=prompt))
    deaf = replace(pipe(), model=replace(pipe().model, emphases=("none",)))
    with pytest.raises(RequestError, match="reads no signs of emphasis 'a1111'"):
        deaf.settle(a1111(PROMPT))
