"""A tiny Stable Cascade with random weights: the decoder's released folder, and its prior's beside it.

Pictures are 128 x 128 pixels, what the prior draws 3 x 3 places, latents 32 x 32.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from safelight.encoders.clip_vision import ClipVision, ClipVisionConfig
from safelight.families.cascade.model import ATTENTION, RES, TIME, CascadeConfig, CascadeUNet
from safelight.vae.stage_a import StageA, StageAConfig
from safelight.weights.save import save
from tests.models import randomise, tiny
from tests.variations import PIXELS, VISION

EDGE = 128
POOLED = 12
"""Width of the projected text of ``tiny("sdxl")``'s second encoder; its text is 16 wide."""
SHAPE: dict[str, Any] = {"timestep_ratio_embedding_dim": 16, "conditioning_dim": 16, "clip_seq": 2}
PRIOR: dict[str, Any] = {
    **SHAPE,
    "block_out_channels": (16, 16),
    "num_attention_heads": (2, 2),
    "down_num_layers_per_block": (1, 1),
    "up_num_layers_per_block": (1, 1),
    "clip_text_in_channels": 16,
    "clip_text_pooled_in_channels": POOLED,
    "clip_image_in_channels": 8,
    "switch_level": (False,),
}
DECODER: dict[str, Any] = {
    **SHAPE,
    "in_channels": 4,
    "out_channels": 4,
    "patch_size": 2,
    "block_out_channels": (16, 16),
    "num_attention_heads": (0, 2),
    "down_num_layers_per_block": (1, 1),
    "up_num_layers_per_block": (1, 1),
    "down_blocks_repeat_mappers": (1, 1),
    "up_blocks_repeat_mappers": (2, 1),
    "block_types_per_layer": ((RES, TIME), (RES, TIME, ATTENTION)),
    "clip_text_pooled_in_channels": POOLED,
    "effnet_in_channels": 16,
    "pixel_mapper_in_channels": 3,
    "timestep_conditioning_type": ("sca",),
}
STAGE_A: dict[str, Any] = {"bottleneck_blocks": 1, "embed_dim": 16, "num_vq_embeddings": 8}
SCHEDULER = {"_class_name": "DDPMWuerstchenScheduler", "s": 0.008, "scaler": 1.0}


@cache
def tiny_cascade() -> Path:
    """The decoder's folder; never change it, copy it, with the one beside it."""
    home = tiny("sdxl").parent
    decoder, prior = home / "cascade", home / "cascade-prior"
    _stage(decoder, "decoder", CascadeUNet(CascadeConfig(**DECODER)), seed=1)
    _stage(prior, "prior", CascadeUNet(CascadeConfig(**PRIOR)), seed=2)
    _network(decoder / "vqgan", StageA(StageAConfig(**STAGE_A)), "PaellaVQModel", seed=3)
    index = json.loads((decoder / "model_index.json").read_text("utf-8"))
    _json(decoder / "model_index.json", {**index, "vqgan": ["wuerstchen", "PaellaVQModel"]})
    return decoder


def combine(place: Path) -> Path:
    """The two folders as the one that holds both."""
    decoder = tiny_cascade()
    shutil.copytree(decoder, place)
    index = json.loads((decoder / "model_index.json").read_text("utf-8")) | {
        "_class_name": "StableCascadeCombinedPipeline"
    }
    for part in ("prior", "text_encoder", "tokenizer", "scheduler"):
        shutil.copytree(decoder.with_name("cascade-prior") / part, place / f"prior_{part}")
        index[f"prior_{part}"] = index.get(part, ["stable_cascade", "StableCascadeUNet"])
    _json(place / "model_index.json", index)
    return place


def seeing(place: Path, *, combined: bool = False) -> Path:
    """A copy of the two folders, or of the one with both, whose prior brings what reads pictures; the decoder's."""
    prefix = "prior_" if combined else ""
    if combined:
        prior = combine(place)
    else:
        prior = place.with_name(f"{place.name}-prior")
        shutil.copytree(tiny_cascade(), place)
        shutil.copytree(tiny_cascade().with_name("cascade-prior"), prior)
    encoder = ClipVision(ClipVisionConfig.from_dict({**VISION, "projection_dim": PRIOR["clip_image_in_channels"]}))
    randomise(encoder, seed=8)
    (prior / f"{prefix}image_encoder").mkdir()
    save(dict(encoder.state_dict()), prior / f"{prefix}image_encoder" / "model.safetensors")
    told = {**VISION, "projection_dim": PRIOR["clip_image_in_channels"]}
    _json(prior / f"{prefix}image_encoder" / "config.json", told)
    (prior / f"{prefix}feature_extractor").mkdir()
    _json(prior / f"{prefix}feature_extractor" / "preprocessor_config.json", PIXELS)
    index = json.loads((prior / "model_index.json").read_text("utf-8"))
    index[f"{prefix}image_encoder"] = ["transformers", "CLIPVisionModelWithProjection"]
    index[f"{prefix}feature_extractor"] = ["transformers", "CLIPImageProcessor"]
    _json(prior / "model_index.json", index)
    return place


def _stage(folder: Path, name: str, network: CascadeUNet, seed: int) -> None:
    source = tiny("sdxl")
    shutil.copytree(source / "text_encoder_2", folder / "text_encoder")
    shutil.copytree(source / "tokenizer_2", folder / "tokenizer")
    (folder / "scheduler").mkdir()
    _json(folder / "scheduler" / "scheduler_config.json", SCHEDULER)
    _network(folder / name, network, "StableCascadeUNet", seed)
    _json(
        folder / "model_index.json",
        {
            "_class_name": f"StableCascade{name.title()}Pipeline",
            name: ["stable_cascade", "StableCascadeUNet"],
            "text_encoder": ["transformers", "CLIPTextModelWithProjection"],
            "tokenizer": ["transformers", "CLIPTokenizer"],
            "scheduler": ["diffusers", "DDPMWuerstchenScheduler"],
        },
    )


def _network(folder: Path, network: CascadeUNet | StageA, name: str, seed: int) -> None:
    folder.mkdir()
    randomise(network, seed)
    save(dict(network.state_dict()), folder / "diffusion_pytorch_model.safetensors")
    _json(folder / "config.json", {"_class_name": name, **asdict(network.config)})


def _json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=1), encoding="utf-8")
