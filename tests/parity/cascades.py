"""The reference's two pipelines of Stable Cascade around the tiny folder's weights, and our own passes, in float64."""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from typing import Any

import diffusers
import pytest
import torch
import transformers
from torch import Tensor

from safelight.core.path import Level
from safelight.core.run import Noise
from safelight.core.sample import sample
from safelight.core.sources import source
from safelight.generate import image as task
from safelight.generate.chain import SHOWN
from safelight.generate.hires import PICTURE
from safelight.generate.passes import carried
from safelight.generate.pipe import Pipe, load
from safelight.generate.request import Request
from tests.cascade import EDGE, tiny_cascade
from tests.parity.pipelines import encoder

PROMPT, NEGATIVE, STEPS, LATER, SEED = "a person with green hair", "a red hat", 4, 10, 7
EXACT = 1e-9
PAELLA = "diffusers.pipelines.deprecated.wuerstchen.modeling_paella_vq_model"


@cache
def ours() -> Pipe:
    pipe = load(str(tiny_cascade()), device="cpu", threads=1)
    for module in pipe.model.modules:
        module.double()
    return pipe


def asked(guidance: float, negative: str = "") -> Request:
    return Request(PROMPT, negative=negative, steps=STEPS, guidance=guidance, seed=SEED, size=(EDGE, EDGE))


class Listened:
    """Noise in float64, and all that was drawn of it."""

    def __init__(self, noise: Noise) -> None:
        self.noise = noise
        self.made: list[Tensor] = []

    def __call__(self, s: Level, t: Level) -> Tensor:
        self.made.append(self.noise(s, t).double())
        return self.made[-1]


def drawn(request: Request, pipe: Pipe | None = None) -> list[tuple[Tensor, list[Tensor]]]:
    """What each of our passes leaves, and the noise of its steps, but for the last, which has none."""
    pipe, left, seen, made = pipe or ours(), None, None, []
    for settled in pipe.settle(request).passes:
        model = pipe.model.after if settled.begin in (SHOWN, PICTURE) else pipe.model
        assert model is not None
        seen = left if settled.begin == SHOWN else seen
        scene = task.read(model, settled)
        scene = scene if left is None else carried(model, settled, scene, left, seen)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(task, "source", _doubled)
            job = task.job(model, settled, scene)
        noise = Listened(job.noise)
        *_, last = sample(task.evaluator(model), replace(job, noise=noise))
        left = last.x
        made.append((left, noise.made))
    return made


def _doubled(*args: Any, **told: Any) -> tuple[Tensor, Noise]:
    """The noise of a picture, that of its start in float64."""
    start, steps = source(*args, **told)
    return start.double(), steps


class InDouble(diffusers.DDPMWuerstchenScheduler):
    """The reference's scheduler, its numbers in float64.

    Attributes:
        later: steps that are left out at the noisy end, for a picture that is painted over.
    """

    later = 0

    def __init__(self) -> None:
        super().__init__()
        self.s = torch.tensor([0.008], dtype=torch.float64)
        self._init_alpha_cumprod = torch.cos(self.s / (1 + self.s) * math.pi / 2) ** 2

    def set_timesteps(self, count: int, device: Any = None) -> None:
        self.timesteps = torch.linspace(1.0, 0.0, count + 1, dtype=torch.float64)[self.later :]


def _label(network: Any, args: Any, told: dict[str, Any]) -> Any:
    """What a network calls a level is float32 here."""
    return args, {**told, "timestep_ratio": told["timestep_ratio"].float().double()}


@cache
def references() -> tuple[Any, Any]:
    decoder = tiny_cascade()
    prior = decoder.with_name("cascade-prior")
    parts = {
        "text_encoder": encoder(decoder / "text_encoder").double(),
        "tokenizer": transformers.CLIPTokenizer.from_pretrained(decoder / "tokenizer"),
        "scheduler": InDouble(),
    }
    unet = diffusers.models.StableCascadeUNet
    first = diffusers.StableCascadePriorPipeline(
        prior=unet.from_pretrained(prior / "prior", torch_dtype=torch.float64), **parts
    )
    vqgan = importlib.import_module(PAELLA).PaellaVQModel.from_pretrained(decoder / "vqgan", torch_dtype=torch.float64)
    second = diffusers.StableCascadeDecoderPipeline(
        decoder=unet.from_pretrained(decoder / "decoder", torch_dtype=torch.float64), vqgan=vqgan, **parts
    )
    for pipe, network in ((first, first.prior), (second, second.decoder)):
        pipe.set_progress_bar_config(disable=True)
        network.register_forward_pre_hook(_label, with_kwargs=True)
    return first, second


def steady(noise: list[Tensor]) -> Iterator[Tensor]:
    """Ours; what the reference draws for the last step, it multiplies by zero."""
    yield from noise[:-1]
    yield torch.ones_like(noise[-1])
