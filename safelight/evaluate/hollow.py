"""Models of full size that take no room: real headers, and holes where the numbers would be; no torch."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path

from safelight.families.sd.shape import configs, scheduler
from safelight.weights.header import BITS
from safelight.weights.keys import Shape
from safelight.weights.variants import tables_of


def write_file(path: Path, shapes: Mapping[str, Shape], dtype: str = "F16") -> Path:
    """A safetensors file of zeros with these tensors; on most file systems it takes as much as its header."""
    header: dict[str, object] = {}
    end = 0
    for name, shape in shapes.items():
        begin, end = end, end + math.prod(shape) * BITS[dtype] // 8
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + end)
    return path


def single(name: str, channels: int = 0) -> dict[str, Shape]:
    """The tensors of a variant's single file at full size.

    Args:
        channels: that the U-Net reads; 0 for those of the stored header.
    """
    made: dict[str, Shape] = {}
    sd = tables_of("sd")
    variant = sd.variant(name)
    for part in variant.written:
        if part.name in variant.expected and part.name != "controlnet":
            rows = dict(sd.header(variant, part.name))
            if part.name == "unet" and channels:
                rows["conv_in.weight"] = (rows["conv_in.weight"][0], channels, 3, 3)
            for move in sd.keys.parts[part.table].to_theirs(rows).moves:
                made[part.prefixes[0] + move.theirs] = move.their_shape(rows[move.ours[0]])
    return made


def write_folder(place: Path, name: str, dtype: str = "F16") -> Path:
    """A released folder of a variant at full size, without its tokenizers."""
    variant = tables_of("sd").variant(name)
    rows = {part: tables_of("sd").header(variant, part) for part in variant.expected if part != "controlnet"}
    index: dict[str, object] = {"_class_name": variant.pipeline, "scheduler": ["diffusers", "DDIMScheduler"]}
    for part, config in configs(variant, rows).items():
        (place / part).mkdir(parents=True)
        text = part.startswith("text_encoder")
        write_file(place / part / f"{'model' if text else 'diffusion_pytorch_model'}.safetensors", rows[part], dtype)
        (place / part / "config.json").write_text(json.dumps(config), encoding="utf-8")
        kind = config["architectures"][0] if text else config["_class_name"]
        index[part] = ["transformers" if text else "diffusers", kind]
    (place / "scheduler").mkdir()
    plan = json.dumps(scheduler(variant.prediction, variant.config.get("scheduler")))
    (place / "scheduler" / "scheduler_config.json").write_text(plan, encoding="utf-8")
    (place / "model_index.json").write_text(json.dumps(index), encoding="utf-8")
    return place
