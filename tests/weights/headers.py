"""Files of full size that take no room: a real header and a hole where the numbers would be."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path

from safelight.weights.header import BITS
from safelight.weights.keys import Shape


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
