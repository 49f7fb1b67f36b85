"""Enlarging a picture gives the latents of the reference's StableDiffusionLatentUpscalePipeline.

Everything is float64 but the reference's sigmas, and the label of a level, which is float32 in both.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import diffusers
import pytest
import torch
import transformers
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from torch import Tensor

from safelight.core.noise import start_noise
from safelight.errors import ConfigError, RequestError, WeightsError
from safelight.families.family import Prompt
from safelight.families.sd import enlarging
from safelight.families.sd.kunet import KUNetConfig
from safelight.generate.hires import Hires
from safelight.generate.pipe import Pipe, load
from safelight.generate.reproduce import request_of
from safelight.generate.request import Request
from tests.generate.scenes import mask, picture
from tests.parity.networks import difference
from tests.parity.pipelines import encoder, latents
from tests.upscaler import SHAPE, tiny_upscaler

PROMPT, NEGATIVE, STEPS, SEED = "a person with green hair", "a red hat", 4, 7
ROUNDED = 2e-5
Patch = pytest.MonkeyPatch


@cache
def ours() -> Pipe:
    pipe = load(str(tiny_upscaler()), device="cpu", threads=1)
    for module in (pipe.model.network, pipe.model.vae, *pipe.model.encoders):
        module.double()
    return pipe


@cache
def reference() -> Any:
    folder = tiny_upscaler()
    raw = json.loads((folder / "scheduler" / "scheduler_config.json").read_text("utf-8"))
    built = diffusers.StableDiffusionLatentUpscalePipeline(
        vae=diffusers.AutoencoderKL.from_pretrained(folder / "vae", torch_dtype=torch.float64),
        text_encoder=encoder(folder / "text_encoder").double(),
        tokenizer=transformers.CLIPTokenizer.from_pretrained(folder / "tokenizer"),
        unet=diffusers.UNet2DConditionModel.from_pretrained(folder / "unet", torch_dtype=torch.float64),
        scheduler=diffusers.EulerDiscreteScheduler.from_config(raw),
    )
    built.set_progress_bar_config(disable=True)
    return built


def start(edge: int = 16) -> Tensor:
    return start_noise(SEED, (4, edge, edge)).double()


def error(guidance: float, negative: str = "") -> float:
    asked = Request(PROMPT, negative=negative, steps=STEPS, guidance=guidance, seed=SEED, image=picture())
    wanted = reference()(
        PROMPT,
        image=picture(),
        num_inference_steps=STEPS,
        guidance_scale=guidance,
        negative_prompt=negative or None,
        latents=start(),
        output_type="latent",
    ).images
    return difference(latents(ours(), asked), wanted)


@pytest.fixture(autouse=True)
def _as_here(monkeypatch: Patch) -> None:
    """The autoencoder's most probable latents."""
    monkeypatch.setattr(DiagonalGaussianDistribution, "sample", lambda self, generator=None: self.mode())


@pytest.mark.parametrize(("guidance", "negative"), [(0.0, ""), (1.0, ""), (4.0, ""), (9.0, NEGATIVE)])
def test_enlarging_equals_the_reference(guidance: float, negative: str) -> None:
    assert error(guidance, negative) < ROUNDED


def _normed(right: Callable[..., Any]) -> Callable[..., Any]:
    def wrong(reader: Any, prompt: Any) -> Any:
        words = right(reader, prompt)
        return replace(words, cond=replace(words.cond, context=reader.encoder.normed(words.cond.context)))

    return wrong


