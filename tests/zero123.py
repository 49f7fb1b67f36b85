"""A tiny Zero123 with random weights, as a folder of a diffusers port and as the original single file."""

from __future__ import annotations

import json
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from safelight.families.sd.model import UNet, UNetConfig
from safelight.weights.load import read
from safelight.weights.moves import to_theirs
from safelight.weights.save import save
from safelight.weights.variants import tables_of
from tests.models import UNETS, randomise
from tests.variations import VISION, tiny_variations

UNET: dict[str, Any] = {**UNETS["sd1"], "in_channels": 8, "attention_head_dim": 8}
WEIGHTS = "diffusion_pytorch_model.safetensors"
CLIPS_REST = ("positional_embedding", "text_projection", "token_embedding.weight", "ln_final.weight", "ln_final.bias")
"""What is left of CLIP's text encoder in the original file, beside its temperature."""


@cache
def tiny_zero123() -> Path:
    """The folder; never change it, copy it."""
    folder = tiny_variations().with_name("zero123")
    shutil.copytree(tiny_variations(), folder)
    network = UNet(UNetConfig(**UNET))
    randomise(network, seed=11)
    save(dict(network.state_dict()), folder / "unet" / WEIGHTS)
    _json(folder / "unet" / "config.json", {"_class_name": "UNet2DConditionModel", **UNET})
    (folder / "cc_projection").mkdir()
    layer = torch.nn.Linear(VISION["projection_dim"] + 4, UNET["cross_attention_dim"])
    randomise(layer, seed=12)
    tensors = {f"projection.{name}": value for name, value in layer.state_dict().items()}
    save(tensors, folder / "cc_projection" / WEIGHTS)
    _json(folder / "cc_projection" / "config.json", {"_class_name": "CCProjection"})
    index = json.loads((folder / "model_index.json").read_text())
    index |= {"_class_name": "Zero1to3StableDiffusionPipeline", "cc_projection": ["pipeline_zero1to3", "CCProjection"]}
    _json(folder / "model_index.json", index)
    return folder


def original(folder: Path) -> dict[str, Tensor]:
    """The tensors of the original single file, with what training and CLIP's text encoder leave in it."""
    variant, tables = tables_of("sd").variant("zero123"), tables_of("sd").keys.parts
    tensors: dict[str, Tensor] = {}
    for part in variant.parts:
        ours = read(next((folder / part.name).glob("*.safetensors")))
        plan = tables[part.table].to_theirs(ours)
        assert not plan.left, plan.left
        tensors |= to_theirs(ours, plan.moves, part.prefixes[0])
    tensors |= {f"cond_stage_model.model.{name}": torch.zeros(3) for name in CLIPS_REST}
    tensors |= {"cond_stage_model.model.logit_scale": torch.zeros(()), "model_ema.decay": torch.zeros(())}
    return {name: tensor.contiguous() for name, tensor in tensors.items()}


def _json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=1), encoding="utf-8")
