"""Put the trained parts together as a released Stable Diffusion folder, in half precision, with a card of its own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from safelight import __version__
from safelight.core.path import VP
from safelight.figurines.render import PORTRAIT
from safelight.train.figurines import portraits
from safelight.train.figurines.autoencoder import preview_matrix
from safelight.train.figurines.denoising import PREDICTIONS
from safelight.train.figurines.finished import AVERAGE, cached_latents, load_text, load_tokenizer, load_vae, needed
from safelight.train.figurines.plan import Plan
from safelight.weights.load import read
from safelight.weights.save import make_folder, save, write

PARTS = {
    "scheduler": ["diffusers", "DDIMScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}
ABSENT = ("feature_extractor", "image_encoder", "safety_checker")
CAMERA = {
    **{name: PORTRAIT[name] for name in ("azimuth", "elevation", "distance", "fov")},
    "target_z": PORTRAIT["target"][2],
}
"""`safelight.figurines.render.PORTRAIT` in numbers that a recipe can hold: degrees, and lengths in the world."""


def export(run: Path, plan: Plan, folder: Path, card: Mapping[str, Any]) -> Path:
    """Write the model of a finished run.

    Args:
        folder: made if missing; files there are replaced.
        card: what people should know of the model; shown by ``safelight models``.

    Returns:
        ``folder``.

    Raises:
        CheckpointError: a stage of the run is missing; says which. FileError: a file cannot be written.
    """
    network = read(needed(run / "unet" / AVERAGE, "train the U-Net"))
    text, vae = load_text(run, plan, load_tokenizer(run)), load_vae(run, plan)
    latents = cached_latents(run, plan)
    scale = float(1 / latents.std())
    unet = plan.unet.config(latents.shape[1], latents.shape[2], plan.words.width)
    halve(folder / "unet" / "diffusion_pytorch_model.safetensors", network)
    halve(folder / "vae" / "diffusion_pytorch_model.safetensors", state(vae))
    halve(folder / "text_encoder" / "model.safetensors", state(text))
    write_json(folder / "unet" / "config.json", {"_class_name": "UNet2DConditionModel", **asdict(unet)})
    vae_config = asdict(plan.vae.config(plan.data.size, scale))
    write_json(folder / "vae" / "config.json", {"_class_name": "AutoencoderKL", **vae_config})
    text_config = asdict(text.config)
    del text_config["projection"]
    heading = {"architectures": ["CLIPTextModel"], "model_type": "clip_text_model"}
    write_json(folder / "text_encoder" / "config.json", {**heading, **text_config})
    for file in sorted((run / "tokenizer").iterdir()):
        put(folder / "tokenizer" / file.name, file.read_bytes())
    write_json(folder / "scheduler" / "scheduler_config.json", scheduler(plan.path, plan.unet.prediction))
    nothing = {name: [None, None] for name in ABSENT}
    index = {"_class_name": "StableDiffusionPipeline", **PARTS, **nothing, "requires_safety_checker": False}
    write_json(folder / "model_index.json", index)
    notes = {
        "card": dict(card),
        "defaults": {"steps": 20, "guidance": 3.0},
        "camera": CAMERA,
        "vocabulary": "figurines",
        "preview": preview_matrix(latents * scale, portraits.load(run / "data")),
        "made_by": f"safelight {__version__}",
    }
    write_json(folder / "safelight.json", notes)
    return folder


def scheduler(path: VP, prediction: str) -> dict[str, Any]:
    """The released form of a noise path: DDIM over trailing levels, from pure noise where it is defined.

    Args:
        prediction: of the network, one of ``denoising.PREDICTIONS``.
    """
    return {
        "_class_name": "DDIMScheduler",
        "num_train_timesteps": path.steps,
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "rescale_betas_zero_snr": path.ends[0].alpha == 0.0,
        "timestep_spacing": "trailing",
        "prediction_type": PREDICTIONS[prediction],
        "clip_sample": False,
        "set_alpha_to_one": True,
        "steps_offset": 0,
        "thresholding": False,
    }


def state(module: nn.Module) -> dict[str, Tensor]:
    """A module's tensors by name."""
    return {name: tensor.detach() for name, tensor in module.state_dict().items()}


def halve(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Save tensors in half precision; FileError where that cannot be."""
    make_folder(path.parent)
    save({name: tensor.to(torch.float16) for name, tensor in tensors.items()}, path)


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Indented JSON, whole or not at all; FileError where that cannot be."""
    put(path, (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode())


def put(path: Path, data: bytes) -> None:
    """A file, whole or not at all, in a folder that is made if missing; FileError where that cannot be."""
    make_folder(path.parent)
    write(path, [data])
