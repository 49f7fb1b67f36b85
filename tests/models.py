"""Tiny models with random weights in released folders, written by our own classes: nothing of the references is needed.

Pictures are 32 x 32 pixels, latents 8 x 8 (stride 4). Every folder is made once for a run of the tests.
"""

from __future__ import annotations

import atexit
import json
import shutil
import tempfile
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

from safelight.encoders.clip import ClipText, ClipTextConfig
from safelight.encoders.tokenizer import ClipTokenizer
from safelight.encoders.vocabulary import save_tokenizer
from safelight.families.sd.model import UNet, UNetConfig
from safelight.vae.kl import AutoencoderKL, KLConfig
from safelight.vae.tiny import AutoencoderTiny, TinyConfig
from safelight.weights.save import save

EDGE, STRIDE, LAYERS = 32, 4, 3
WORDS = ("a", "person", "with", "green", "hair", "and", "red", "hat", "crown")
CROSS_DOWN, DOWN, CROSS_UP, UP = "CrossAttnDownBlock2D", "DownBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"
SD1: dict[str, Any] = {
    "sample_size": EDGE // STRIDE,
    "block_out_channels": (16, 32),
    "down_block_types": (CROSS_DOWN, DOWN),
    "up_block_types": (UP, CROSS_UP),
    "layers_per_block": 1,
    "cross_attention_dim": 16,
    "attention_head_dim": 2,
    "norm_num_groups": 4,
}
SD2 = {**SD1, "attention_head_dim": (2, 4), "use_linear_projection": True}
SDXL = {
    **SD2,
    "down_block_types": (DOWN, CROSS_DOWN),
    "up_block_types": (CROSS_UP, UP),
    "transformer_layers_per_block": (1, 2),
    "cross_attention_dim": 32,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 4,
    "projection_class_embeddings_input_dim": 12 + 6 * 4,
}
REFINER = {**SDXL, "cross_attention_dim": 16, "projection_class_embeddings_input_dim": 12 + 5 * 4}
UNETS = {
    "refiner": REFINER,
    "sd1": SD1,
    "sd2": SD2,
    "sdxl": SDXL,
    "inpaint": {**SD1, "in_channels": 9},
    "depth": {**SD2, "in_channels": 5},
    "x4": {**SD2, "in_channels": 7, "num_class_embeds": 60, "only_cross_attention": (True, False)},
    "lcm": {**SD1, "time_cond_proj_dim": 8},
}
PREDICTIONS = {"sd2": "v_prediction", "x4": "v_prediction"}
KL: dict[str, Any] = {
    "block_out_channels": (8, 8, 16),
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "sample_size": EDGE,
    "scaling_factor": 0.5,
}
PREVIEW = [[0.2, 0.1, 0.0], [0.0, 0.2, 0.1], [0.1, 0.0, 0.2], [0.1, 0.1, 0.1], [0.0, 0.1, -0.1]]
NOTES: dict[str, Any] = {
    "card": {"what": "a tiny model for tests", "licence": "Apache-2.0", "scores": {"hair": 0.5}},
    "defaults": {"steps": 4, "guidance": 3.0},
    "preview": PREVIEW,
    "vocabulary": "figurines",
}


@cache
def tiny(kind: str = "sd1") -> Path:
    """A folder of one of the kinds in UNETS; never change it, copy it."""
    folder = Path(tempfile.mkdtemp(prefix="safelight-tiny-")) / kind
    atexit.register(shutil.rmtree, folder.parent, ignore_errors=True)
    write_tiny(folder, kind)
    return folder


