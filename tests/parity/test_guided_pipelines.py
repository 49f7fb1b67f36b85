"""Perturbed attention, self-attention guidance and distilled guidance give the latents of the reference's pipelines.

All in float64. The reference's blur and its embedding of the scale are float32, which sets those bars.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

from safelight.generate.guiding import Rule
from safelight.generate.request import Request
from tests.parity.networks import difference
from tests.parity.pipelines import config_of, latents, ours, reference, start

PROMPT, NEGATIVE, STEPS, SEED = "a person with green hair", "a red hat", 4, 7
DDIM = "DDIMScheduler"


def theirs(pipe: Any, **asked: Any) -> torch.Tensor:
    asked |= {"num_inference_steps": STEPS, "output_type": "latent", "latents": start(SEED)}
    said: torch.Tensor = pipe(PROMPT, **asked).images
    return said


def mine(kind: str, rule: Rule | None, guidance: float, rescale: float = 0.0) -> torch.Tensor:
    negative = NEGATIVE if guidance != 1.0 and kind != "lcm" else ""
    request = Request(PROMPT, negative=negative, steps=STEPS, guidance=guidance, rescale=rescale, seed=SEED)
    pipe = ours(kind, config_of(kind, DDIM))
    plain = latents(pipe, request)
    if rule is None:
        return plain
    drawn = latents(pipe, Request(**{**vars(request), "rules": (rule,)}))
    assert difference(drawn, plain) > 1e-2, "the rule does something"
    return drawn


# The reference rescales beside classifier-free guidance only.
@pytest.mark.parametrize(
    ("kind", "guidance", "layers", "rescale"),
    [
        ("sd1", 1.0, "mid", 0.0),
        ("sd1", 4.0, "down_blocks.0+mid_block", 0.0),
        ("sd2", 4.0, "mid", 0.6),
        ("sdxl", 1.0, "mid", 0.0),
        ("sdxl", 4.0, "down_blocks.1", 0.0),
    ],
)
def test_perturbed_attention(kind: str, guidance: float, layers: str, rescale: float) -> None:
    drawn = mine(kind, Rule("pag", {"scale": 2.5, "layers": layers}), guidance, rescale)
    xl = "XL" if kind == "sdxl" else ""
    pipe = reference(f"StableDiffusion{xl}PAGPipeline", kind, config_of(kind, DDIM))
    pipe.set_pag_applied_layers([name if name != "mid" else "mid_block" for name in layers.split("+")])
    asked = {"guidance_scale": guidance, "pag_scale": 2.5, "guidance_rescale": rescale}
    negative = NEGATIVE if guidance != 1.0 else None
    assert difference(drawn, theirs(pipe, negative_prompt=negative, **asked)) < 1e-9


@pytest.mark.parametrize("guidance", [1.0, 4.0])
@pytest.mark.parametrize("kind", ["sd1", "sd2"])
def test_self_attention_guidance(kind: str, guidance: float) -> None:
    drawn = mine(kind, Rule("sag", {"scale": 0.75}), guidance)
    pipe = reference("StableDiffusionSAGPipeline", kind, config_of(kind, DDIM))
    negative = NEGATIVE if guidance != 1.0 else None
    assert difference(drawn, theirs(pipe, guidance_scale=guidance, sag_scale=0.75, negative_prompt=negative)) < 1e-6


@pytest.mark.parametrize("guidance", [1.0, 3.0, 8.5])
def test_a_network_that_guidance_was_distilled_into_is_told_its_scale(guidance: float) -> None:
    drawn = mine("lcm", None, guidance)
    pipe = reference("StableDiffusionPipeline", "lcm", config_of("lcm", DDIM))
    assert difference(drawn, theirs(pipe, guidance_scale=guidance)) < 1e-4
    assert difference(drawn, mine("lcm", None, guidance + 1.0)) > 1e-2
