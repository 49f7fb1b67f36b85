"""A tiny Zero123++ with random weights, in the layout of the released folder."""

from __future__ import annotations

import json
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import torch

from safelight.encoders.clip_vision import ClipVision, ClipVisionConfig
from safelight.weights.save import save
from tests.models import randomise, tiny
from tests.variations import PIXELS, VISION

SEER: dict[str, Any] = {**VISION, "hidden_act": "gelu"}
SHOWN: dict[str, Any] = {
    "size": {"shortest_edge": 24},
    "crop_size": {"height": 24, "width": 24},
    "image_mean": [0.5] * 3,
    "image_std": [0.8] * 3,
}
PLAN: dict[str, Any] = {
    "_class_name": "EulerAncestralDiscreteScheduler",
    "beta_schedule": "linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "num_train_timesteps": 1000,
    "prediction_type": "v_prediction",
    "steps_offset": 1,
    "timestep_spacing": "linspace",
}
RAMP = [round(0.02 * place - 0.5, 2) for place in range(77)]


@cache
def tiny_zero123plus() -> Path:
    """The folder; never change it, copy it."""
    folder = tiny("sd2").with_name("zero123plus")
    shutil.copytree(tiny("sd2"), folder)
    encoder = ClipVision(ClipVisionConfig.from_dict(SEER))
    randomise(encoder, seed=21)
    (folder / "vision_encoder").mkdir()
    save(dict(encoder.state_dict()), folder / "vision_encoder" / "model.safetensors")
    _json(folder / "vision_encoder" / "config.json", SEER)
    for part, told in (("feature_extractor_clip", PIXELS), ("feature_extractor_vae", SHOWN)):
        (folder / part).mkdir()
        _json(folder / part / "preprocessor_config.json", told)
    _json(folder / "scheduler" / "scheduler_config.json", PLAN)
    index = json.loads((folder / "model_index.json").read_text())
    index |= {"_class_name": "Zero123PlusPipeline", "ramping_coefficients": RAMP}
    index |= {"vision_encoder": ["transformers", "CLIPVisionModelWithProjection"]}
    index |= {
        part: ["transformers", "CLIPImageProcessor"] for part in ("feature_extractor_clip", "feature_extractor_vae")
    }
    index |= {"scheduler": ["diffusers", PLAN["_class_name"]]}
    _json(folder / "model_index.json", index)
    return folder


def noise(shape: tuple[int, ...], seed: int) -> torch.Tensor:
    """Unit normal [1, *shape], float64."""
    return torch.randn((1, *shape), generator=torch.Generator().manual_seed(seed)).double()


def _json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=1), encoding="utf-8")
