"""Stable Cascade told a picture draws others like it, as the reference's prior does that is given the same picture."""

from __future__ import annotations

import shutil
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from diffusers.schedulers import scheduling_ddpm_wuerstchen as wuerstchen

from safelight.core.noise import start_noise
from safelight.errors import ConfigError, RequestError
from safelight.families.cascade import wiring
from safelight.generate.hires import Hires
from safelight.generate.pipe import Pipe, load
from safelight.generate.recipe import Recipe
from safelight.generate.reproduce import compare, load_for, request_of
from safelight.generate.request import Request
from safelight.weights.folder import read_json
from tests.cascade import EDGE, seeing, tiny_cascade
from tests.generate.scenes import mask, picture
from tests.parity.cascades import EXACT, NEGATIVE, PROMPT, SEED, STEPS, asked, drawn, references, steady
from tests.parity.networks import difference
from tests.parity.test_cascade_files import files
from tests.variations import tiny_variations

SHOWN = picture(40, seed=3)
Patch = pytest.MonkeyPatch


@cache
def folder() -> Path:
    """The decoder's folder; never change it, copy it."""
    return seeing(tiny_cascade().with_name("cascade-seeing"))


def pipe() -> Pipe:
    return load(str(folder()), device="cpu", threads=1)


@cache
def exact() -> Pipe:
    made = pipe()
    for module in made.model.modules:
        module.double()
    return made


def error(guidance: float, negative: str = "") -> float:
    """Of what the prior draws."""
    mine, noise = drawn(replace(asked(guidance, negative), image=SHOWN, later=1), exact())[0]
    prior, place = references()[0], folder().with_name("cascade-seeing-prior")
    encoder = transformers.CLIPVisionModelWithProjection.from_pretrained(
        place / "image_encoder", torch_dtype=torch.float64
    )
    extractor = transformers.CLIPImageProcessorPil.from_pretrained(place / "feature_extractor")
    told: dict[str, Any] = {"height": EDGE, "width": EDGE, "num_inference_steps": STEPS, "guidance_scale": guidance}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prior, "image_encoder", encoder)
        patch.setattr(prior, "feature_extractor", extractor)
        draws = steady(noise)
        patch.setattr(wuerstchen, "randn_tensor", lambda *_, **__: next(draws))
        told |= {"images": [SHOWN], "negative_prompt": negative or None}
        theirs = prior(PROMPT, **told, latents=start_noise(SEED, (16, 3, 3)).double()).image_embeddings
    return difference(mine, theirs)


@pytest.mark.parametrize(("guidance", "negative"), [(1.0, ""), (4.0, NEGATIVE)])
def test_the_prior_draws_what_the_reference_s_does(guidance: float, negative: str) -> None:
    assert error(guidance, negative) < EXACT


def test_told_the_picture_of_nothing_would_show(monkeypatch: Patch) -> None:
    right = wiring._seen
    monkeypatch.setattr(
        wiring, "_seen", lambda stage, prompt, like: right(stage, prompt._replace(negative=False), like)
    )
    assert error(4.0) > 1e3 * EXACT


def test_it_is_drawn_beside_the_text_and_again_from_its_recipe() -> None:
    own, small = pipe(), replace(asked(2.0), steps=2, later=2)
    (alone,) = own.draw(small)
    (first,) = own.draw(replace(small, image=SHOWN))
    (other,) = own.draw(replace(small, image=picture(40, seed=4)))
    (words,) = own.draw(replace(small, image=SHOWN, prompt="a crown"))
    assert len({each.image.tobytes() for each in (alone, first, other, words)}) == 4
    assert first.image.size == (EDGE, EDGE)
    assert (first.recipe.task, alone.recipe.task) == ("vary", "text")
    assert {Path(name).parent.name for name in first.recipe.model["files"]} > {"image_encoder", "feature_extractor"}
    recipe = Recipe.from_json(first.recipe.json())
    assert compare(first.image, load_for(recipe, str(own.folder)).draw(request_of(recipe, SHOWN))[0].image).equal


def test_what_is_drawn_from_text_keeps_its_bits_where_the_prior_could_see() -> None:
    small = replace(asked(2.0), steps=2, later=2)
    plain = load(str(tiny_cascade()), device="cpu", threads=1)
    for hires in (None, Hires(2, 0.5), Hires(2, 0.5, upscaler="bilinear")):
        request = replace(small, hires=hires)
        assert torch.equal(pipe().draw(request)[0].latents, plain.draw(request)[0].latents)


def test_one_folder_with_both_stages_and_files_beside_it_see_too(laid_alike: None, tmp_path: Path) -> None:
    small = replace(asked(2.0), steps=2, later=2, image=SHOWN)
    wanted = pipe().draw(small)[0].image.tobytes()
    both = load(str(seeing(tmp_path / "both", combined=True)), device="cpu", threads=1)
    assert both.draw(small)[0].image.tobytes() == wanted

    shutil.copytree(files(), tmp_path / "files")
    prior = folder().with_name("cascade-seeing-prior")
    for part in ("image_encoder", "feature_extractor"):
        shutil.copytree(prior / part, tmp_path / "files" / part)
    single = load(str(tmp_path / "files" / "stage_c.safetensors"), device="cpu", threads=1)
    assert single.draw(small)[0].image.tobytes() == wanted


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"strength": 0.5}, "the image that others are like is not painted over; leave out strength"),
        ({"hires": Hires(2)}, "leave out strength, first, invert and hires"),
        ({"mask": mask(40)}, "does not do the task 'inpaint'"),
    ],
)
def test_what_cannot_be_is_refused_before_the_first_step(change: dict[str, Any], words: str) -> None:
    with pytest.raises(RequestError, match=words):
        pipe().settle(replace(asked(2.0), image=SHOWN, **change))


def test_a_prior_without_eyes_or_with_others_says_so(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="does not do the task 'image'"):
        load(str(tiny_cascade()), device="cpu", threads=1).settle(Request(PROMPT, image=SHOWN))
    place = seeing(tmp_path / "other")
    other = tmp_path / "other-prior" / "image_encoder"

    shutil.rmtree(other)
    shutil.copytree(tiny_variations() / "image_encoder", other)
    assert read_json(other / "config.json")["projection_dim"] == 16
    with pytest.raises(ConfigError, match="writes pictures of width 16, the prior reads 8"):
        load(str(place), device="cpu", threads=1)
