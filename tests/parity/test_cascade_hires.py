"""A second pass of Stable Cascade equals the reference's pipelines, begun later over what was drawn and enlarged."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from diffusers.schedulers import scheduling_ddpm_wuerstchen as wuerstchen
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from safelight.core.noise import start_noise
from safelight.errors import RequestError
from safelight.families.cascade.wiring import Features
from safelight.generate import passes
from safelight.generate.hires import Hires
from safelight.generate.picture import to_picture, to_tensor
from safelight.generate.pipe import Pipe, load
from safelight.generate.recipe import Recipe
from safelight.generate.reproduce import compare, load_for, request_of
from safelight.generate.request import Request
from tests.cascade import EDGE, tiny_cascade
from tests.parity.cascades import EXACT, LATER, NEGATIVE, PROMPT, SEED, STEPS, asked, drawn, references, steady
from tests.parity.networks import difference

STRENGTH, LARGE, GUIDANCE = 0.5, 2 * EDGE, 3.0
Patch = pytest.MonkeyPatch


def painted(
    pipe: Any, steps: int, known: Tensor | None, shape: tuple[int, ...], made: list[Tensor], **told: Any
) -> Any:
    """What a pipeline of the reference draws over something known, half of it forgotten, or over nothing, in ``shape``.

    Args:
        made: our noise of the steps.
    """
    plan, x = pipe.scheduler, start_noise(SEED, shape).double()
    if known is not None:
        plan.later = steps - int(STRENGTH * steps)
        plan.set_timesteps(steps)
        x = plan.add_noise(known, x, plan.timesteps[:1])
    with pytest.MonkeyPatch.context() as patch:
        draws = steady(made)
        patch.setattr(wuerstchen, "randn_tensor", lambda *_, **__: next(draws))
        patch.setattr(pipe, "prepare_latents", lambda *_, **__: x)
        told |= {"prompt": PROMPT, "negative_prompt": NEGATIVE, "num_inference_steps": steps}
        try:
            return pipe(**told, guidance_scale=GUIDANCE, output_type="latent")
        finally:
            plan.later = 0


def wanted(upscaler: str) -> Request:
    return replace(asked(GUIDANCE, NEGATIVE), later_guidance=GUIDANCE, hires=Hires(2, STRENGTH, upscaler=upscaler))


def picture_error() -> float:
    """Latents of the decoder's second pass over the picture."""
    (features, _), (latents, _), (mine, late) = drawn(wanted("lanczos"))
    vqgan = references()[1].vqgan
    with torch.no_grad():
        small = to_picture((2 * vqgan.decode(vqgan.config.scale_factor * latents).sample - 1).float())
        large = small.resize((LARGE, LARGE), Image.Resampling.LANCZOS)
        seen = (to_tensor(large, large.size).double() + 1) / 2
        known = (vqgan.encode(seen).latents.float() / vqgan.config.scale_factor).double()
    again = painted(references()[1], LATER, known, (4, 64, 64), late, image_embeddings=features)
    return difference(mine, again.images)


def latents_error(upscaler: str) -> float:
    """What the prior's second pass leaves, and the decoder's only one after it."""
    (features, _), (larger, early), (mine, late) = drawn(wanted(upscaler))
    known = F.interpolate(features, size=(6, 6), mode=upscaler)
    again = painted(references()[0], STEPS, known, (16, 6, 6), early, height=LARGE, width=LARGE).image_embeddings
    last = painted(references()[1], LATER, None, (4, 64, 64), late, image_embeddings=again).images
    return max(difference(larger, again), difference(mine, last))


def test_over_a_picture_the_decoder_draws_again_shown_the_same_features(monkeypatch: Patch) -> None:
    assert picture_error() < 1e-6, "what stage A encodes is float32 here"
    right = passes.carried

    def wrong(model: Any, settled: Any, scene: Any, left: Tensor, seen: Tensor | None = None) -> Any:
        return right(model, settled, scene, left, None if seen is None else -seen)

    monkeypatch.setattr("tests.parity.cascades.carried", wrong)
    assert picture_error() > 1e-3


@pytest.mark.parametrize("upscaler", ["bilinear", "nearest-exact"])
def test_over_latents_the_prior_draws_again_and_the_decoder_once(upscaler: str) -> None:
    assert latents_error(upscaler) < EXACT


def pipe() -> Pipe:
    return load(str(tiny_cascade()), device="cpu", threads=1)


@pytest.mark.parametrize("upscaler", ["lanczos", "bicubic"])
def test_it_is_counted_and_drawn_again_from_its_recipe(upscaler: str) -> None:
    own, hires = pipe(), Hires(2, STRENGTH, 6, upscaler)
    seen = list(own(replace(asked(2.0), hires=hires)))
    last = seen[-1].drawn
    assert last is not None
    assert last.image.size == (LARGE, LARGE)
    assert [shown.index for shown in seen] == list(range(1, STEPS + LATER + 3 + 1))
    assert {shown.total for shown in seen} == {STEPS + LATER + 3}
    recipe = Recipe.from_json(last.recipe.json())
    assert recipe.size == (EDGE, EDGE)
    told = {"scale": 2.0, "strength": STRENGTH, "upscaler": upscaler, "steps": 6, "run": 3, "size": [LARGE, LARGE]}
    assert recipe.hires == told
    (again,) = load_for(recipe, str(own.folder)).draw(request_of(recipe))
    assert compare(last.image, again.image).equal


def test_company_changes_no_bit() -> None:
    own = pipe()
    several = [
        replace(asked(1.0), later=2, seed=seed, hires=hires)
        for seed, hires in ((3, Hires(1.5)), (4, None), (5, Hires(2, upscaler="bilinear")), (3, Hires(2)))
    ]
    together = own.draw_many(several)
    for each, shared in zip(several, together, strict=True):
        assert torch.equal(own.draw(each)[0].latents, shared.latents)


def test_sizes_are_the_nearest_that_are_drawn() -> None:
    released = Features(16, 1, 1.0)
    assert [released.nearest(edge) for edge in (1, 128, 1000, 1300, 1536, 2048)] == [40, 128, 1024, 1280, 1536, 2048]
    assert all(released.shape(released.nearest(edge), 128) for edge in range(40, 8000, 37))
    own = pipe()
    second = own.settle(replace(asked(1.0), hires=Hires(1.4, upscaler="bilinear"))).passes[1]
    assert second.size == (168, 168)
    with pytest.raises(RequestError, match="enlarge by more"):
        own.settle(replace(asked(1.0), hires=Hires(1.05, upscaler="bilinear")))


def test_edges_that_the_decoder_cannot_halve_are_refused_before_the_first_step() -> None:
    with pytest.raises(RequestError, match="width 212 is none that it draws; the nearest are 128, 168, 256"):
        pipe().settle(replace(asked(1.0), size=(212, EDGE)))