def write_tiny(folder: Path, kind: str) -> None:
    """Write a model of random weights that depend on nothing but its kind."""
    xl, refines = kind in ("sdxl", "refiner"), kind == "refiner"
    folder.mkdir()
    encoders = {**({} if refines else {"text_encoder": False}), **({"text_encoder_2": True} if xl else {})}
    pipeline = {"sdxl": "StableDiffusionXLPipeline", "inpaint": "StableDiffusionInpaintPipeline"}
    pipeline |= {"refiner": "StableDiffusionXLImg2ImgPipeline", "depth": "StableDiffusionDepth2ImgPipeline"}
    pipeline |= {"x4": "StableDiffusionUpscalePipeline", "lcm": "LatentConsistencyModelPipeline"}
    index: dict[str, Any] = {"_class_name": pipeline.get(kind, "StableDiffusionPipeline")}
    for encoder, projects in encoders.items():
        tokenizer = encoder.replace("text_encoder", "tokenizer")
        (folder / tokenizer).mkdir()
        save_tokenizer(WORDS, folder / tokenizer)
        index[tokenizer] = ["transformers", "CLIPTokenizer"]
        end = ClipTokenizer.from_folder(folder / tokenizer).end
        name = "CLIPTextModelWithProjection" if projects else "CLIPTextModel"
        _part(folder / encoder, ClipText(_clip(end, projects)), "model", {"architectures": [name]}, ("projection",))
        index[encoder] = ["transformers", name]
    unet = {key: tuple(value) if isinstance(value, list) else value for key, value in UNETS[kind].items()}
    _part(folder / "unet", UNet(UNetConfig(**unet)), "diffusion_pytorch_model", {"_class_name": "UNet2DConditionModel"})
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 3, "up_block_types": ("UpDecoderBlock2D",) * 3}
    vae = AutoencoderKL(KLConfig(**KL, **blocks))
    _part(folder / "vae", vae, "diffusion_pytorch_model", {"_class_name": "AutoencoderKL"})
    index |= {"unet": ["diffusers", "UNet2DConditionModel"], "vae": ["diffusers", "AutoencoderKL"]}
    index |= {"scheduler": ["diffusers", "DDIMScheduler"]}
    if refines:
        index |= {"text_encoder": [None, None], "tokenizer": [None, None], "requires_aesthetics_score": True}
    if kind == "x4":
        index |= {"low_res_scheduler": ["diffusers", "DDPMScheduler"], "max_noise_level": 50}
        (folder / "low_res_scheduler").mkdir()
        noisy = {**scheduler(name="DDPMScheduler"), "clip_sample": True, "beta_end": 0.02, "beta_start": 0.0001}
        place = folder / "low_res_scheduler" / "scheduler_config.json"
        _json(place, {key: value for key, value in noisy.items() if key != "set_alpha_to_one"})
    index |= {"force_zeros_for_empty_prompt": not refines} if xl else {"safety_checker": [None, None]}
    (folder / "scheduler").mkdir()
    _json(folder / "scheduler" / "scheduler_config.json", scheduler(PREDICTIONS.get(kind, "epsilon")))
    _json(folder / "model_index.json", index)
    _json(folder / "safelight.json", NOTES)


@cache
def tiny_preview(levels: int = 3) -> Path:
    """A folder of a tiny autoencoder for the models here; never change it, copy it."""
    folder = Path(tempfile.mkdtemp(prefix="safelight-tiny-")) / "preview"
    atexit.register(shutil.rmtree, folder.parent, ignore_errors=True)
    widths, blocks = (8,) * levels, (1,) * levels
    config = TinyConfig(3, 3, widths, widths, 4, blocks, blocks)
    _part(folder, AutoencoderTiny(config), "diffusion_pytorch_model", {"_class_name": "AutoencoderTiny"})
    return folder


def scheduler(prediction: str = "epsilon", name: str = "DDIMScheduler") -> dict[str, Any]:
    """Stable Diffusion's own ``scheduler_config.json``."""
    return {
        "_class_name": name,
        "beta_schedule": "scaled_linear",
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "clip_sample": False,
        "set_alpha_to_one": False,
        "steps_offset": 1,
        "prediction_type": prediction,
        "timestep_spacing": "leading",
    }


def randomise(module: nn.Module, seed: int) -> None:
    """Random values in every parameter; gains of normalisations around 1, since zeros and ones hide mistakes."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in module.named_parameters():
            gain = p.ndim == 1 and name.endswith("weight")
            spread = 0.1 if p.ndim == 1 else p[0].numel() ** -0.5
            p.copy_(torch.randn(p.shape, generator=generator) * spread + float(gain))


def _clip(end: int, projects: bool) -> ClipTextConfig:
    return ClipTextConfig(
        vocab_size=end + 1,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=LAYERS,
        num_attention_heads=2,
        hidden_act="gelu" if projects else "quick_gelu",
        projection_dim=12,
        bos_token_id=end - 1,
        eos_token_id=end,
        pad_token_id=end,
        projection=projects,
    )


def _part(folder: Path, module: Any, stem: str, heading: dict[str, Any], without: tuple[str, ...] = ()) -> None:
    folder.mkdir()
    randomise(module, seed=len(folder.name))
    save(dict(module.state_dict()), folder / f"{stem}.safetensors")
    config = {key: value for key, value in asdict(module.config).items() if key not in without}
    _json(folder / "config.json", {**heading, **config})


def _json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=1), encoding="utf-8")
