"""Tiny networks with random weights, ours and the reference's side by side, holding the same numbers."""

from __future__ import annotations

from typing import Any

import diffusers
import torch
import transformers
from torch import Tensor, nn

from safelight.encoders.clip import ClipText, ClipTextConfig
from safelight.families.sd.model import Added, UNet, UNetConfig
from safelight.vae.kl import AutoencoderKL, KLConfig

BARS = {torch.float64: 1e-9, torch.float32: 1e-5}
"""Largest allowed difference, relative to the largest value of the reference."""

CROSS_DOWN, DOWN, CROSS_UP, UP = "CrossAttnDownBlock2D", "DownBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"
SD1: dict[str, Any] = {
    "sample_size": 16,
    "block_out_channels": (32, 64),
    "down_block_types": (CROSS_DOWN, DOWN),
    "up_block_types": (UP, CROSS_UP),
    "cross_attention_dim": 32,
    "attention_head_dim": 8,
    "norm_num_groups": 8,
}
SD2 = {**SD1, "attention_head_dim": (2, 4), "use_linear_projection": True, "upcast_attention": True}
SDXL = {
    **SD2,
    "upcast_attention": False,
    "down_block_types": (DOWN, CROSS_DOWN),
    "up_block_types": (CROSS_UP, UP),
    "transformer_layers_per_block": (1, 2),
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 8,
    "projection_class_embeddings_input_dim": 16 + 6 * 8,
    "cross_attention_dim": 48,
}
REFINER = {
    **SDXL,
    "block_out_channels": (32, 64, 64),
    "down_block_types": (DOWN, CROSS_DOWN, DOWN),
    "up_block_types": (UP, CROSS_UP, UP),
    "attention_head_dim": (2, 4, 4),
    "transformer_layers_per_block": 2,
    "projection_class_embeddings_input_dim": 16 + 5 * 8,
}
UNETS: dict[str, dict[str, Any]] = {
    "sd1": SD1,
    "sd1 inpaint": {**SD1, "in_channels": 9},
    "sd2": SD2,
    "sdxl": SDXL,
    "sdxl refiner": REFINER,
    "upscaler": {**SD2, "in_channels": 7, "num_class_embeds": 50, "only_cross_attention": (True, False)},
    "latent consistency": {**SD1, "time_cond_proj_dim": 8},
    "one layer a block, sines first": {**SD1, "layers_per_block": 1, "flip_sin_to_cos": False, "freq_shift": 1},
}
KL = {
    "block_out_channels": (16, 32),
    "down_block_types": ("DownEncoderBlock2D",) * 2,
    "up_block_types": ("UpDecoderBlock2D",) * 2,
    "norm_num_groups": 8,
}
VAES: dict[str, dict[str, Any]] = {
    "sd": {**KL, "layers_per_block": 2},
    "three levels": {
        **KL,
        "block_out_channels": (16, 32, 32),
        "down_block_types": ("DownEncoderBlock2D",) * 3,
        "up_block_types": ("UpDecoderBlock2D",) * 3,
    },
    "16 channels without quantisation": {
        **KL,
        "latent_channels": 16,
        "use_quant_conv": False,
        "use_post_quant_conv": False,
        "scaling_factor": 0.3611,
        "shift_factor": 0.1159,
    },
    "no attention": {**KL, "mid_block_add_attention": False},
}
CLIP = {
    "vocab_size": 100,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 16,
    "bos_token_id": 98,
    "eos_token_id": 99,
    "projection_dim": 24,
}
CLIPS: dict[str, dict[str, Any]] = {
    "ViT-L": {**CLIP, "hidden_act": "quick_gelu"},
    "OpenCLIP-H": {**CLIP, "hidden_act": "gelu"},
    "OpenCLIP-bigG": {**CLIP, "hidden_act": "gelu", "architectures": ["CLIPTextModelWithProjection"]},
    "legacy end token": {**CLIP, "hidden_act": "quick_gelu", "eos_token_id": 2},
}


