"""Pictures drawn with T2I-Adapters equal the latents of the reference's pipelines, one and several at once."""

from __future__ import annotations

from functools import cache
from typing import Any

import diffusers
import pytest
import torch
from torch import Tensor

from safelight.adapters.t2i import use as uses
from safelight.adapters.t2i.checkpoints import open_t2i
from safelight.adapters.t2i.use import T2IUse
from safelight.adapters.use import Span
from safelight.generate.request import Request
from tests.adapters.nets import t2i_folder
from tests.generate.scenes import picture
from tests.parity.networks import difference
from tests.parity.pipelines import config_of, latents, ours, parts_of, plan_of, start

PROMPT, NEGATIVE, STEPS, SEED = "a person with green hair", "a red hat", 4, 7
EXACT, ROUNDED = 1e-9, 2e-5


@cache
def network(kind: str, seed: int = 0) -> Any:
    return diffusers.T2IAdapter.from_pretrained(t2i_folder(kind, seed), torch_dtype=torch.float64)


def reference(kind: str, name: str, adapters: Any) -> Any:
    pipeline = getattr(diffusers, f"StableDiffusion{'XL' if kind == 'sdxl' else ''}AdapterPipeline")
    built = pipeline(adapter=adapters, scheduler=plan_of(config_of(kind, name)), **parts_of(kind))
    built.set_progress_bar_config(disable=True)
    return built


def theirs(pipe: Any, guidance: float, **asked: Any) -> Tensor:
    said: Tensor = pipe(
        PROMPT,
        negative_prompt=NEGATIVE if guidance != 1.0 else None,
        guidance_scale=guidance,
        num_inference_steps=STEPS,
        output_type="latent",
        latents=start(SEED),
        height=32,
        width=32,
        **asked,
    ).images
    return said


def drawn(kind: str, name: str, guidance: float, *said: dict[str, Any]) -> Tensor:
    pipe = ours(kind, config_of(kind, name))
    made = [
        T2IUse(open_t2i(t2i_folder(kind, k), pipe.model), picture(seed=k + 1), **each) for k, each in enumerate(said)
    ]
    negative = NEGATIVE if guidance != 1.0 else ""
    return latents(pipe, Request(PROMPT, negative, steps=STEPS, guidance=guidance, seed=SEED, adapters=made))


@pytest.mark.parametrize("guidance", [1.0, 4.0])
@pytest.mark.parametrize("kind", ["sd1", "sd2", "sdxl"])
def test_text_to_image(kind: str, guidance: float) -> None:
    built = reference(kind, "DDIMScheduler", network(kind))
    wanted = theirs(built, guidance, image=picture(seed=1), adapter_conditioning_scale=0.7)
    assert difference(drawn(kind, "DDIMScheduler", guidance, {"strength": 0.7}), wanted) < EXACT


def test_another_sampler() -> None:
    wanted = theirs(reference("sd1", "EulerDiscreteScheduler", network("sd1")), 4.0, image=picture(seed=1))
    assert difference(drawn("sd1", "EulerDiscreteScheduler", 4.0, {}), wanted) < ROUNDED


@pytest.mark.parametrize("kind", ["sd1", "sdxl"])
def test_several_at_once_are_added(kind: str) -> None:
    """At strengths that float32 holds, in which the reference has them."""
    built = reference(kind, "DDIMScheduler", diffusers.MultiAdapter([network(kind), network(kind, 1)]))
    shown = [picture(seed=1), picture(seed=2)]
    wanted = theirs(built, 4.0, image=shown, adapter_conditioning_scale=[0.5, 1.25])
    found = drawn(kind, "DDIMScheduler", 4.0, {"strength": 0.5}, {"strength": 1.25})
    assert difference(found, wanted) < EXACT


def test_the_first_share_of_the_steps() -> None:
    built = reference("sdxl", "DDIMScheduler", network("sdxl"))
    wanted = theirs(built, 4.0, image=picture(seed=1), adapter_conditioning_factor=0.5)
    assert difference(drawn("sdxl", "DDIMScheduler", 4.0, {"span": Span(0.0, 0.5)}), wanted) < EXACT


def test_a_mistake_turns_the_comparison_red(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = theirs(reference("sdxl", "DDIMScheduler", network("sdxl")), 1.0, image=picture(seed=1))
    right = uses.to_hint
    monkeypatch.setattr(uses, "to_hint", lambda shown, size, channels: 2 * right(shown, size, channels) - 1)
    assert difference(drawn("sdxl", "DDIMScheduler", 1.0, {}), wanted) > 1e-6
