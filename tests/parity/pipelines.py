"""The reference's pipelines around the weights of a tiny folder, and our own latents of the same request in float64."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from torch import Tensor

from safelight.core.constrain import Keep
from safelight.core.noise import start_noise
from safelight.core.path import vp_scaled_linear
from safelight.core.sample import sample
from safelight.generate import image as task
from safelight.generate.passes import carried
from safelight.generate.pipe import Pipe, load
from safelight.generate.request import Request
from safelight.generate.settle import Settled
from safelight.weights.load import read
from tests.models import PREDICTIONS, scheduler, tiny

SCHEDULERS: dict[str, dict[str, Any]] = {
    "DDIMScheduler": {},
    "EulerDiscreteScheduler": {"timestep_spacing": "linspace", "set_alpha_to_one": None, "clip_sample": None},
    "DPMSolverMultistepScheduler": {"set_alpha_to_one": None, "clip_sample": None},
}
ZERO_SNR = {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing", "set_alpha_to_one": True, "steps_offset": 0}


def config_of(kind: str, name: str, change: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """A ``scheduler_config.json``; keys that the class does not have are left out."""
    raw = {**scheduler(PREDICTIONS.get(kind, "epsilon"), name), **SCHEDULERS.get(name, {}), **(change or {})}
    return {key: value for key, value in raw.items() if value is not None}


@cache
def _folder(kind: str) -> Path:
    place = tiny(kind).with_name(f"{kind}-elsewhere")
    shutil.copytree(tiny(kind), place)
    return place


def ours(kind: str, config: Mapping[str, Any]) -> Pipe:
    """Our pipe of a tiny model with another scheduler, in float64."""
    (_folder(kind) / "scheduler/scheduler_config.json").write_text(json.dumps(config))
    pipe = load(str(_folder(kind)), device="cpu", threads=1)
    for module in (pipe.model.network, pipe.model.vae, *pipe.model.encoders):
        module.double()
    return pipe


def latents(pipe: Pipe, request: Request | Settled) -> Tensor:
    """The latents of a request, with the state in float64 too."""
    settled = pipe.settle(request) if isinstance(request, Request) else request
    job = task.job(pipe.model, settled, task.read(pipe.model, settled))
    keep = job.constraint
    if isinstance(keep, Keep):
        keep = Keep(keep.known.double(), keep.mask.double(), keep.noise.double())
    *_, last = sample(task.evaluator(pipe.model), replace(job, x=job.x.double(), constraint=keep))
    return last.x


def chained(pipe: Pipe, refiner: Pipe, request: Request) -> Tensor:
    """The same where another pipe takes over."""
    first = replace(pipe, refiner=refiner).settle(request)
    assert first.then is not None
    left, scene = latents(pipe, first), task.read(refiner.model, first.then)
    job = task.job(refiner.model, first.then, carried(refiner.model, first.then, scene, left))
    *_, last = sample(task.evaluator(refiner.model), job)
    return last.x


@cache
def parts_of(kind: str) -> dict[str, Any]:
    """The reference's networks and tokenizers, in float64."""
    folder = tiny(kind)
    parts: dict[str, Any] = {
        "unet": diffusers.UNet2DConditionModel.from_pretrained(folder / "unet", torch_dtype=torch.float64),
        "vae": diffusers.AutoencoderKL.from_pretrained(folder / "vae", torch_dtype=torch.float64),
    }
    for name in sorted(path.name for path in folder.glob("text_encoder*")):
        parts[name] = encoder(folder / name).double()
        tokenizer = name.replace("text_encoder", "tokenizer")
        parts[tokenizer] = transformers.CLIPTokenizer.from_pretrained(folder / tokenizer)
    if kind == "refiner":
        parts |= {"text_encoder": None, "tokenizer": None, "requires_aesthetics_score": True}
        parts |= {"force_zeros_for_empty_prompt": False}
    if "text_encoder_2" not in parts:
        parts |= {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    return parts


def plan_of(config: Mapping[str, Any]) -> Any:
    """The reference's scheduler; DDIM, which keeps one table, has it in float64."""
    plan = getattr(diffusers, config["_class_name"]).from_config(dict(config))
    if config["_class_name"] == "DDIMScheduler" and not config.get("rescale_betas_zero_snr"):
        plan.alphas_cumprod = torch.tensor(vp_scaled_linear().alphas_cumprod, dtype=torch.float64)
        plan.final_alpha_cumprod = plan.alphas_cumprod[0]
    return plan


def reference(pipeline: str, kind: str, config: Mapping[str, Any]) -> Any:
    """The reference's pipeline of the same weights in float64."""
    built = getattr(diffusers, pipeline)(scheduler=plan_of(config), **parts_of(kind))
    built.set_progress_bar_config(disable=True)
    return built


def encoder(folder: Path) -> Any:
    """A text encoder of the reference, with the weights of a folder."""
    raw = json.loads((folder / "config.json").read_text("utf-8"))
    config = transformers.CLIPTextConfig(**raw)
    config._attn_implementation = "sdpa"  # the eager form computes the softmax in float32
    kind = getattr(transformers, raw["architectures"][0])
    built = kind(config)
    weights = read(folder / "model.safetensors")
    if kind is transformers.CLIPTextModel:  # this version of the reference dropped the prefix that released files have
        weights = {name.removeprefix("text_model."): tensor for name, tensor in weights.items()}
    built.load_state_dict(weights)
    return built.eval()


def noise_of(shape: tuple[int, ...], generator: torch.Generator, device: Any, dtype: torch.dtype) -> Tensor:
    """What the reference draws in float32, whatever the format it computes in; stands in for its ``randn_tensor``."""
    return torch.randn(shape, generator=generator).to(dtype)


def start(seed: int) -> Tensor:
    """The noise of a seed for a tiny model, in float64."""
    return start_noise(seed, (4, 8, 8)).double()
