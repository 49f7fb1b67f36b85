"""Names and shapes of the released IP-Adapters at full size, layers counted by the reference's own network.

``python -m tests.headers.ip_adapters`` writes them to ``tests/headers/ip_adapters.json.gz``; a test compares.
"""

from __future__ import annotations

import gzip
import json
from typing import Any

import diffusers
import torch

from tests.architecture.source import ROOT
from tests.headers.references import SD1, SDXL
from tests.parity.ip_adapters import Shapes, projection, released

FILE = ROOT / "tests/headers/ip_adapters.json.gz"
H = {"hidden": 1280, "projected": 1024, "face": 512, "depth": 4}
RELEASED: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "ip-adapter_sd15": ("base", SD1, {**H, "tokens": 4}),
    "ip-adapter-plus_sd15": ("plus", SD1, {**H, "tokens": 16}),
    "ip-adapter-full-face_sd15": ("full", SD1, {**H, "tokens": 0}),
    "ip-adapter_sdxl": ("base", SDXL, {**H, "projected": 1280, "tokens": 4}),
    "ip-adapter_sdxl_vit-h": ("base", SDXL, {**H, "tokens": 4}),
    "ip-adapter-plus_sdxl_vit-h": ("plus", SDXL, {**H, "tokens": 16}),
    "ip-adapter-faceid_sd15": ("face id", SD1, {**H, "tokens": 4}),
    "ip-adapter-faceid-plus_sd15": ("face id plus", SD1, {**H, "tokens": 4}),
    "ip-adapter-faceid_sdxl": ("face id", SDXL, {**H, "tokens": 4}),
    "ip-adapter-faceid-plusv2_sdxl": ("face id plus", SDXL, {**H, "tokens": 4}),
}
"""Released file -> kind, U-Net, and sizes; those for faces are the ``plus`` kind, which has no name of its own."""
RANK = 128


def header(name: str) -> Shapes:
    """Every tensor of a released file."""
    kind, config, sizes = RELEASED[name]
    with torch.device("meta"):
        unet = diffusers.UNet2DConditionModel(**config)
    read: Shapes = {}
    for number, place in enumerate(unet.attn_processors):
        layer = unet.get_submodule(place.removesuffix(".processor"))
        width, source = layer.to_k.weight.shape
        if place.endswith("attn2.processor"):
            read |= {f"{number}.to_k_ip.weight": (width, source), f"{number}.to_v_ip.weight": (width, source)}
        if kind.startswith("face"):
            for part in ("q", "k", "v", "out"):
                read[f"{number}.to_{part}_lora.down.weight"] = (RANK, source if part in "kv" else width)
                read[f"{number}.to_{part}_lora.up.weight"] = (width, RANK)
    return released(projection(kind, config["cross_attention_dim"], **sizes), read)


if __name__ == "__main__":
    text = json.dumps({name: header(name) for name in RELEASED}, separators=(",", ":"))
    FILE.write_bytes(gzip.compress(text.encode(), mtime=0))
