"""The reference's own pipeline, with a generator of its own from the first number on, gives what our kind gives."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import pytest
import torch

from safelight.generate.request import Request
from tests.parity.networks import difference
from tests.parity.pipelines import config_of, latents, noise_of, ours, reference

PROMPT, STEPS = "a person with green hair", 5


@pytest.mark.parametrize("eta", [1.0, 0.4])
@pytest.mark.parametrize("seed", [7, 2**40])
def test_a_generator_of_diffusers_is_followed_through_every_step(
    seed: int, eta: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in ("pipelines.stable_diffusion.pipeline_stable_diffusion", "schedulers.scheduling_ddim"):
        monkeypatch.setattr(import_module(f"diffusers.{place}"), "randn_tensor", _drawn)
    config = config_of("sd1", "DDIMScheduler")
    request = Request(PROMPT, steps=STEPS, guidance=3.0, seed=seed, sampler="ddim", options={"eta": eta})
    kinds = {kind: Request(**{**vars(request), "noise": kind}) for kind in ("diffusers", "fresh")}
    drawn = {kind: latents(ours("sd1", config), asked) for kind, asked in kinds.items()}
    pipe = reference("StableDiffusionPipeline", "sd1", config)
    wanted = pipe(
        PROMPT,
        num_inference_steps=STEPS,
        guidance_scale=3.0,
        eta=eta,
        output_type="latent",
        generator=[torch.Generator().manual_seed(seed)],
        height=32,
        width=32,
    ).images
    assert difference(drawn["diffusers"], wanted) < 1e-6
    assert difference(drawn["fresh"], wanted) > 0.1


def _drawn(shape: tuple[int, ...], generator: Any, device: Any, dtype: torch.dtype, **_: Any) -> torch.Tensor:
    """A draw in float32 of the only picture's generator."""
    return noise_of(shape, generator[0] if isinstance(generator, list) else generator, device, dtype)
