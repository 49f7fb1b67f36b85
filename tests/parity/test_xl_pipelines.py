"""What XL and its refiner are told, the refiner alone, and one taking over from the other, as in the reference.

Everything is float64 but for what the reference keeps in float32; see `test_pipelines`. One difference, on purpose: in
the reference a negative crop is that of the picture, or 0,0, or has no effect, depending on the task and on what else
is given; here it is always the picture's where nothing is said. The tests say everything.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import pytest
import torch
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution

from safelight.generate.request import Request
from tests.generate.scenes import mask, picture
from tests.parity.networks import difference
from tests.parity.pipelines import SCHEDULERS, chained, config_of, latents, noise_of, ours, reference, start

PROMPT, NEGATIVE, SEED = "a person with green hair", "a red hat", 7
EXACT, ROUNDED, ENCODED = 1e-9, 2e-5, 1e-7
SIZES: dict[str, tuple[float, ...]] = {
    "original": (96.0, 64.0),
    "crop": (8.0, 24.0),
    "target": (40.0, 32.0),
    "negative-original": (16.0, 48.0),
    "negative-crop": (1.0, 2.0),
    "negative-target": (20.0, 24.0),
}
THERE: dict[str, Any] = {
    "original_size": (64, 96),
    "crops_coords_top_left": (24, 8),
    "target_size": (32, 40),
    "negative_original_size": (48, 16),
    "negative_crops_coords_top_left": (2, 1),
    "negative_target_size": (24, 20),
}


@pytest.fixture(autouse=True)
def _as_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DiagonalGaussianDistribution, "sample", lambda self, generator=None: self.mode())
    for module in ("", "_img2img", "_inpaint"):
        place = import_module(f"diffusers.pipelines.stable_diffusion_xl.pipeline_stable_diffusion_xl{module}")
        monkeypatch.setattr(place, "randn_tensor", noise_of)


def theirs(pipe: Any, steps: int = 4, **asked: Any) -> torch.Tensor:
    generator = torch.Generator().manual_seed(SEED)
    said: torch.Tensor = pipe(
        PROMPT, negative_prompt=NEGATIVE, num_inference_steps=steps, output_type="latent", generator=generator, **asked
    ).images
    return said


@pytest.mark.parametrize("told", [tuple(SIZES), ("original", "crop", "target"), ("crop",)], ids=len)
def test_sizes_and_crops_are_told(told: tuple[str, ...]) -> None:
    config = config_of("sdxl", "DDIMScheduler")
    facts = {name: SIZES[name] for name in told}
    request = Request(PROMPT, negative=NEGATIVE, steps=4, guidance=4.0, seed=SEED, facts=facts)
    given = {there: THERE[there] for here, there in zip(SIZES, THERE) if here in told}
    wanted = theirs(
        reference("StableDiffusionXLPipeline", "sdxl", config), guidance_scale=4.0, latents=start(SEED), **given
    )
    assert difference(latents(ours("sdxl", config), request), wanted) < EXACT


@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize("guidance", [1.0, 4.0])
def test_the_refiner_alone(name: str, guidance: float) -> None:
    config = config_of("refiner", name)
    negative = NEGATIVE if guidance != 1.0 else ""
    request = Request(PROMPT, negative=negative, steps=8, guidance=guidance, seed=SEED, image=picture())
    pipe = reference("StableDiffusionXLImg2ImgPipeline", "refiner", config)
    wanted = theirs(pipe, 8, guidance_scale=guidance, image=picture())
    assert difference(latents(ours("refiner", config), request), wanted) < (
        ENCODED if name == "DDIMScheduler" else ROUNDED
    )


def test_the_refiner_is_told_sizes_and_scores() -> None:
    config = config_of("refiner", "DDIMScheduler")
    facts = {name: SIZES[name] for name in SIZES if "target" not in name}
    facts |= {"score": (8.5,), "negative-score": (1.5,)}
    asked = {name: THERE[name] for name in THERE if "target" not in name}
    asked |= {"aesthetic_score": 8.5, "negative_aesthetic_score": 1.5}
    request = Request(
        PROMPT, negative=NEGATIVE, steps=4, guidance=4.0, seed=SEED, image=picture(), strength=0.6, facts=facts
    )
    pipe = reference("StableDiffusionXLImg2ImgPipeline", "refiner", config)
    wanted = theirs(pipe, guidance_scale=4.0, image=picture(), strength=0.6, **asked)
    assert difference(latents(ours("refiner", config), request), wanted) < ENCODED


def test_the_refiner_fills_a_hole() -> None:
    config = config_of("refiner", "DDIMScheduler")
    request = Request(*(PROMPT, NEGATIVE), steps=4, guidance=4.0, seed=SEED, image=picture(), mask=mask(), strength=0.7)
    pipe = reference("StableDiffusionXLInpaintPipeline", "refiner", config)
    wanted = theirs(pipe, guidance_scale=4.0, image=picture(), mask_image=mask(), strength=0.7, height=32, width=32)
    assert difference(latents(ours("refiner", config), request), wanted) < ENCODED


@pytest.mark.parametrize("handover", [0.4, 0.8])
@pytest.mark.parametrize("guidance", [1.0, 4.0])
@pytest.mark.parametrize("name", SCHEDULERS)
def test_the_refiner_takes_over(name: str, guidance: float, handover: float) -> None:
    config, steps = config_of("sdxl", name), 10
    negative = NEGATIVE if guidance != 1.0 else ""
    request = Request(PROMPT, negative=negative, steps=steps, guidance=guidance, seed=SEED, handover=handover)
    drawn = chained(ours("sdxl", config), ours("refiner", config), request)
    base = reference("StableDiffusionXLPipeline", "sdxl", config)
    asked = {"guidance_scale": guidance, "negative_target_size": (32, 32), "negative_original_size": (32, 32)}
    left = theirs(base, steps, latents=start(SEED), denoising_end=handover, **asked)
    asked.pop("negative_target_size")
    refiner = reference("StableDiffusionXLImg2ImgPipeline", "refiner", config)
    wanted = theirs(refiner, steps, image=left, denoising_start=handover, **asked)
    assert difference(drawn, wanted) < (EXACT if name == "DDIMScheduler" else ROUNDED)
    alone = latents(ours("sdxl", config), Request(PROMPT, negative=negative, steps=steps, guidance=guidance, seed=SEED))
    assert difference(alone, wanted) > 0.01
