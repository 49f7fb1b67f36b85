"""Distilled models draw what the reference draws: LCM, Turbo, Lightning, and Hyper or TCD, by their settings.

Everything is float64 but for the reference's tables; the noise of the steps is ours, in the order in which they ask.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from itertools import pairwise
from typing import Any

import pytest
import torch
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from torch import Tensor

from safelight.generate import image as task
from safelight.generate.pipe import Pipe
from safelight.generate.request import Request
from tests.generate.scenes import picture
from tests.parity.networks import difference
from tests.parity.pipelines import config_of, latents, noise_of, ours, reference, start

PROMPT, SEED, ROUNDED = "a person with green hair", 7, 2e-5
LCM = {
    "original_inference_steps": 50,
    "timestep_scaling": 10.0,
    "set_alpha_to_one": True,
    "thresholding": False,
    "rescale_betas_zero_snr": False,
    "trained_betas": None,
}
TRAILING = {"timestep_spacing": "trailing", "set_alpha_to_one": None, "clip_sample": None}
Queue = Callable[[str, Pipe, Request], None]


@pytest.fixture
def queue(monkeypatch: pytest.MonkeyPatch) -> Queue:
    """Make a scheduler of the reference draw, step after step, what our run of a request draws."""
    monkeypatch.setattr(DiagonalGaussianDistribution, "sample", lambda self, generator=None: self.mode())

    def lay(scheduler: str, pipe: Pipe, request: Request) -> None:
        settled = pipe.settle(request)
        job = task.job(pipe.model, settled, task.read(pipe.model, settled))
        drawn = iter([job.noise(s, t) for s, t in pairwise(settled.levels) if t.sigma])

        def noise(shape: Any, generator: Any = None, device: Any = None, dtype: Any = None) -> Tensor:
            return next(drawn, torch.zeros(shape)).to(dtype)

        monkeypatch.setattr(import_module(f"diffusers.schedulers.{scheduler}"), "randn_tensor", noise)

    return lay


def theirs(pipe: Any, steps: int, **asked: Any) -> Tensor:
    generator = torch.Generator().manual_seed(SEED)
    said: Tensor = pipe(PROMPT, num_inference_steps=steps, output_type="latent", generator=generator, **asked).images
    return said


@pytest.mark.parametrize("steps", [1, 2, 4, 8])
@pytest.mark.parametrize("guidance", [1.5, 8.5])
def test_latent_consistency(guidance: float, steps: int, queue: Queue) -> None:
    config = config_of("lcm", "LCMScheduler", LCM)
    pipe = ours("lcm", config)
    request = Request(PROMPT, steps=steps, guidance=guidance, seed=SEED)
    queue("scheduling_lcm", pipe, request)
    wanted = theirs(
        reference("LatentConsistencyModelPipeline", "lcm", config), steps, guidance_scale=guidance, latents=start(SEED)
    )
    assert difference(latents(pipe, request), wanted) < ROUNDED


def test_latent_consistency_says_its_own_settings() -> None:
    told, merged = (ours(kind, config_of(kind, "LCMScheduler", LCM)) for kind in ("lcm", "sd1"))
    for pipe, guidance in ((told, 8.5), (merged, 1.0)):
        assert (pipe.model.defaults.steps, pipe.model.defaults.guidance) == (4, guidance)
        assert pipe.settle(PROMPT).sampler.sampler.name == "lcm_boundary"


@pytest.mark.parametrize("steps", [1, 4])
@pytest.mark.parametrize("kind", ["sd2", "sdxl"])
def test_turbo(kind: str, steps: int, queue: Queue) -> None:
    config = config_of(kind, "EulerAncestralDiscreteScheduler", TRAILING)
    pipe = ours(kind, config)
    request = Request(PROMPT, steps=steps, guidance=1.0, seed=SEED)
    queue("scheduling_euler_ancestral_discrete", pipe, request)
    family = "StableDiffusionXL" if kind == "sdxl" else "StableDiffusion"
    built = reference(f"{family}Pipeline", kind, config)
    wanted = theirs(built, steps, guidance_scale=0.0, latents=start(SEED))
    assert difference(latents(pipe, request), wanted) < ROUNDED
    assert pipe.settle(request).levels[0].t == 999.0


def test_turbo_over_a_picture(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    module = "diffusers.pipelines.stable_diffusion_xl.pipeline_stable_diffusion_xl_img2img"
    monkeypatch.setattr(import_module(module), "randn_tensor", noise_of)
    config = config_of("sdxl", "EulerAncestralDiscreteScheduler", TRAILING)
    pipe = ours("sdxl", config)
    request = Request(PROMPT, steps=4, guidance=1.0, seed=SEED, image=picture(), strength=0.5)
    queue("scheduling_euler_ancestral_discrete", pipe, request)
    built = reference("StableDiffusionXLImg2ImgPipeline", "sdxl", config)
    wanted = theirs(built, 4, guidance_scale=0.0, image=picture(), strength=0.5)
    assert difference(latents(pipe, request), wanted) < ROUNDED


@pytest.mark.parametrize("steps", [1, 2, 4, 8])
def test_lightning(steps: int) -> None:
    config = config_of("sdxl", "EulerDiscreteScheduler", TRAILING)
    drawn = latents(ours("sdxl", config), Request(PROMPT, steps=steps, guidance=1.0, seed=SEED))
    built = reference("StableDiffusionXLPipeline", "sdxl", config)
    assert difference(drawn, theirs(built, steps, guidance_scale=0.0, latents=start(SEED))) < ROUNDED


@pytest.mark.parametrize("steps", [1, 4])
@pytest.mark.parametrize("eta", [0.3, 1.0])
def test_hyper_and_tcd(eta: float, steps: int, queue: Queue) -> None:
    config = config_of("sd1", "TCDScheduler", LCM)
    pipe = ours("sd1", config)
    request = Request(PROMPT, steps=steps, guidance=1.0, seed=SEED, options={"eta": eta})
    queue("scheduling_tcd", pipe, request)
    built = reference("StableDiffusionPipeline", "sd1", config)
    wanted = theirs(built, steps, guidance_scale=0.0, eta=eta, latents=start(SEED))
    assert difference(latents(pipe, request), wanted) < ROUNDED
