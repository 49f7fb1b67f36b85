"""Names and shapes of the released models at full size, taken from the references' own classes without any memory.

``python -m tests.headers.references`` writes them to ``safelight/families/*/headers.json.gz``; tests compare.
"""

from __future__ import annotations

import gzip
import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from torch import nn

from tests.architecture.source import ROOT

PLACE = ROOT / "safelight/families"
CROSS_DOWN, DOWN, CROSS_UP, UP = "CrossAttnDownBlock2D", "DownBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"
SD1: dict[str, Any] = {"sample_size": 64, "cross_attention_dim": 768, "attention_head_dim": 8}
SD2: dict[str, Any] = {
    "sample_size": 96,
    "cross_attention_dim": 1024,
    "attention_head_dim": (5, 10, 20, 20),
    "use_linear_projection": True,
}
SDXL: dict[str, Any] = {
    "sample_size": 128,
    "block_out_channels": (320, 640, 1280),
    "down_block_types": (DOWN, CROSS_DOWN, CROSS_DOWN),
    "up_block_types": (CROSS_UP, CROSS_UP, UP),
    "transformer_layers_per_block": (1, 2, 10),
    "attention_head_dim": (5, 10, 20),
    "cross_attention_dim": 2048,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}
REFINER: dict[str, Any] = {
    **SDXL,
    "block_out_channels": (384, 768, 1536, 1536),
    "down_block_types": (DOWN, CROSS_DOWN, CROSS_DOWN, DOWN),
    "up_block_types": (UP, CROSS_UP, CROSS_UP, UP),
    "transformer_layers_per_block": 4,
    "attention_head_dim": (6, 12, 24, 24),
    "cross_attention_dim": 1280,
    "projection_class_embeddings_input_dim": 2560,
}
KL: dict[str, Any] = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
    "latent_channels": 4,
}
X4: dict[str, Any] = {
    "sample_size": 128,
    "in_channels": 7,
    "block_out_channels": (256, 512, 512, 1024),
    "down_block_types": (DOWN, CROSS_DOWN, CROSS_DOWN, CROSS_DOWN),
    "up_block_types": (CROSS_UP, CROSS_UP, CROSS_UP, UP),
    "only_cross_attention": (True, True, True, False),
    "attention_head_dim": 8,
    "cross_attention_dim": 1024,
    "use_linear_projection": True,
    "num_class_embeds": 1000,
}
X2: dict[str, Any] = {
    "sample_size": 128,
    "in_channels": 8,
    "out_channels": 5,
    "block_out_channels": (384, 384, 768, 768),
    "down_block_types": ("KDownBlock2D", *("KCrossAttnDownBlock2D",) * 3),
    "up_block_types": (*("KCrossAttnUpBlock2D",) * 3, "KUpBlock2D"),
    "layers_per_block": 4,
    "attention_head_dim": 64,
    "cross_attention_dim": 768,
    "time_cond_proj_dim": 896,
    "act_fn": "gelu",
    "conv_in_kernel": 1,
    "conv_out_kernel": 1,
    "mid_block_type": None,
    "norm_num_groups": None,
    "only_cross_attention": False,
    "resnet_time_scale_shift": "scale_shift",
    "time_embedding_type": "fourier",
    "timestep_post_act": "gelu",
}
KL_X4: dict[str, Any] = {
    **KL,
    "block_out_channels": (128, 256, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 3,
    "up_block_types": ("UpDecoderBlock2D",) * 3,
}
CLIP_L: dict[str, Any] = {"hidden_size": 768, "intermediate_size": 3072, "projection_dim": 768}
CLIP_H: dict[str, Any] = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 23,
    "num_attention_heads": 16,
    "hidden_act": "gelu",
}
CLIP_G: dict[str, Any] = {
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "num_hidden_layers": 32,
    "num_attention_heads": 20,
    "hidden_act": "gelu",
    "projection_dim": 1280,
}


