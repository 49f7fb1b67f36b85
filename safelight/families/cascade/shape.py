"""Work out the ``config.json`` of a stage of Stable Cascade from the names and shapes of its tensors; no torch.

Shapes cannot say that every head of attention is 64 wide, that attention looks at its own grid, that the prior takes
its places one by one and the decoder two by two, and what turns the autoencoder's latents into those that are drawn.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

from safelight.errors import ConfigError
from safelight.families.cascade.model import ATTENTION, RES, TIME
from safelight.weights.keys import Shape

HEAD = 64
KINDS = {"depthwise.weight": RES, "mapper.weight": TIME, "kv_mapper.1.weight": ATTENTION}
PATCH = {"prior": 1, "decoder": 2}


def config(part: str, shapes: Mapping[str, Shape], facts: Mapping[str, Any]) -> dict[str, Any]:
    """``config.json`` of the ``prior``, the ``decoder`` or the autoencoder (``vqgan``).

    Args:
        facts: what the kind of file says beside its shapes.

    Raises:
        ConfigError: it lacks the tensors that its sizes are read from, or its levels are of no pattern.
    """
    try:
        return autoencoder(shapes, facts) if part == "vqgan" else network(shapes, PATCH[part])
    except (KeyError, IndexError, ZeroDivisionError) as error:
        raise ConfigError(f"the {part} lacks the tensors that its sizes are read from ({error})") from None


def network(shapes: Mapping[str, Shape], patch: int) -> dict[str, Any]:
    """``config.json`` of either network."""
    n = _count(shapes, "down_blocks.{}.0.depthwise.weight")
    down, up = ([_kinds(shapes, f"{way}_blocks.{level}") for level in range(n)] for way in ("down", "up"))
    types = [_pattern(kinds) for kinds in down]
    widths = [shapes[f"down_blocks.{level}.0.depthwise.weight"][0] for level in range(n)]
    kernel = shapes["down_blocks.0.0.depthwise.weight"][-1]
    condition = next(shape[1] for name, shape in shapes.items() if name.endswith("kv_mapper.1.weight"))
    tokens, pooled = shapes["clip_txt_pooled_mapper.weight"]
    further = [name for name in ("sca", "crp") if f"down_blocks.0.1.mapper_{name}.weight" in shapes]
    wide = {
        "clip_text_in_channels": "clip_txt_mapper.weight",
        "clip_image_in_channels": "clip_img_mapper.weight",
        "effnet_in_channels": "effnet_mapper.0.weight",
        "pixel_mapper_in_channels": "pixels_mapper.0.weight",
    }
    return {
        "_class_name": "StableCascadeUNet",
        "in_channels": shapes["embedding.1.weight"][1] // patch**2,
        "out_channels": shapes["clf.1.weight"][0] // patch**2,
        "timestep_ratio_embedding_dim": shapes["down_blocks.0.1.mapper.weight"][1],
        "patch_size": patch,
        "conditioning_dim": condition,
        "block_out_channels": widths,
        "num_attention_heads": [w // HEAD if ATTENTION in kinds else 0 for w, kinds in zip(widths, types)],
        "down_num_layers_per_block": [kinds.count(RES) for kinds in down],
        "up_num_layers_per_block": [kinds.count(RES) for kinds in up],
        "down_blocks_repeat_mappers": [_turns(shapes, f"down_repeat_mappers.{level}") for level in range(n)],
        "up_blocks_repeat_mappers": [_turns(shapes, f"up_repeat_mappers.{level}") for level in range(n)],
        "block_types_per_layer": types,
        **{key: shapes[name][1] for key, name in wide.items() if name in shapes},
        "clip_text_pooled_in_channels": pooled,
        "clip_seq": tokens // condition,
        "kernel_size": kernel,
        "self_attn": True,
        "timestep_conditioning_type": further,
        "switch_level": [False] * (n - 1) if "down_downscalers.1.1.blocks.0.weight" in shapes else None,
    }


def autoencoder(shapes: Mapping[str, Shape], facts: Mapping[str, Any]) -> dict[str, Any]:
    """``config.json`` of stage A; patches of two by two pixels."""
    blocks = [f"up_blocks.{k}.gammas" in shapes for k in range(1, 1 + len(shapes))]
    finer = sum(name.startswith("up_blocks.") and name.count(".") == 2 and len(s) == 4 for name, s in shapes.items())
    width, latent = shapes["up_blocks.0.0.weight"][:2]
    return {
        "_class_name": "PaellaVQModel",
        "in_channels": shapes["in_block.1.weight"][1] // 4,
        "out_channels": shapes["out_block.0.weight"][0] // 4,
        "up_down_scale_factor": 2,
        "levels": 1 + finer,
        "bottleneck_blocks": blocks.index(False),
        "embed_dim": width,
        "latent_channels": latent,
        "num_vq_embeddings": shapes["vquantizer.embedding.weight"][0],
        **facts,
    }


def _kinds(shapes: Mapping[str, Shape], level: str) -> list[str]:
    """What the layers of a level are, in order."""
    found: list[str] = []
    for place in itertools.count():
        kind = next((kind for name, kind in KINDS.items() if f"{level}.{place}.{name}" in shapes), None)
        if kind is None:
            return found
        found.append(kind)
    raise AssertionError("counting does not end")


def _pattern(kinds: list[str]) -> list[str]:
    """What is repeated along a level: from one convolution to the next."""
    types = kinds[: next((place for place, kind in enumerate(kinds) if place and kind == RES), len(kinds))]
    if types * (len(kinds) // len(types)) != kinds:
        raise ConfigError(f"a level of layers ({', '.join(kinds[:6])} ...) repeats no pattern")
    return types


def _count(shapes: Mapping[str, Shape], template: str) -> int:
    return next(k for k in itertools.count() if template.format(k) not in shapes)


def _turns(shapes: Mapping[str, Shape], place: str) -> int:
    return 1 + _count(shapes, place + ".{}.weight")
