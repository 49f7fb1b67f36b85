"""An upscaler draws views larger, each from its own latents, as it draws a picture larger that any model drew."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from safelight.errors import RequestError
from safelight.generate import larger
from safelight.generate.chain import larger as settled
from safelight.generate.pipe import load
from safelight.generate.request import Request
from safelight.multiview.model import ViewModel
from safelight.multiview.presets import preset
from tests.generate.sets import asked, model
from tests.models import EDGE, tiny
from tests.upscaler import tiny_upscaler


def of_text() -> ViewModel:
    """A model of views of a text, of the latents that the upscaler knows; nothing is asked of its network here."""
    upscaler = load(str(tiny_upscaler()), "cpu").model
    return replace(model("pose"), latent=upscaler.latent, preset=replace(preset("mvdream"), size=EDGE))


def test_latents_become_the_picture_that_the_upscaler_draws_after_any_model() -> None:
    first, upscaler = load(str(tiny("sd1")), "cpu"), load(str(tiny_upscaler()), "cpu")
    request = Request("a red hat", steps=2, later=2, seed=3, size=(EDGE, EDGE))
    (whole,) = first.followed(upscaler).draw(request)
    (small,) = first.draw(replace(request, later=None))
    asked_of = settled(first.model.latent, upscaler.model, request, (EDGE, EDGE))
    *_, last = upscaler.enlarge(asked_of, small.latents)
    assert last.drawn is not None and torch.equal(last.drawn.latents, whole.latents)
    assert np.array_equal(np.asarray(last.drawn.image), np.asarray(whole.image))


def test_every_view_is_drawn_from_its_own_latents_with_a_seed_of_its_own() -> None:
    of, upscaler = of_text(), load(str(tiny_upscaler()), "cpu")
    request = asked(portrait=None, prompt="a red hat", negative="blurry")
    each = larger.settle(upscaler, of, request)
    assert [one.request.seed for one in each] == [3, 4, 5]
    assert {one.request.prompt for one in each} == {"a red hat, 3d asset"}
    latents = torch.randn(1, 4, 3, *of.latent.shape(EDGE, EDGE)[1:], generator=torch.Generator().manual_seed(0))
    drawn = [one.drawn.image for one in larger.enlarge(upscaler, each, latents) if one.drawn]
    assert [one.size for one in drawn] == [(2 * EDGE, 2 * EDGE)] * 3
    *_, alone = upscaler.enlarge(each[1], latents[:, :, 1])
    assert alone.drawn is not None and np.array_equal(np.asarray(alone.drawn.image), np.asarray(drawn[1]))
    *_, other = upscaler.enlarge(each[1], latents[:, :, 0])
    assert other.drawn is not None and not np.array_equal(np.asarray(other.drawn.image), np.asarray(drawn[1]))


def test_other_latents_and_normals_are_refused_before_anything_is_drawn() -> None:
    upscaler, of = load(str(tiny_upscaler()), "cpu"), of_text()
    with pytest.raises(RequestError, match="must enlarge latents, and those of this model"):
        larger.settle(upscaler, replace(of, latent=replace(of.latent, scale=1.5)), asked(portrait=None, prompt="a"))
    with pytest.raises(RequestError, match="must enlarge latents"):
        larger.settle(load(str(tiny("sd1")), "cpu"), of, asked(portrait=None, prompt="a red hat"))
    both = replace(of, preset=replace(of.preset, domains=("normals", "colours")))
    with pytest.raises(RequestError, match="draws normals and colours; an upscaler knows colours alone"):
        larger.settle(upscaler, both, asked(portrait=None, prompt="a red hat"))
