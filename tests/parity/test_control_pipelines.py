"""Pictures drawn with control networks equal the latents of the reference's pipelines, task by task.

Everything is float64 but for what the reference keeps in float32 (see `test_pipelines`); the bars are its.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import diffusers
import pytest
import torch
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from torch import Tensor

from safelight.adapters.controlnet import use
from safelight.adapters.controlnet.checkpoints import open_control
from safelight.adapters.controlnet.use import ControlUse, Hint
from safelight.adapters.use import Span
from safelight.generate.pipe import Pipe
from safelight.generate.request import Request
from tests.adapters.nets import folder
from tests.adapters.nets import reference as network
from tests.generate.scenes import mask, picture
from tests.parity.networks import difference
from tests.parity.pipelines import config_of, latents, noise_of, ours, parts_of, plan_of, start

PROMPT, NEGATIVE, STEPS, SEED = "a person with green hair", "a red hat", 4, 7
EXACT, ENCODED, ROUNDED = 1e-9, 1e-7, 2e-5
PLACES = [f"pipeline_controlnet{task}" for task in ("", "_img2img", "_inpaint", "_sd_xl", "_sd_xl_img2img")]
PLACES += ["pipeline_controlnet_inpaint_sd_xl", "pipeline_controlnet_union_sd_xl"]


@pytest.fixture(autouse=True)
def _as_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DiagonalGaussianDistribution, "sample", lambda self, generator=None: self.mode())
    for place in PLACES:
        monkeypatch.setattr(import_module(f"diffusers.pipelines.controlnet.{place}"), "randn_tensor", noise_of)


def reference(pipeline: str, kind: str, name: str, nets: Any) -> Any:
    built = getattr(diffusers, pipeline)(controlnet=nets, scheduler=plan_of(config_of(kind, name)), **parts_of(kind))
    built.set_progress_bar_config(disable=True)
    return built


def theirs(pipe: Any, guidance: float = 4.0, steps: int = STEPS, **asked: Any) -> Tensor:
    negative = NEGATIVE if guidance != 1.0 else None
    generator = torch.Generator().manual_seed(SEED)
    said: Tensor = pipe(
        PROMPT,
        negative_prompt=negative,
        guidance_scale=guidance,
        num_inference_steps=steps,
        output_type="latent",
        generator=generator,
        **asked,
    ).images
    return said


def request(uses: list[ControlUse], guidance: float = 4.0, **asked: Any) -> Request:
    negative = NEGATIVE if guidance != 1.0 else ""
    asked = {"steps": STEPS, **asked}
    return Request(PROMPT, negative=negative, guidance=guidance, seed=SEED, adapters=uses, **asked)


def one(pipe: Pipe, kind: str, *, seed: int = 0, pooled: bool = False, hint: int = 1, **said: Any) -> ControlUse:
    control = open_control(folder(kind, seed, False, pooled), pipe.model)
    return ControlUse(control, (Hint(picture(seed=hint)),), **said)


def compared(kind: str, name: str, said: dict[str, Any], there: dict[str, Any], **fixed: Any) -> float:
    """How far a text-to-image picture with one control network is from the reference's."""
    pipe, guidance = ours(kind, config_of(kind, name)), fixed.get("guidance", 4.0)
    drawn = latents(pipe, request([one(pipe, kind, pooled=fixed.get("pooled", False), **said)], guidance))
    built = reference(
        f"StableDiffusion{'XL' if kind == 'sdxl' else ''}ControlNetPipeline",
        kind,
        name,
        network(kind, 0, False, fixed.get("pooled", False)),
    )
    return difference(drawn, theirs(built, guidance, image=picture(seed=1), latents=start(SEED), **there))


@pytest.mark.parametrize("guidance", [1.0, 4.0])
@pytest.mark.parametrize("kind", ["sd1", "sd2", "sdxl"])
def test_text_to_image(kind: str, guidance: float) -> None:
    said = {"strength": 0.7}, {"controlnet_conditioning_scale": 0.7}
    assert compared(kind, "DDIMScheduler", *said, guidance=guidance) < EXACT


@pytest.mark.parametrize("name", ["EulerDiscreteScheduler", "DPMSolverMultistepScheduler"])
def test_other_samplers(name: str) -> None:
    assert compared("sd1", name, {}, {}) < ROUNDED


@pytest.mark.parametrize(("start_", "end"), [(0.0, 0.5), (0.5, 1.0), (0.3, 0.8)])
def test_a_share_of_the_steps(start_: float, end: float) -> None:
    there = {"control_guidance_start": start_, "control_guidance_end": end}
    assert compared("sd1", "DDIMScheduler", {"span": Span(start_, end)}, there) < EXACT