def test_another_label_or_text_turns_it_red(monkeypatch: Patch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(enlarging, "called", lambda level: level)
        assert error(1.0) > 1e2 * ROUNDED, "rows of the table for logarithms"
    with monkeypatch.context() as patch:
        patch.setattr(enlarging, "encode", _normed(enlarging.encode))
        assert error(1.0) > 1e2 * ROUNDED, "the text normalised"
    with monkeypatch.context() as patch:
        smooth = partial(torch.nn.functional.interpolate, scale_factor=2, mode="bilinear")
        patch.setattr(enlarging, "F", SimpleNamespace(interpolate=lambda x, **_: smooth(x)))
        assert error(1.0) > 1e2 * ROUNDED, "the picture smoothed"
    with monkeypatch.context() as patch:
        patch.setattr(enlarging.torch, "zeros_like", torch.ones_like)
        assert error(1.0) > 1e2 * ROUNDED, "another noise of the picture"


def test_labels_and_levels_are_one_to_one() -> None:
    path = ours().model.path
    noisy, clean = path.ends
    assert noisy.t == pytest.approx(0.25 * torch.tensor(noisy.sigma / noisy.alpha).log().item())
    assert noisy.t > clean.t
    for level in (noisy, clean, path.trained(411.5), path.at_clock(2.0)):
        assert path.level(level.t) == pytest.approx(level)


def test_a_picture_comes_out_twice_as_large_and_depends_on_everything_told() -> None:
    pipe = load(str(tiny_upscaler()), device="cpu", threads=1)
    asked = Request(PROMPT, steps=2, seed=SEED, guidance=3.0, image=picture())
    drawn = [
        pipe.draw(each)[0].image
        for each in (asked, replace(asked, prompt="red"), replace(asked, image=picture(seed=1)), replace(asked, seed=8))
    ]
    assert {image.size for image in drawn} == {(64, 64)}
    assert len({image.tobytes() for image in drawn}) == 4
    wide = replace(asked, size=(96, 64))
    assert pipe.draw(wide)[0].image.size == (96, 64)


def test_a_drawn_picture_is_drawn_again_from_its_recipe() -> None:
    pipe = load(str(tiny_upscaler()), device="cpu", threads=1)
    drawn = pipe.draw(Request(PROMPT, steps=2, seed=SEED, image=picture()))[0]
    assert drawn.recipe.task == "upscale"
    again = pipe.draw(request_of(drawn.recipe, picture()))[0]
    assert again.image.tobytes() == drawn.image.tobytes()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image": None}, "an image to enlarge"),
        ({"mask": mask()}, "no mask"),
        ({"strength": 0.5}, "leave out strength"),
        ({"hires": Hires(2.0)}, "hires"),
        ({"size": (40, 64)}, "multiples of 16"),
    ],
)
def test_what_it_cannot_do_is_refused_before_anything_is_drawn(change: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        ours().settle(replace(Request(PROMPT, image=picture()), **change))


@pytest.mark.parametrize(
    ("part", "change", "message"),
    [
        ("scheduler/scheduler_config.json", {"prediction_type": "epsilon"}, "must be 'sample'"),
        ("scheduler/scheduler_config.json", {"rescale_betas_zero_snr": True}, "pure noise"),
        ("vae/config.json", {"latent_channels": 8}, "latent_channels|shape"),
    ],
)
def test_a_folder_whose_parts_do_not_fit_is_refused(
    part: str, change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    folder = tmp_path / "x2"
    shutil.copytree(tiny_upscaler(), folder)
    said = json.loads((folder / part).read_text("utf-8"))
    (folder / part).write_text(json.dumps({**said, **change}))
    with pytest.raises((ConfigError, WeightsError), match=message):
        load(str(folder), device="cpu", threads=1)


@pytest.mark.parametrize(
    ("change", "text", "channels"),
    [
        ({"cross_attention_dim": 8}, 16, 4),
        ({"time_cond_proj_dim": 100}, 16, 4),
        ({}, 16, 3),
        ({"out_channels": 4}, 16, 4),
    ],
)
def test_a_network_that_is_told_something_else_is_refused(change: dict[str, Any], text: int, channels: int) -> None:
    with pytest.raises(ConfigError, match="U-Net reads"):
        enlarging.check(Path("x2"), KUNetConfig(**{**SHAPE, **change}), text, channels)


def test_it_runs_wholly_on_meta() -> None:
    model = load(str(tiny_upscaler()), device="cpu", threads=1).model
    told = model.encode(Prompt(PROMPT, (64, 64))).cond
    model.network.to("meta")
    x, t = torch.zeros(1, 4, 16, 16, device="meta"), torch.zeros(1, device="meta")
    assert model.enlarge is not None and model.enlarge.show is not None
    said = model.predict(x, t, model.enlarge.show(told.to(x), torch.zeros(1, 4, 8, 8, device="meta")))
    assert (said.shape, said.device.type) == ((1, 4, 16, 16), "meta")
