"""Tiny IP-Adapters of every kind in released files, a tiny image encoder beside them, for ours and the reference."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import torch
import transformers
from PIL import Image
from torch import Tensor

from safelight.adapters.ip_adapter.model import numbered
from safelight.families.sd.model import UNet
from safelight.weights.save import save
from tests.parity.networks import randomise
from tests.parity.test_clip_vision import VISION, picture

Shapes = dict[str, tuple[int, ...]]
EDGE, FACE, RANK = VISION["image_size"], 12, 2
KINDS = ("base", "full", "plus", "face id", "face id plus")
SHOWN = [picture((40, 28), seed=5), picture((24, 40), seed=6)]


def projection(kind: str, text: int, *, hidden: int, projected: int, face: int, tokens: int, depth: int) -> Shapes:
    """The released names of a kind's ``image_proj`` with their shapes, written down from the public code."""

    def resampler(stem: str, source: int, inner: int) -> Shapes:
        rows: Shapes = {
            "proj_in.weight": (inner, source),
            "proj_in.bias": (inner,),
            "proj_out.weight": (text, inner),
            "proj_out.bias": (text,),
            **dict.fromkeys(("norm_out.weight", "norm_out.bias"), (text,)),
        }
        for layer in range(depth):
            norms = [f"layers.{layer}.{part}" for part in ("0.norm1", "0.norm2", "1.0")]
            rows |= dict.fromkeys((f"{norm}.{what}" for norm in norms for what in ("weight", "bias")), (inner,))
            rows |= dict.fromkeys((f"layers.{layer}.0.{part}.weight" for part in ("to_q", "to_out")), (inner, inner))
            rows[f"layers.{layer}.0.to_kv.weight"] = (2 * inner, inner)
            rows[f"layers.{layer}.1.1.weight"] = (4 * inner, inner)
            rows[f"layers.{layer}.1.3.weight"] = (inner, 4 * inner)
        return {stem + name: shape for name, shape in rows.items()}

    def line(name: str, width: int, source: int) -> Shapes:
        return {f"{name}.weight": (width, source), f"{name}.bias": (width,)}

    norm = dict.fromkeys(("norm.weight", "norm.bias"), (text,))
    if kind == "base":
        return line("proj", tokens * text, projected) | norm
    if kind == "full":
        last = dict.fromkeys(("proj.3.weight", "proj.3.bias"), (text,))
        return line("proj.0", hidden, hidden) | line("proj.2", text, hidden) | last
    if kind == "plus":
        inner = 64 if hidden < 64 else 1280 if text == 2048 else 768
        return {"latents": (1, tokens, inner), **resampler("", hidden, inner)}
    first = line("proj.0", 2 * face, face) | line("proj.2", tokens * text, 2 * face) | norm
    return first if kind == "face id" else first | resampler("perceiver_resampler.", hidden, text)


def layers(network: UNet, *, lora: int = 0) -> Shapes:
    """The released names of what an adapter has for each attention layer of a network."""
    rows: Shapes = {}
    for number, layer in enumerate(numbered(network)):
        width, source = layer.to_k.weight.shape
        if number % 2:
            rows |= dict.fromkeys((f"{number}.{part}.weight" for part in ("to_k_ip", "to_v_ip")), (width, source))
        for part in ("to_q", "to_k", "to_v", "to_out") if lora else ():
            rows[f"{number}.{part}_lora.down.weight"] = (lora, source if part in ("to_k", "to_v") else width)
            rows[f"{number}.{part}_lora.up.weight"] = (width, lora)
    return rows


def released(projected: Shapes, read: Shapes) -> Shapes:
    """The names of a whole file."""
    first = {f"image_proj.{name}": shape for name, shape in projected.items()}
    return first | {f"ip_adapter.{name}": shape for name, shape in read.items()}


def tensors(kind: str, network: UNet, seed: int = 3) -> dict[str, Tensor]:
    """A tiny adapter of random numbers for a network."""
    sizes = {"hidden": VISION["hidden_size"], "projected": VISION["projection_dim"], "face": FACE, "depth": 4}
    text, lora = network.config.cross_attention_dim, RANK if kind.startswith("face") else 0
    shapes = released(projection(kind, text, tokens=6 if kind == "plus" else 4, **sizes), layers(network, lora=lora))
    generator = torch.Generator().manual_seed(seed)
    made = {}
    for name, shape in shapes.items():
        flat, gain = len(shape) == 1, len(shape) == 1 and name.endswith("weight")
        spread = 0.1 if flat else math.prod(shape[1:]) ** -0.5
        made[name] = torch.randn(shape, generator=generator) * spread + float(gain)
    return made


def nested(flat: dict[str, Tensor], dtype: torch.dtype = torch.float64) -> dict[str, dict[str, Tensor]]:
    """The same as the reference wants it in memory, and as ``.bin`` files hold it."""
    parts: dict[str, dict[str, Tensor]] = {"image_proj": {}, "ip_adapter": {}}
    for name, tensor in flat.items():
        part, _, rest = name.partition(".")
        parts[part][rest] = tensor.to(dtype)
    return parts


def write(place: Path, flat: dict[str, Tensor], name: str = "ip-adapter.safetensors") -> Path:
    """A folder ``models`` as it is released: the adapter, and ``image_encoder`` beside it; the adapter's file."""
    models = place / "models"
    folder = models / "image_encoder"
    folder.mkdir(parents=True, exist_ok=True)
    told = {**VISION, "architectures": ["CLIPVisionModelWithProjection"], "model_type": "clip_vision_model"}
    (folder / "config.json").write_text(json.dumps(told))
    save(dict(reference_encoder().state_dict()), folder / "model.safetensors")
    save(flat, models / name)
    return models / name


def reference_encoder() -> Any:
    """The reference's tiny image encoder."""
    settings = transformers.CLIPVisionConfig(**VISION)
    settings._attn_implementation = "sdpa"
    found = transformers.CLIPVisionModelWithProjection(settings).eval()
    randomise(found, seed=4)
    return found


def half(size: tuple[int, int], side: str) -> Image.Image:
    """A mask, white on one side: ``left``, ``top`` or ``none``; not a mirror of itself."""
    mask = Image.new("L", size, 0)
    width, height = size
    box = {"left": (0, 0, width // 2, height), "top": (0, 0, width, height // 3), "none": (0, 0, 0, 0)}[side]
    mask.paste(255, box)
    return mask
