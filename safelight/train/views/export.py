"""Put the trained parts together as a released folder, in half precision, that `safelight.multiview.model` loads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safelight import __version__
from safelight.train.figurines.export import halve, scheduler, state, write_json
from safelight.train.figurines.finished import AVERAGE, load_vae, needed
from safelight.train.views.begin import UNET
from safelight.train.views.plan import Plan
from safelight.train.views.stages import cached_latents
from safelight.weights.load import read


def export(run: Path, plan: Plan, folder: Path, card: Mapping[str, Any]) -> Path:
    """Write the model of a finished run.

    Where the run showed normals and the plan shows none, what read them is left out: hidden normals are zeros.

    Args:
        folder: made if missing; files there are replaced.
        card: what people should know of the model.

    Returns:
        ``folder``.

    Raises:
        CheckpointError: a stage of the run is missing; says which. FileError: a file cannot be written.
    """
    network = read(needed(run / "views" / AVERAGE, "train the U-Net"))
    pictures = cached_latents(run, plan)["pictures"]
    unet = plan.views.config(pictures.shape[2], pictures.shape[3])
    tensors = {name.removeprefix(UNET): tensor for name, tensor in network.items()}
    tensors["conv_in.weight"] = tensors["conv_in.weight"][:, : unet.in_channels]  # normals stand last
    halve(folder / "unet" / "diffusion_pytorch_model.safetensors", tensors)
    halve(folder / "vae" / "diffusion_pytorch_model.safetensors", state(load_vae(run, plan)))
    write_json(folder / "unet" / "config.json", {"_class_name": "UNet2DConditionModel", **asdict(unet)})
    vae = plan.vae.config(plan.data.size, float(1 / pictures.std()))
    write_json(folder / "vae" / "config.json", {"_class_name": "AutoencoderKL", **asdict(vae)})
    write_json(folder / "scheduler" / "scheduler_config.json", scheduler(plan.path, plan.views.prediction))
    named = {"views": plan.views.preset, "changes": plan.views.changes(plan.data.size)}
    notes = {"card": dict(card), **named, "made_by": f"safelight {__version__}"}
    write_json(folder / "safelight.json", notes)
    return folder
