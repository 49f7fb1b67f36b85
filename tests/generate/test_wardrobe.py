"""What lies over a whole model: it is drawn with, told of in the recipe, and gone afterwards to the last bit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import torch
from torch import Tensor

import safelight
from safelight.errors import RequestError
from safelight.families.family import Model
from safelight.generate.pipe import Pipe, load
from safelight.generate.request import Request
from tests.generate.scenes import PROMPT
from tests.models import tiny


@dataclass
class Loud:
    """Worn: words are read as louder by ``by``, and the network's last bias is moved where it is."""

    bias: Tensor
    by: float
    before: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.before = self.bias.clone()
        self.bias.add_(self.by)

    def over(self, model: Model) -> Model:
        return replace(model, encode=lambda prompt: self._louder(model, prompt))

    def _louder(self, model: Model, prompt: Any) -> Any:
        words = model.encode(prompt)
        return replace(words, cond=replace(words.cond, context=words.cond.context * (1 + self.by)))

    def told(self) -> Mapping[str, Any]:
        return {"kind": "loud", "name": "loud", "files": {}, "scale": self.by}

    def take_off(self) -> None:
        self.bias.copy_(self.before)


class Louder:
    taught = ("LOUD",)

    def put_on(self, model: Model, scale: float = 1.0) -> Loud:
        if scale > 10:
            raise RequestError("too loud")
        return Loud(model.network.conv_out.bias.data, scale)  # type: ignore[union-attr]


def fresh() -> Pipe:
    return load(str(tiny("sd1")), device="cpu", threads=1)


def test_inside_the_pipe_draws_with_it_and_says_so_and_after_every_bit_is_back() -> None:
    pipe = fresh()
    request = Request(PROMPT, seed=3, steps=3)
    (plain,) = pipe.draw(request)
    with safelight.applied(pipe, Louder(), 0.5) as same:
        assert same is pipe and pipe.wardrobe.taught == ("LOUD",)
        (loud,) = pipe.draw(request)
        with safelight.applied(pipe, Louder(), 0.25):
            (both,) = pipe.draw(request)
    (after,) = pipe.draw(request)
    assert torch.equal(plain.latents, after.latents) and plain.recipe == after.recipe and not pipe.wardrobe.taught
    assert len({each.latents.numpy().tobytes() for each in (plain, loud, both)}) == 3
    assert [each["scale"] for each in both.recipe.adapters] == [0.5, 0.25] and not plain.recipe.adapters


def test_the_first_may_be_taken_off_before_the_last() -> None:
    pipe = fresh()
    first, last = (pipe.wardrobe.put_on(Louder(), scale) for scale in (0.5, 0.25))
    pipe.wardrobe.take_off(first)
    assert pipe.wardrobe.worn == (last,) and pipe.wardrobe.dressed is not pipe.model
    pipe.wardrobe.take_off(last)
    assert pipe.wardrobe.worn == () and pipe.wardrobe.dressed is pipe.model


def test_an_adapter_that_does_not_fit_leaves_the_pipe_as_it_was() -> None:
    pipe, request = fresh(), Request(PROMPT, seed=3, steps=2)
    (plain,) = pipe.draw(request)
    with pytest.raises(RequestError, match="too loud"), safelight.applied(pipe, Louder(), 11):
        raise AssertionError("never entered")
    assert torch.equal(pipe.draw(request)[0].latents, plain.latents)


def test_a_pipe_that_is_followed_keeps_what_it_wears_and_one_of_another_model_does_not() -> None:
    pipe = fresh()
    with safelight.applied(pipe, Louder(), 0.5):
        assert replace(pipe, name="other").wardrobe is pipe.wardrobe
        assert not replace(pipe, model=replace(pipe.model)).wardrobe.worn