RES, TIME, ATTENTION = "SDCascadeResBlock", "SDCascadeTimestepBlock", "SDCascadeAttnBlock"
STAGE_C: dict[str, Any] = {
    "conditioning_dim": 2048,
    "block_out_channels": (2048, 2048),
    "num_attention_heads": (32, 32),
    "down_num_layers_per_block": (8, 24),
    "up_num_layers_per_block": (24, 8),
    "down_blocks_repeat_mappers": (1, 1),
    "up_blocks_repeat_mappers": (1, 1),
    "block_types_per_layer": ((RES, TIME, ATTENTION),) * 2,
    "clip_text_in_channels": 1280,
    "clip_text_pooled_in_channels": 1280,
    "clip_image_in_channels": 768,
    "switch_level": (False,),
}
STAGE_C_LITE: dict[str, Any] = {
    **STAGE_C,
    "conditioning_dim": 1536,
    "block_out_channels": (1536, 1536),
    "num_attention_heads": (24, 24),
    "down_num_layers_per_block": (4, 12),
    "up_num_layers_per_block": (12, 4),
}
STAGE_B: dict[str, Any] = {
    "in_channels": 4,
    "out_channels": 4,
    "patch_size": 2,
    "conditioning_dim": 1280,
    "block_out_channels": (320, 640, 1280, 1280),
    "num_attention_heads": (0, 0, 20, 20),
    "down_num_layers_per_block": (2, 6, 28, 6),
    "up_num_layers_per_block": (6, 28, 6, 2),
    "down_blocks_repeat_mappers": (1, 1, 1, 1),
    "up_blocks_repeat_mappers": (3, 3, 2, 2),
    "block_types_per_layer": ((RES, TIME), (RES, TIME), (RES, TIME, ATTENTION), (RES, TIME, ATTENTION)),
    "clip_text_pooled_in_channels": 1280,
    "effnet_in_channels": 16,
    "pixel_mapper_in_channels": 3,
    "dropout": (0.0, 0.0, 0.1, 0.1),
    "timestep_conditioning_type": ("sca",),
}
STAGE_B_LITE: dict[str, Any] = {
    **STAGE_B,
    "block_out_channels": (320, 576, 1152, 1152),
    "num_attention_heads": (0, 0, 18, 18),
    "down_num_layers_per_block": (2, 4, 14, 4),
    "up_num_layers_per_block": (4, 14, 4, 2),
    "up_blocks_repeat_mappers": (2, 2, 2, 2),
}
PAELLA = "diffusers.pipelines.deprecated.wuerstchen.modeling_paella_vq_model"


def _unet(config: dict[str, Any]) -> nn.Module:
    return diffusers.UNet2DConditionModel(**config)


def _control(config: dict[str, Any]) -> nn.Module:
    shared = {key: value for key, value in config.items() if key not in ("sample_size", "up_block_types")}
    return diffusers.ControlNetModel(**shared)


def _text(config: dict[str, Any], *, projection: bool = False) -> nn.Module:
    settings = transformers.CLIPTextConfig(**{"num_hidden_layers": 12, "num_attention_heads": 12, **config})
    return (transformers.CLIPTextModelWithProjection if projection else transformers.CLIPTextModel)(settings)


BUILD: dict[str, Callable[[], nn.Module]] = {
    "unet-sd1": lambda: _unet(SD1),
    "unet-sd2": lambda: _unet(SD2),
    "unet-sdxl": lambda: _unet(SDXL),
    "unet-refiner": lambda: _unet(REFINER),
    "unet-x4": lambda: _unet(X4),
    "unet-x2": lambda: _unet(X2),
    "vae-x4": lambda: diffusers.AutoencoderKL(**KL_X4),
    "controlnet-sd1": lambda: _control(SD1),
    "controlnet-sd2": lambda: _control(SD2),
    "controlnet-sdxl": lambda: _control(SDXL),
    "vae": lambda: diffusers.AutoencoderKL(**KL),
    "clip-l": lambda: _text(CLIP_L),
    "clip-h": lambda: _text(CLIP_H),
    "clip-g": lambda: _text(CLIP_G, projection=True),
}


CASCADE: dict[str, Callable[[], nn.Module]] = {
    "stage-c": lambda: diffusers.models.StableCascadeUNet(**STAGE_C),
    "stage-c-lite": lambda: diffusers.models.StableCascadeUNet(**STAGE_C_LITE),
    "stage-b": lambda: diffusers.models.StableCascadeUNet(**STAGE_B),
    "stage-b-lite": lambda: diffusers.models.StableCascadeUNet(**STAGE_B_LITE),
    "stage-a": lambda: importlib.import_module(PAELLA).PaellaVQModel(),
}
FAMILIES = {"sd": BUILD, "cascade": CASCADE}


def header(name: str) -> dict[str, list[int]]:
    """Names and shapes of one network; text encoders with the prefix that released files have."""
    with torch.device("meta"):
        weights = {**BUILD, **CASCADE}[name]().state_dict()
    # This version of the reference dropped the prefix.
    prefix = "text_model." if name in ("clip-l", "clip-h") else ""
    return {prefix + key: list(tensor.shape) for key, tensor in weights.items() if "position_ids" not in key}


def write(place: Path = PLACE) -> None:
    """All of them, in bytes that depend on nothing else."""
    for family, build in FAMILIES.items():
        text = json.dumps({name: header(name) for name in build}, separators=(",", ":")).encode()
        (place / family / "headers.json.gz").write_bytes(gzip.compress(text, 9, mtime=0))


if __name__ == "__main__":
    write()
