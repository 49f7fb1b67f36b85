"""Files and folders of full size that take no room: real headers and holes where the numbers would be."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path

from safelight.families.sd.shape import configs, scheduler
from safelight.weights.header import BITS
from safelight.weights.keys import Shape
from safelight.weights.variants import expected, tables_of


def written(path: Path, shapes: Mapping[str, Shape], dtype: str = "F16") -> Path:
    """A safetensors file of zeros with these tensors."""
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


def folder_of(place: Path, name: str, dtype: str = "F16") -> Path:
    """A released folder of a variant at full size, without its tokenizers."""
    variant, stored = tables_of("sd").variant(name), expected(tables_of("sd").folder)
    rows = {part: stored[header] for part, header in variant.expected.items() if part != "controlnet"}
    index: dict[str, object] = {"_class_name": variant.pipeline, "scheduler": ["diffusers", "DDIMScheduler"]}
    for part, config in configs(variant, rows).items():
        (place / part).mkdir(parents=True)
        text = part.startswith("text_encoder")
        written(place / part / f"{'model' if text else 'diffusion_pytorch_model'}.safetensors", rows[part], dtype)
        (place / part / "config.json").write_text(json.dumps(config))
        kind = config["architectures"][0] if text else config["_class_name"]
        index[part] = ["transformers" if text else "diffusers", kind]
    (place / "scheduler").mkdir()
    (place / "scheduler/scheduler_config.json").write_text(json.dumps(scheduler(variant.prediction)))
    (place / "model_index.json").write_text(json.dumps(index))
    return place
