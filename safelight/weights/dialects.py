"""What an adapter's file is, by the names of its tensors: kind, dialect, rank, and the width of text it was made for.

Sources: the files that kohya's sd-scripts, diffusers, PEFT and LyCORIS write; Hu et al. 2021 (LoRA), Gal et al. 2022
(textual inversion), Mou et al. 2023 (T2I-Adapter), Ye et al. 2023 (IP-Adapter), Huang et al. 2024 (MV-Adapter).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from safelight.weights.keys import Shape


@dataclass(frozen=True)
class Adapter:
    """What an adapter's file holds.

    Attributes:
        kind: ``lora``, ``loha``, ``lokr``, ``dora``, ``textual inversion``, ``ip-adapter``, ``mv-adapter``,
            ``t2i-adapter``.
        dialect: who names tensors so: ``kohya``, ``diffusers``, ``peft``, or empty where there is one only.
        changes: which networks: ``unet``, ``transformer``, ``text_encoder``, ``text_encoder_2``.
        rank: of its smallest and largest change, (0, 0) where it has none.
        width: of the text that its target reads; 0 where the file does not tell.
    """

    kind: str
    dialect: str
    changes: tuple[str, ...]
    rank: tuple[int, int]
    width: int


class _Ending(NamedTuple):
    """What the last words of a tensor's name tell."""

    words: str
    kind: str
    dialect: str


ENDINGS = (
    _Ending(".lora_down.weight", "lora", "kohya"),
    _Ending(".lora.down.weight", "lora", "diffusers"),
    _Ending("_lora.down.weight", "lora", "diffusers"),
    _Ending(".lora_A.weight", "lora", "peft"),
    _Ending(".lora_A.default.weight", "lora", "peft"),
    _Ending(".hada_w1_b", "loha", "kohya"),
    _Ending(".lokr_w1", "lokr", "kohya"),
    _Ending(".lokr_w1_b", "lokr", "kohya"),
)
DORA = (".dora_scale", ".lora_magnitude_vector", ".lora_magnitude_vector.weight")
CHANGES = (
    ("unet", ("lora_unet_", "unet.", "base_model.model.unet.", "base_model.model.down_blocks.", "down_blocks.")),
    ("transformer", ("transformer.", "lora_transformer_", "base_model.model.transformer_blocks.", "diffusion_model.")),
    ("text_encoder", ("lora_te_", "lora_te1_", "text_encoder.")),
    ("text_encoder_2", ("lora_te2_", "text_encoder_2.")),
)
CROSS = ("attn2_to_k", "attn2.to_k", "attn2.processor.to_k", "to_k_ip")
EMBEDDINGS = ("emb_params", "string_to_param.*", "clip_l", "clip_g")


def adapter(shapes: Mapping[str, Shape]) -> Adapter | None:
    """What kind of adapter the tensors make, or None where they make none."""
    if shapes and shapes.keys() <= set(EMBEDDINGS) and all(1 <= len(shape) <= 2 for shape in shapes.values()):
        widths = [shape[-1] for shape in shapes.values()]
        return Adapter("textual inversion", "", ("text_encoder",), (0, 0), sum(widths))
    if any(".to_k_ip.weight" in name and ".attn2.to_k_ip." not in name for name in shapes):  # those are ImageDream's
        return Adapter("ip-adapter", "", ("unet",), (0, 0), _width(shapes))
    if any(name.endswith(".attn1.processor.to_q_mv.weight") for name in shapes):
        return Adapter("mv-adapter", "", ("unet",), (0, 0), 0)
    if any(name.startswith(("adapter.body.", "body.0.resnets.", "body.0.block1.", "body.0.body.")) for name in shapes):
        return Adapter("t2i-adapter", "", ("unet",), (0, 0), 0)
    for ending in ENDINGS:
        ranks = [shape[0] for name, shape in shapes.items() if name.endswith(ending.words) and shape]
        if ranks:
            dora = any(name.endswith(DORA) for name in shapes)
            dialect = ending.dialect
            if dialect == "peft" and not any(name.startswith("base_model.") for name in shapes):
                dialect = "diffusers"  # which names its matrices like PEFT since 2023, without PEFT's prefix
            kind = "dora" if dora and ending.kind == "lora" else ending.kind
            return Adapter(kind, dialect, _changes(shapes), (min(ranks), max(ranks)), _width(shapes))
    return None


def _changes(shapes: Mapping[str, Shape]) -> tuple[str, ...]:
    return tuple(part for part, begins in CHANGES if any(name.startswith(begins) for name in shapes))


def _width(shapes: Mapping[str, Shape]) -> int:
    """The width of the text that cross-attention's keys are made from."""
    downs = (".lora_down.weight", ".lora.down.weight", "_lora.down.weight", ".lora_A.weight", ".hada_w1_b")
    for name, shape in shapes.items():
        if any(word in name for word in CROSS) and len(shape) == 2 and name.endswith((*downs, "to_k_ip.weight")):
            return shape[1]
    return 0
