"""A tiny model that is told a picture instead of a text, in a released folder."""

from __future__ import annotations

import json
import shutil
from functools import cache
from pathlib import Path
from typing import Any

from safelight.encoders.clip_vision import ClipVision, ClipVisionConfig
from safelight.weights.save import save
from tests.models import randomise, tiny

VISION: dict[str, Any] = {
    "architectures": ["CLIPVisionModelWithProjection"],
    "model_type": "clip_vision_model",
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 12,
    "patch_size": 4,
    "projection_dim": 16,
}
PIXELS = {"size": {"shortest_edge": 14}, "crop_size": {"height": 12, "width": 12}, "image_mean": [0.5, 0.4, 0.3]}


@cache
def tiny_variations() -> Path:
    """Its folder; never change it, copy it."""
    folder = tiny("sd1").with_name("variations")
    shutil.copytree(tiny("sd1"), folder)
    for part in ("text_encoder", "tokenizer"):
        shutil.rmtree(folder / part)
    encoder = ClipVision(ClipVisionConfig.from_dict(VISION))
    randomise(encoder, seed=8)
    for part, files in (("image_encoder", {"config.json": VISION}), ("feature_extractor", {})):
        (folder / part).mkdir()
        for name, told in files.items():
            (folder / part / name).write_text(json.dumps(told))
    (folder / "feature_extractor" / "preprocessor_config.json").write_text(json.dumps(PIXELS))
    save(dict(encoder.state_dict()), folder / "image_encoder" / "model.safetensors")
    index = json.loads((folder / "model_index.json").read_text())
    index = {key: value for key, value in index.items() if key not in ("text_encoder", "tokenizer")}
    index |= {"_class_name": "StableDiffusionImageVariationPipeline"}
    index |= {"image_encoder": ["transformers", "CLIPVisionModelWithProjection"]}
    index |= {"feature_extractor": ["transformers", "CLIPImageProcessor"]}
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder
