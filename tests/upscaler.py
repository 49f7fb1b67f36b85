"""A tiny x2 latent upscaler with random weights in a released folder, around the text encoder and autoencoder of SD."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from safelight.families.sd.enlarging import SILENCE
from safelight.families.sd.kunet import CROSS_DOWN, CROSS_UP, DOWN, FIXED, UP, KUNet, KUNetConfig
from safelight.weights.save import save
from tests.models import randomise, scheduler, tiny

TEXT = 16
"""Width of the tiny text encoder."""
SHAPE: dict[str, Any] = {
    "block_out_channels": (32, 64, 64),
    "down_block_types": (DOWN, CROSS_DOWN, CROSS_DOWN),
    "up_block_types": (CROSS_UP, CROSS_UP, UP),
    "layers_per_block": 1,
    "attention_head_dim": 16,
    "cross_attention_dim": TEXT,
    "time_cond_proj_dim": SILENCE + TEXT,
}
DEFINED = ("act_fn", "conv_in_kernel", "conv_out_kernel", "mid_block_type", "norm_num_groups", "time_embedding_type")
"""What a released file says beside the sizes."""
MORE = ("resnet_time_scale_shift", "timestep_post_act")
SAMPLE = {"prediction_type": "sample", "timestep_spacing": "linspace"}


@cache
def tiny_upscaler() -> Path:
    """The folder; never change it, copy it."""
    base = tiny("sd1")
    folder = base.with_name("x2")
    shutil.copytree(base, folder)
    (folder / "safelight.json").unlink()
    shutil.rmtree(folder / "unet")
    (folder / "unet").mkdir()
    network = KUNet(KUNetConfig(**SHAPE))
    randomise(network, seed=3)
    save(dict(network.state_dict()), folder / "unet" / "diffusion_pytorch_model.safetensors")
    said = {key: FIXED[key][0] for key in (*DEFINED, *MORE)}
    _json(folder / "unet" / "config.json", {"_class_name": "UNet2DConditionModel", **asdict(network.config), **said})
    plan = scheduler("sample", "EulerDiscreteScheduler")
    plan = {key: value for key, value in plan.items() if key not in ("clip_sample", "set_alpha_to_one")}
    _json(folder / "scheduler" / "scheduler_config.json", {**plan, **SAMPLE})
    index = json.loads((folder / "model_index.json").read_text("utf-8"))
    index = {key: value for key, value in index.items() if key != "safety_checker"}
    index |= {"_class_name": "StableDiffusionLatentUpscalePipeline", "scheduler": ["diffusers", plan["_class_name"]]}
    _json(folder / "model_index.json", index)
    return folder


def _json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=1), encoding="utf-8")
