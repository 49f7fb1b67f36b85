"""Work out a released ``config.json`` from the names and shapes of a part's tensors; no torch.

What shapes cannot say, such as the number of heads or the scale of latents, comes from the variant's own facts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from safelight.errors import ConfigError
from safelight.weights.keys import Shape
from safelight.weights.variants import DISTILLED, Variant

SCHEDULER = {
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "num_train_timesteps": 1000,
    "steps_offset": 1,
    "timestep_spacing": "leading",
}
"""The noise path that all of these models were trained on."""


def configs(variant: Variant, shapes: Mapping[str, Mapping[str, Shape]]) -> dict[str, dict[str, Any]]:
    """``config.json`` of every part, from the shapes of its tensors under released names.

    Raises:
        ConfigError: a part lacks the tensors that its sizes are read from.
    """
    build = {"unet": unet, "controlnet": controlnet, "vae": vae, "text_encoder": text, "text_encoder_2": text}
    made: dict[str, dict[str, Any]] = {}
    for part, rows in shapes.items():
        try:
            made[part] = build[part](rows, variant.config.get("unet" if part == "controlnet" else part, {}))
        except (KeyError, IndexError, ValueError, ZeroDivisionError) as error:
            raise ConfigError(f"the {part} lacks the tensors that its sizes are read from ({error})") from None
    return made


def unet(shapes: Mapping[str, Shape], facts: Mapping[str, Any]) -> dict[str, Any]:
    """``config.json`` of a U-Net."""
    if "time_proj.weight" in shapes:
        return kunet(shapes, facts)
    trunk = _trunk(shapes, facts)
    kinds = trunk["down_block_types"]
    up = ["CrossAttnUpBlock2D" if kind.startswith("Cross") else "UpBlock2D" for kind in reversed(kinds)]
    only = [f"down_blocks.{b}.attentions.0.transformer_blocks.0.attn1.to_k.weight" for b in range(len(kinds))]
    context = trunk["cross_attention_dim"]
    crossed = [key in shapes and shapes[key][-1] == context != shapes[key][0] for key in only]
    classes, told = shapes.get("class_embedding.weight"), shapes.get("class_embedding.linear_1.weight")
    return {
        "_class_name": "UNet2DConditionModel",
        **trunk,
        "sample_size": facts["sample_size"],
        "out_channels": shapes["conv_out.weight"][0],
        "up_block_types": up,
        **({"only_cross_attention": crossed} if any(crossed) else {}),
        **({"num_class_embeds": classes[0]} if classes else {}),
        **({"class_embed_type": "projection", "projection_class_embeddings_input_dim": told[1]} if told else {}),
        **({"time_cond_proj_dim": shapes[DISTILLED][1]} if DISTILLED in shapes else {}),
    }


def kunet(shapes: Mapping[str, Shape], facts: Mapping[str, Any]) -> dict[str, Any]:
    """``config.json`` of the U-Net of k-diffusion."""
    levels = _count(shapes, r"down_blocks\.(\d+)\.")
    crossed = levels - 1
    return {
        "_class_name": "UNet2DConditionModel",
        "act_fn": "gelu",
        "attention_head_dim": facts["width_of_head"],
        "block_out_channels": [shapes[f"down_blocks.{b}.resnets.0.conv1.weight"][0] for b in range(levels)],
        "conv_in_kernel": 1,
        "conv_out_kernel": 1,
        "cross_attention_dim": shapes[f"down_blocks.{crossed}.attentions.0.attn2.to_k.weight"][1],
        "down_block_types": ["KDownBlock2D", *["KCrossAttnDownBlock2D"] * crossed],
        "in_channels": shapes["conv_in.weight"][1],
        "layers_per_block": _count(shapes, r"down_blocks\.0\.resnets\.(\d+)\."),
        "mid_block_type": None,
        "norm_num_groups": None,
        "out_channels": shapes["conv_out.weight"][0],
        "resnet_time_scale_shift": "scale_shift",
        "sample_size": facts["sample_size"],
        "time_cond_proj_dim": shapes["time_embedding.cond_proj.weight"][1],
        "time_embedding_type": "fourier",
        "timestep_post_act": "gelu",
        "up_block_types": [*["KCrossAttnUpBlock2D"] * crossed, "KUpBlock2D"],
    }


def controlnet(shapes: Mapping[str, Shape], facts: Mapping[str, Any]) -> dict[str, Any]:
    """``config.json`` of a ControlNet."""
    blocks = _count(shapes, r"controlnet_cond_embedding\.blocks\.(\d+)\.weight")
    widths = [shapes["controlnet_cond_embedding.conv_in.weight"][0]]
    widths += [shapes[f"controlnet_cond_embedding.blocks.{k}.weight"][0] for k in range(1, blocks, 2)]
    return {
        "_class_name": "ControlNetModel",
        **_trunk(shapes, facts),
        "conditioning_channels": shapes["controlnet_cond_embedding.conv_in.weight"][1],
        "conditioning_embedding_out_channels": widths,
    }


def _trunk(shapes: Mapping[str, Shape], facts: Mapping[str, Any]) -> dict[str, Any]:
    """What a U-Net and a ControlNet share: the way down and the middle."""
    levels = _count(shapes, r"down_blocks\.(\d+)\.")
    widths = [shapes[f"down_blocks.{b}.resnets.0.conv1.weight"][0] for b in range(levels)]
    depths = [_depth(shapes, f"down_blocks.{b}") for b in range(levels)]
    middle = _depth(shapes, "mid_block")
    kinds = ["CrossAttnDownBlock2D" if depth else "DownBlock2D" for depth in depths]
    # A level without transformers has no depth; the middle takes that of the last.
    depths = [depth or (middle if b == levels - 1 else 1) for b, depth in enumerate(depths)]
    projection = shapes["mid_block.attentions.0.proj_in.weight"]
    head = facts.get("width_of_head", 0)
    added = shapes.get("add_embedding.linear_1.weight")
    return {
        "in_channels": shapes["conv_in.weight"][1],
        "block_out_channels": widths,
        "down_block_types": kinds,
        "layers_per_block": _count(shapes, r"down_blocks\.0\.resnets\.(\d+)\."),
        "transformer_layers_per_block": depths if len(set(depths)) > 1 else depths[0],
        "cross_attention_dim": shapes["mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight"][1],
        "attention_head_dim": [width // head for width in widths] if head else facts["heads"],
        "use_linear_projection": len(projection) == 2,
        **({"upcast_attention": True} if facts.get("upcast_attention") else {}),
        **(
            {
                "addition_embed_type": "text_time",
                "addition_time_embed_dim": facts["addition_time_embed_dim"],
                "projection_class_embeddings_input_dim": added[1],
            }
            if added
            else {}
        ),
    }


def vae(shapes: Mapping[str, Shape], facts: Mapping[str, Any]) -> dict[str, Any]:
    """``config.json`` of an autoencoder."""
    levels = _count(shapes, r"encoder\.down_blocks\.(\d+)\.")
    return {
        "_class_name": "AutoencoderKL",
        "in_channels": shapes["encoder.conv_in.weight"][1],
        "out_channels": shapes["decoder.conv_out.weight"][0],
        "down_block_types": ["DownEncoderBlock2D"] * levels,
        "up_block_types": ["UpDecoderBlock2D"] * levels,
        "block_out_channels": [shapes[f"encoder.down_blocks.{b}.resnets.0.conv1.weight"][0] for b in range(levels)],
        "layers_per_block": _count(shapes, r"encoder\.down_blocks\.0\.resnets\.(\d+)\."),
        "latent_channels": shapes["decoder.conv_in.weight"][1],
        "sample_size": facts["sample_size"],
        "scaling_factor": facts["scaling_factor"],
        **({"force_upcast": True} if facts.get("force_upcast") else {}),
    }


def text(shapes: Mapping[str, Shape], facts: Mapping[str, Any]) -> dict[str, Any]:
    """``config.json`` of a text encoder of CLIP, whose heads are 64 wide."""
    words, width = shapes["text_model.embeddings.token_embedding.weight"]
    projection = shapes.get("text_projection.weight")
    return {
        "architectures": ["CLIPTextModelWithProjection" if projection else "CLIPTextModel"],
        "model_type": "clip_text_model",
        "vocab_size": words,
        "hidden_size": width,
        "intermediate_size": shapes["text_model.encoder.layers.0.mlp.fc1.weight"][0],
        "num_hidden_layers": _count(shapes, r"text_model\.encoder\.layers\.(\d+)\."),
        "num_attention_heads": max(width // 64, 1),
        "max_position_embeddings": shapes["text_model.embeddings.position_embedding.weight"][0],
        "hidden_act": facts["hidden_act"],
        "projection_dim": projection[0] if projection else width,
        "bos_token_id": words - 2,
        "eos_token_id": words - 1,
        "pad_token_id": words - 1 if facts["hidden_act"] == "quick_gelu" else 0,
    }


def scheduler(prediction: str, facts: Mapping[str, Any] | None = None, *, zero_snr: bool = False) -> dict[str, Any]:
    """``scheduler_config.json`` for a network that predicts ``epsilon`` or ``v_prediction``.

    Args:
        facts: what the variant says of it. zero_snr: whether its path ends in pure noise.
    """
    usual = {"_class_name": "DDIMScheduler", **SCHEDULER, "clip_sample": False, "set_alpha_to_one": False}
    ends = {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"} if zero_snr else {}
    made = {**usual, **(facts or {}), "prediction_type": prediction, **ends}
    if made["_class_name"] == "EulerDiscreteScheduler":  # which knows neither
        made = {key: value for key, value in made.items() if key not in ("clip_sample", "set_alpha_to_one")}
    return made


def _count(shapes: Mapping[str, Shape], pattern: str) -> int:
    """One above the highest number that stands where the pattern has its group."""
    numbers = [int(found[1]) for name in shapes if (found := re.match(pattern, name))]
    return max(numbers) + 1 if numbers else 0


def _depth(shapes: Mapping[str, Shape], block: str) -> int:
    return _count(shapes, re.escape(block) + r"\.attentions\.0\.transformer_blocks\.(\d+)\.")