@pytest.mark.parametrize("guidance", [1.0, 4.0])
@pytest.mark.parametrize("pooled", [False, True], ids=["over the grid", "averaged"])
@pytest.mark.parametrize("kind", ["sd1", "sdxl"])
def test_guessing_leaves_the_other_side_alone(kind: str, pooled: bool, guidance: float) -> None:
    said = {"guess": True, "strength": 0.8}, {"guess_mode": True, "controlnet_conditioning_scale": 0.8}
    assert compared(kind, "DDIMScheduler", *said, pooled=pooled, guidance=guidance) < EXACT


def test_a_network_that_averages_always_leaves_the_other_side_alone() -> None:
    assert compared("sd1", "DDIMScheduler", {}, {}, pooled=True) < EXACT


@pytest.mark.parametrize("kind", ["sd1", "sdxl"])
def test_several_at_once(kind: str) -> None:
    pipe = ours(kind, config_of(kind, "DDIMScheduler"))
    first, second = Span(0.0, 0.6), Span(0.3, 1.0)
    uses = [one(pipe, kind, strength=0.7, span=first), one(pipe, kind, seed=1, hint=2, strength=1.2, span=second)]
    built = reference(
        f"StableDiffusion{'XL' if kind == 'sdxl' else ''}ControlNetPipeline",
        kind,
        "DDIMScheduler",
        [network(kind), network(kind, 1)],
    )
    wanted = theirs(
        built,
        image=[picture(seed=1), picture(seed=2)],
        latents=start(SEED),
        controlnet_conditioning_scale=[0.7, 1.2],
        control_guidance_start=[0.0, 0.3],
        control_guidance_end=[0.6, 1.0],
    )
    assert difference(latents(pipe, request(uses)), wanted) < EXACT


@pytest.mark.parametrize("kind", ["sd1", "sdxl"])
def test_image_to_image(kind: str) -> None:
    pipe = ours(kind, config_of(kind, "DDIMScheduler"))
    asked = request([one(pipe, kind, span=Span(0.0, 0.7))], image=picture(), strength=0.7)
    name = f"StableDiffusion{'XL' if kind == 'sdxl' else ''}ControlNetImg2ImgPipeline"
    built = reference(name, kind, "DDIMScheduler", network(kind))
    shown = {"image": picture(), "control_image": picture(seed=1), "strength": 0.7}
    shown |= {"controlnet_conditioning_scale": 1.0, "control_guidance_end": 0.7, "guess_mode": False}
    assert difference(latents(pipe, asked), theirs(built, **shown)) < ENCODED


@pytest.mark.parametrize("kind", ["sd1", "inpaint", "sdxl"])
def test_inpainting(kind: str) -> None:
    """With a network of any kind, and with one that is shown the hole, which its control network is not."""
    pipe = ours(kind, config_of(kind, "DDIMScheduler"))
    asked = request([one(pipe, kind)], image=picture(), mask=mask(), strength=0.7)
    name = f"StableDiffusion{'XL' if kind == 'sdxl' else ''}ControlNetInpaintPipeline"
    built = reference(name, kind, "DDIMScheduler", network(kind))
    shown = {"image": picture(), "mask_image": mask(), "control_image": picture(seed=1), "strength": 0.7}
    shown |= {"height": 32, "width": 32, "controlnet_conditioning_scale": 1.0}
    assert difference(latents(pipe, asked), theirs(built, **shown)) < ENCODED


@pytest.mark.parametrize("kinds", [(3,), (1, 4)], ids=["one", "two"])
def test_a_union_of_kinds(kinds: tuple[int, ...]) -> None:
    """Without guessing, which the reference's pipeline cannot with this network (its network is compared elsewhere)."""
    pipe = ours("sdxl", config_of("sdxl", "DDIMScheduler"))
    control = open_control(folder("sdxl", union=True), pipe.model)
    asked = request([ControlUse(control, tuple(Hint(picture(seed=k), None, k, 0.7) for k in kinds))])
    built = reference("StableDiffusionXLControlNetUnionPipeline", "sdxl", "DDIMScheduler", network("sdxl", union=True))
    shown = [picture(seed=k) for k in kinds]
    wanted = theirs(
        built,
        control_image=shown,
        control_mode=list(kinds),
        latents=start(SEED),
        controlnet_conditioning_scale=0.7,
    )
    assert difference(latents(pipe, asked), wanted) < EXACT


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("weighed", lambda said, strength, *, guess: said),
        ("to_hint", lambda shown, size, channels: 2 * picture_to_hint(shown, size, channels) - 1),
        ("own", lambda rows, mine: mine),
    ],
    ids=["strength forgotten", "hint in -1 to 1", "the rows of others"],
)
def test_a_mistake_turns_the_comparison_red(monkeypatch: pytest.MonkeyPatch, name: str, wrong: Any) -> None:
    monkeypatch.setattr(use, name, wrong)
    said = {"guess": True, "strength": 0.8}, {"guess_mode": True, "controlnet_conditioning_scale": 0.8}
    assert compared("sd1", "DDIMScheduler", *said) > 1e-6


picture_to_hint = use.to_hint