def randomise(module: nn.Module, seed: int = 0) -> None:
    """Random values in every parameter; gains of normalisations around 1, since zeros and ones hide mistakes."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in module.named_parameters():
            gain = p.ndim == 1 and name.endswith("weight")
            spread = 0.1 if p.ndim == 1 else p[0].numel() ** -0.5
            p.copy_(torch.randn(p.shape, generator=generator) * spread + float(gain))


def random(*shape: int, seed: int = 1, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def difference(ours: Tensor, reference: Tensor) -> float:
    """Largest difference relative to the largest value; infinite where shapes differ."""
    if ours.shape != reference.shape:
        return float("inf")
    return float((ours - reference).abs().max() / reference.abs().max())


def unets(config: dict[str, Any], dtype: torch.dtype = torch.float64) -> tuple[UNet, nn.Module]:
    theirs = diffusers.UNet2DConditionModel(**config)
    randomise(theirs)
    ours = UNet(UNetConfig.from_dict(dict(theirs.config)))
    ours.load_state_dict(theirs.state_dict())
    return ours.to(dtype).eval(), theirs.to(dtype).eval()


def unet_inputs(config: dict[str, Any], dtype: torch.dtype = torch.float64, side: int = 16) -> dict[str, Any]:
    """Two rows of everything that a network of this configuration is asked; under the names of `predict`."""
    asked: dict[str, Any] = {
        "x": random(2, config.get("in_channels", 4), side, side, seed=1, dtype=dtype),
        "t": torch.tensor([3.25, 801.0]),
        "context": random(2, 7, config["cross_attention_dim"], seed=2, dtype=dtype),
    }
    if config.get("addition_embed_type"):
        count = (config["projection_class_embeddings_input_dim"] - 16) // 8
        asked["pooled"] = random(2, 16, seed=3, dtype=dtype)
        asked["times"] = torch.tensor([[512.0, 768, 0, 32, 512, 640][:count], [256.0, 256, 64, 0, 256, 6][:count]])
    if config.get("num_class_embeds"):
        asked["labels"] = torch.tensor([20, 3])
    if config.get("time_cond_proj_dim"):
        asked["guidance"] = random(2, 8, seed=4, dtype=dtype)
    return asked


def predict(ours: UNet, asked: dict[str, Any]) -> Tensor:
    told = {name: asked[name] for name in ("pooled", "times", "labels", "guidance") if name in asked}
    return ours(asked["x"], asked["t"], asked["context"], added=Added(**told) if told else None)


def predict_reference(theirs: nn.Module, asked: dict[str, Any]) -> Tensor:
    told = {"text_embeds": asked["pooled"], "time_ids": asked["times"]} if "pooled" in asked else None
    return theirs(
        asked["x"],
        asked["t"],
        asked["context"],
        class_labels=asked.get("labels"),
        timestep_cond=asked.get("guidance"),
        added_cond_kwargs=told,
    ).sample


def vaes(config: dict[str, Any], dtype: torch.dtype = torch.float64) -> tuple[AutoencoderKL, nn.Module]:
    theirs = diffusers.AutoencoderKL(**config)
    randomise(theirs)
    ours = AutoencoderKL(KLConfig.from_dict(dict(theirs.config)))
    ours.load_state_dict(theirs.state_dict())
    return ours.to(dtype).eval(), theirs.to(dtype).eval()


def clips(config: dict[str, Any], dtype: torch.dtype = torch.float64) -> tuple[ClipText, nn.Module]:
    settings = transformers.CLIPTextConfig(**config)
    settings._attn_implementation = "sdpa"  # the eager form computes the softmax in float32
    projects = config.get("architectures") == ["CLIPTextModelWithProjection"]
    theirs = (transformers.CLIPTextModelWithProjection if projects else transformers.CLIPTextModel)(settings)
    randomise(theirs)
    ours = ClipText(ClipTextConfig.from_dict(settings.to_dict()))
    weights = theirs.state_dict()
    # This version of the reference dropped the prefix that released files have.
    ours.load_state_dict(weights if projects else {f"text_model.{name}": value for name, value in weights.items()})
    return ours.to(dtype).eval(), theirs.to(dtype).eval()


def clip_ids() -> Tensor:
    """Three rows: an early end with padding by the end token, a later end, and none but the last place."""
    ids = torch.randint(3, 97, (3, 12), generator=torch.Generator().manual_seed(0))
    ids[:, 0] = 98
    ids[0, 5:] = 99
    ids[1, 8], ids[1, 9:] = 99, 0
    ids[2, -1] = 99
    return ids
