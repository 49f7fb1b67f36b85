"""Full-size networks hold the released numbers of parameters and tensors; built without memory, at once."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from safelight.encoders.clip import ClipText, ClipTextConfig
from safelight.encoders.clip_vision import ClipVision, ClipVisionConfig
from safelight.families.cascade.model import ATTENTION, RES, TIME, CascadeConfig, CascadeUNet
from safelight.families.sd.kunet import KUNet, KUNetConfig
from safelight.families.sd.model import UNet, UNetConfig
from safelight.vae.kl import AutoencoderKL, KLConfig
from safelight.vae.stage_a import StageA, StageAConfig
from safelight.weights.load import Unfilled

CROSS_DOWN, DOWN, CROSS_UP, UP = "CrossAttnDownBlock2D", "DownBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"
SD2 = {
    "attention_head_dim": [5, 10, 20, 20],
    "cross_attention_dim": 1024,
    "use_linear_projection": True,
    "upcast_attention": True,
}
SDXL = {
    "block_out_channels": [320, 640, 1280],
    "down_block_types": [DOWN, CROSS_DOWN, CROSS_DOWN],
    "up_block_types": [CROSS_UP, CROSS_UP, UP],
    "transformer_layers_per_block": [1, 2, 10],
    "attention_head_dim": [5, 10, 20],
    "cross_attention_dim": 2048,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
    "sample_size": 128,
}
REFINER = {
    **SDXL,
    "block_out_channels": [384, 768, 1536, 1536],
    "down_block_types": [DOWN, CROSS_DOWN, CROSS_DOWN, DOWN],
    "up_block_types": [UP, CROSS_UP, CROSS_UP, UP],
    "transformer_layers_per_block": 4,
    "attention_head_dim": [6, 12, 24, 24],
    "cross_attention_dim": 1280,
    "projection_class_embeddings_input_dim": 2560,
}
PRIOR = {"clip_text_in_channels": 1280, "clip_image_in_channels": 768, "switch_level": [False]}
DECODER = {
    "in_channels": 4,
    "out_channels": 4,
    "patch_size": 2,
    "conditioning_dim": 1280,
    "block_out_channels": [320, 640, 1280, 1280],
    "down_num_layers_per_block": [2, 6, 28, 6],
    "up_num_layers_per_block": [6, 28, 6, 2],
    "down_blocks_repeat_mappers": [1, 1, 1, 1],
    "up_blocks_repeat_mappers": [3, 3, 2, 2],
    "num_attention_heads": [0, 0, 20, 20],
    "block_types_per_layer": [[RES, TIME], [RES, TIME], [RES, TIME, ATTENTION], [RES, TIME, ATTENTION]],
    "effnet_in_channels": 16,
    "pixel_mapper_in_channels": 3,
    "timestep_conditioning_type": ["sca"],
}
X4 = {
    "in_channels": 7,
    "block_out_channels": [256, 512, 512, 1024],
    "down_block_types": [DOWN, CROSS_DOWN, CROSS_DOWN, CROSS_DOWN],
    "up_block_types": [CROSS_UP, CROSS_UP, CROSS_UP, UP],
    "only_cross_attention": [True, True, True, False],
    "num_class_embeds": 1000,
    "cross_attention_dim": 1024,
    "use_linear_projection": True,
    "sample_size": 128,
}
BIG_G = {
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "num_hidden_layers": 32,
    "num_attention_heads": 20,
    "hidden_act": "gelu",
    "projection_dim": 1280,
    "architectures": ["CLIPTextModelWithProjection"],
}
OPEN_H = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 23,
    "num_attention_heads": 16,
    "hidden_act": "gelu",
}

VISION_H = {
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "num_hidden_layers": 32,
    "num_attention_heads": 16,
    "patch_size": 14,
    "projection_dim": 1024,
    "hidden_act": "gelu",
    "architectures": ["CLIPVisionModelWithProjection"],
}
VISION_L = {
    **VISION_H,
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "projection_dim": 768,
    "hidden_act": "quick_gelu",
}
VISION_G = {
    **VISION_H,
    "hidden_size": 1664,
    "intermediate_size": 8192,
    "num_hidden_layers": 48,
    "projection_dim": 1280,
}


def unet(raw: dict[str, Any]) -> nn.Module:
    return UNet(UNetConfig.from_dict(raw))


def kunet(raw: dict[str, Any]) -> nn.Module:
    return KUNet(KUNetConfig.from_dict(raw))


def cascade(raw: dict[str, Any]) -> nn.Module:
    return CascadeUNet(CascadeConfig.from_dict(raw))


def stage_a(raw: dict[str, Any]) -> nn.Module:
    return StageA(StageAConfig.from_dict(raw))


def vae(raw: dict[str, Any]) -> nn.Module:
    return AutoencoderKL(KLConfig.from_dict(raw))


def text(raw: dict[str, Any]) -> nn.Module:
    return ClipText(ClipTextConfig.from_dict(raw))


def vision(raw: dict[str, Any]) -> nn.Module:
    return ClipVision(ClipVisionConfig.from_dict(raw))


@pytest.mark.parametrize(
    ("build", "raw", "parameters", "tensors"),
    [
        pytest.param(unet, {}, 859_520_964, 686, id="SD 1 U-Net"),
        pytest.param(unet, {"in_channels": 9}, 859_535_364, 686, id="SD 1 inpainting U-Net"),
        pytest.param(unet, SD2, 865_910_724, 686, id="SD 2 U-Net"),
        pytest.param(unet, SDXL, 2_567_463_684, 1680, id="SDXL U-Net"),
        pytest.param(unet, {**SD2, "in_channels": 5}, 865_913_604, 686, id="SD 2 depth U-Net"),
        pytest.param(unet, X4, 473_398_020, 687, id="x4 upscaler U-Net"),
        pytest.param(unet, REFINER, 2_259_526_660, 1220, id="SDXL refiner U-Net"),
        pytest.param(kunet, {}, 372_560_645, 639, id="x2 latent upscaler U-Net"),
        pytest.param(vae, {}, 83_653_863, 248, id="SD autoencoder"),
        pytest.param(cascade, PRIOR, 3_589_103_632, 1550, id="Stable Cascade prior"),
        pytest.param(cascade, DECODER, 1_562_941_136, 1726, id="Stable Cascade decoder"),
        pytest.param(stage_a, {}, 18_406_894, 122, id="Stable Cascade stage A"),
        pytest.param(text, {}, 123_060_480, 196, id="CLIP-L text"),
        pytest.param(text, OPEN_H, 340_387_840, 372, id="OpenCLIP-H text"),
        pytest.param(text, BIG_G, 694_659_840, 517, id="OpenCLIP-bigG text"),
        pytest.param(vision, VISION_H, 632_076_800, 520, id="OpenCLIP-H image"),
        pytest.param(vision, {**VISION_H, "architectures": None}, 630_766_080, 519, id="OpenCLIP-H image, bare"),
        pytest.param(vision, VISION_L, 303_966_208, 392, id="CLIP-L image"),
        pytest.param(vision, VISION_G, 1_844_907_264, 776, id="OpenCLIP-bigG image"),
        pytest.param(vision, {}, 87_456_000, 199, id="CLIP-B/32 image, bare"),
    ],
)
def test_full_size_networks_have_the_released_counts(
    build: Callable[[dict[str, Any]], nn.Module], raw: dict[str, Any], parameters: int, tensors: int
) -> None:
    start = time.process_time()
    with torch.device("meta"), Unfilled():  # as they are loaded: filling an embedding would import torch's compiler
        network = build(raw)
    assert time.process_time() - start < 2, "nothing is computed, whatever the size"
    assert sum(p.numel() for p in network.parameters()) == parameters
    assert len(network.state_dict()) == tensors
    assert all(t.is_meta for t in network.state_dict().values())
