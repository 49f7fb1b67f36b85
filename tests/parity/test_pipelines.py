"""Text to image, image to image and inpainting give the latents of the reference's pipelines.

Everything is float64 but for what the reference keeps in float32: its tables and sigmas, which set the bar (DDIM's only
table is given to it in float64, and the bar is that of float64). One known difference: at strength 1 the reference
shows a network of 4 channels pure noise where the picture is kept, in the first evaluation only; here the kept part is
the picture at that level from the beginning. Where the path begins at alpha = 0 the two are the same.
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
from tests.parity.pipelines import SCHEDULERS, ZERO_SNR, config_of, latents, noise_of, ours, reference, start

PROMPT, NEGATIVE, STEPS, SEED = "a person with green hair", "a red hat", 4, 7
EXACT, ROUNDED = 1e-9, 2e-5
PIPELINES = {
    "sd1": "StableDiffusion",
    "sd2": "StableDiffusion",
    "sdxl": "StableDiffusionXL",
    "inpaint": "StableDiffusion",
}


@pytest.fixture(autouse=True)
def _as_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """The autoencoder's most probable latents, and noise drawn in float32."""
    monkeypatch.setattr(DiagonalGaussianDistribution, "sample", lambda self, generator=None: self.mode())
    for family in ("stable_diffusion", "stable_diffusion_xl"):
        for module in ("", "_img2img", "_inpaint"):
            place = import_module(f"diffusers.pipelines.{family}.pipeline_{family}{module}")
            monkeypatch.setattr(place, "randn_tensor", noise_of)


def theirs(pipe: Any, **asked: Any) -> torch.Tensor:
    """The reference's latents."""
    said: torch.Tensor = pipe(
        PROMPT, num_inference_steps=STEPS, output_type="latent", generator=torch.Generator().manual_seed(SEED), **asked
    ).images
    return said


@pytest.mark.parametrize("guidance", [1.0, 4.0])
@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize("kind", ["sd1", "sd2", "sdxl"])
def test_text_to_image(kind: str, name: str, guidance: float) -> None:
    config = config_of(kind, name)
    exact = name == "DDIMScheduler"
    negative = NEGATIVE if guidance != 1.0 else ""
    drawn = latents(ours(kind, config), Request(PROMPT, negative=negative, steps=STEPS, guidance=guidance, seed=SEED))
    pipe = reference(f"{PIPELINES[kind]}Pipeline", kind, config)
    wanted = theirs(pipe, guidance_scale=guidance, negative_prompt=negative or None, latents=start(SEED))
    assert difference(drawn, wanted) < (EXACT if exact else ROUNDED)


@pytest.mark.parametrize("kind", ["sd1", "sdxl"])
def test_no_negative_prompt_means_what_it_means_there(kind: str) -> None:
    config = config_of(kind, "DDIMScheduler")
    drawn = latents(ours(kind, config), Request(PROMPT, steps=STEPS, guidance=4.0, seed=SEED))
    pipe = reference(f"{PIPELINES[kind]}Pipeline", kind, config)
    assert difference(drawn, theirs(pipe, guidance_scale=4.0, latents=start(SEED))) < EXACT


def test_pure_noise_at_the_start_and_rescaled_guidance() -> None:
    config = config_of("sd2", "DDIMScheduler", ZERO_SNR)
    request = Request(PROMPT, steps=STEPS, guidance=6.0, rescale=0.7, seed=SEED)
    drawn = latents(ours("sd2", config), request)
    pipe = reference("StableDiffusionPipeline", "sd2", config)
    wanted = theirs(pipe, guidance_scale=6.0, guidance_rescale=0.7, latents=start(SEED))
    assert difference(drawn, wanted) < ROUNDED


@pytest.mark.parametrize("guidance", [1.0, 4.0])
@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize("kind", ["sd1", "sdxl"])
def test_image_to_image(kind: str, name: str, guidance: float) -> None:
    config = config_of(kind, name)
    exact = name == "DDIMScheduler"
    request = Request(PROMPT, steps=STEPS, guidance=guidance, seed=SEED, image=picture(), strength=0.7)
    drawn = latents(ours(kind, config), request)
    pipe = reference(f"{PIPELINES[kind]}Img2ImgPipeline", kind, config)
    wanted = theirs(pipe, guidance_scale=guidance, image=picture(), strength=0.7)
    assert difference(drawn, wanted) < (1e-7 if exact else ROUNDED)  # the image is encoded to float32 here


@pytest.mark.parametrize("guidance", [1.0, 4.0])
@pytest.mark.parametrize("name", SCHEDULERS)
def test_inpainting_with_any_network(name: str, guidance: float) -> None:
    config = config_of("sd1", name)
    exact = name == "DDIMScheduler"
    request = Request(PROMPT, steps=STEPS, guidance=guidance, seed=SEED, image=picture(), mask=mask(), strength=0.7)
    drawn = latents(ours("sd1", config), request)
    pipe = reference("StableDiffusionInpaintPipeline", "sd1", config)
    wanted = theirs(
        pipe, guidance_scale=guidance, image=picture(), mask_image=mask(), strength=0.7, height=32, width=32
    )
    assert difference(drawn, wanted) < (1e-7 if exact else ROUNDED)


def test_inpainting_from_pure_noise() -> None:
    config = config_of("sd2", "DDIMScheduler", ZERO_SNR)
    request = Request(PROMPT, steps=STEPS, guidance=4.0, seed=SEED, image=picture(), mask=mask(), strength=1.0)
    drawn = latents(ours("sd2", config), request)
    pipe = reference("StableDiffusionInpaintPipeline", "sd2", config)
    wanted = theirs(pipe, guidance_scale=4.0, image=picture(), mask_image=mask(), strength=1.0, height=32, width=32)
    assert difference(drawn, wanted) < ROUNDED


@pytest.mark.parametrize("strength", [1.0, 0.7])
@pytest.mark.parametrize("guidance", [1.0, 4.0])
@pytest.mark.parametrize("name", SCHEDULERS)
def test_inpainting_with_a_network_that_is_shown_the_hole(name: str, guidance: float, strength: float) -> None:
    config = config_of("inpaint", name)
    exact = name == "DDIMScheduler"
    request = Request(
        PROMPT, steps=STEPS, guidance=guidance, seed=SEED, image=picture(), mask=mask(), strength=strength
    )
    drawn = latents(ours("inpaint", config), request)
    pipe = reference("StableDiffusionInpaintPipeline", "inpaint", config)
    wanted = theirs(
        pipe, guidance_scale=guidance, image=picture(), mask_image=mask(), strength=strength, height=32, width=32
    )
    assert difference(drawn, wanted) < (1e-7 if exact else ROUNDED)
