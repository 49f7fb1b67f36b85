"""The way up from a picture is that of diffusers' DDIMInverseScheduler around the same network, to rounding."""

from __future__ import annotations

import diffusers
import pytest
import torch

from safelight.core.path import vp_scaled_linear
from safelight.generate import image as task
from safelight.generate.request import Request
from tests.generate.scenes import picture
from tests.parity.networks import difference
from tests.parity.pipelines import config_of, latents, ours, reference

PROMPT, STEPS = "a person with green hair", 8


@pytest.mark.parametrize(("strength", "run"), [(1.0, 8), (0.5, 4)])
@pytest.mark.parametrize("kind", ["sd1", "sd2"])  # predicting eps and v
def test_the_way_up_is_equal(kind: str, strength: float, run: int) -> None:
    config = config_of(kind, "DDIMScheduler")
    pipe = ours(kind, config)
    request = Request("a red hat", invert=PROMPT, image=picture(), steps=STEPS, strength=strength, guidance=4.0)
    up, _ = pipe.settle(request).passes
    got = latents(pipe, up)

    known = task.read(pipe.model, up).known
    assert known is not None
    whole = reference("StableDiffusionPipeline", kind, config)
    plan = diffusers.DDIMInverseScheduler.from_config(config)
    plan.alphas_cumprod = torch.tensor(vp_scaled_linear().alphas_cumprod, dtype=torch.float64)
    plan.initial_alpha_cumprod = plan.alphas_cumprod[0]
    plan.set_timesteps(STEPS)
    with torch.no_grad():
        x, text = known.double(), whole.encode_prompt(PROMPT, "cpu", 1, False)[0]
        for t in plan.timesteps[:run]:
            x = plan.step(whole.unet(x, t, encoder_hidden_states=text).sample, t, x).prev_sample
    assert difference(got, x) < 1e-9
    assert difference(got, known.double()) > 0.1
