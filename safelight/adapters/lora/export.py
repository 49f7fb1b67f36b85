"""Write adapters in any dialect: one as it is, several as their sum.

A dialect that has no word for a strength gets it multiplied into ``up``; where nothing must be multiplied, every number
is the file's own.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from safelight.adapters.lora.blocks import Blocks, blocks_of, weight_of
from safelight.adapters.lora.deltas import GAINS, TURNS, deltas
from safelight.adapters.lora.dialects import BEGINNINGS, ENDINGS, LDM, OURS, Beginning
from safelight.adapters.lora.file import Lora
from safelight.adapters.lora.forms import FORMS, direction
from safelight.adapters.lora.plan import Row, fit
from safelight.adapters.lora.targets import Layer, Targets
from safelight.errors import RequestError, WeightsError

DIALECTS = ("kohya", "diffusers", "peft", "comfyui")
"""What can be written; more can be read."""
HANDS = {"kohya": "kohya", "diffusers": "peft", "peft": "peft", "comfyui": "kohya"}
LYCORIS = ("kohya", "comfyui")
"""Dialects that have words for every form; the others know plain LoRA and DoRA."""
XL = "text_encoder_2"


class Part(NamedTuple):
    """An adapter that takes part in a sum: how strong, and in which blocks."""

    lora: Lora
    scale: float = 1.0
    blocks: Blocks = None


@dataclass
class Change:
    """One change, to be written.

    Attributes:
        layer: what is changed. form: a name of FORMS. tensors: by role, without ``alpha``.
        strength: alpha by rank. scale: what the whole is multiplied by besides.
        alpha: the file's own. said: PEFT's settings.
    """

    layer: Layer
    form: str
    tensors: dict[str, Tensor]
    strength: float = 1.0
    scale: float = 1.0
    alpha: Tensor | None = None
    said: Mapping[str, object] = field(default_factory=dict)


def export(lora: Lora, targets: Targets, dialect: str) -> dict[str, Tensor]:
    """One adapter in another dialect.

    Raises:
        WeightsError: it does not fit the model whose layers ``targets`` are.
        RequestError: the dialect has no words for a form, or for several networks in one file.
    """
    return write(changes([Part(lora)], targets), targets, dialect)


def changes(parts: Sequence[Part], targets: Targets, weights: Mapping[str, Tensor] | None = None) -> list[Change]:
    """The sum of adapters, layer by layer: their ranks side by side where all are plain LoRA, else what they add up to.

    Args:
        weights: full name of a layer -> its weight, for DoRA, OFT and (IA)^3, which depend on it.

    Raises:
        WeightsError: one does not fit. RequestError: a sum depends on weights, and there are none.
    """
    by_layer: dict[str, list[Change]] = defaultdict(list)
    for lora, scale, blocks in parts:
        plan = fit(lora.contents, targets)
        strengths = blocks_of(blocks, plan)
        for row in plan.rows:
            strong = scale * weight_of(strengths, row.layer.full)
            if strong:
                by_layer[row.layer.full].append(_change(lora, row, strong))
    return [_sum(rows, weights) for rows in by_layer.values()]


def write(rows: Sequence[Change], targets: Targets, dialect: str) -> dict[str, Tensor]:
    """Changes as the tensors of a file; RequestError where the dialect has no words for them."""
    if dialect not in DIALECTS:
        raise RequestError(f"{dialect!r} cannot be written; {', '.join(DIALECTS)} can")
    networks = sorted({row.layer.part for row in rows})
    if dialect == "peft" and len(networks) > 1:
        raise RequestError(f"a file of PEFT is of one network, this is of {' and '.join(networks)}; write diffusers'")
    made: dict[str, Tensor] = {}
    for row in rows:
        stem = targets.spelled(row.layer, beginning(row.layer, targets, dialect))
        if stem is None:
            raise RequestError(f"{dialect} has no name for the layer {row.layer.full}")
        made |= {f"{stem}{ending}": tensor for ending, tensor in _spelled(row, dialect).items()}
    return made


def beginning(layer: Layer, targets: Targets, dialect: str) -> Beginning:
    """The rule by which a dialect names a layer; kohya's tools name XL's U-Net as single files do."""
    xl = XL in targets.parts
    mine = [each for each in BEGINNINGS if each.dialect == dialect]
    if dialect == "peft":
        return next(each for each in mine if not each.part)
    naming = LDM if layer.part == "unet" and (dialect == "comfyui" or (dialect == "kohya" and xl)) else OURS
    usual = [each for each in mine if each.part == layer.part and each.naming == naming and each.words]
    return usual[1] if dialect == "kohya" and xl and layer.part == "text_encoder" else usual[0]


def _change(lora: Lora, row: Row, scale: float) -> Change:
    tensors = lora.roles(row)
    form = FORMS[row.piece.form]
    alpha = tensors.pop("alpha", None) if form.scaled and row.rank else tensors.get("alpha")
    said = lora.contents.settings.of(row.layer.part)
    return Change(row.layer, row.piece.form, tensors, lora.strength(row), scale, alpha, said)


def _sum(rows: list[Change], weights: Mapping[str, Tensor] | None) -> Change:
    """Several changes of one layer as one."""
    first = rows[0]
    linear = FORMS[first.form].scaled and not {"magnitude", "dora_scale", "diff_b"} & first.tensors.keys()
    if len(rows) == 1 and (first.scale == 1 or linear):
        return first
    if all(row.form == "lora" and row.tensors.keys() == {"up", "down"} for row in rows):
        downs = torch.cat([_laid(row.tensors["down"], row.layer) for row in rows])
        strong = [_times(row.tensors["up"], row.strength * row.scale) for row in rows]
        ups = torch.cat([_laid(up, first.layer) for up in strong], dim=1)
        return Change(first.layer, "lora", {"down": downs, "up": ups})
    sums: dict[str, Tensor] = {}
    for row in rows:
        for name, delta in _dense(row, weights).items():
            sums[name] = sums[name] + delta if name in sums else delta
    normal = len(first.layer.weight) == 1
    words = {"weight": "w_norm", "bias": "b_norm"} if normal else {"weight": "diff", "bias": "diff_b"}
    return Change(first.layer, "norm" if normal else "full", {words[name]: delta for name, delta in sums.items()})


def _dense(row: Change, weights: Mapping[str, Tensor] | None) -> dict[str, Tensor]:
    depends = row.form in TURNS or row.form in GAINS or {"magnitude", "dora_scale"} & row.tensors.keys()
    weight = None if weights is None else weights.get(row.layer.full)
    if depends and weight is None:
        raise RequestError(
            f"what {row.form} adds to {row.layer.full} depends on the model; say which it is for (--for)"
        )
    tensors = {role: tensor.float() for role, tensor in row.tensors.items()}
    if row.form in TURNS and row.alpha is not None:
        tensors["alpha"] = row.alpha.float()
    there = torch.zeros(row.layer.weight) if weight is None else weight.float()
    made = deltas(row.form, tensors, there, row.strength, row.said)
    return {name: delta * row.scale for name, delta in made.items()}


def _spelled(row: Change, dialect: str) -> dict[str, Tensor]:
    """Ending -> tensor."""
    known = row.form == "lora" and not {"mid", "diff_b"} & row.tensors.keys()
    if dialect not in LYCORIS and not known:
        raise RequestError(f"{dialect} has no words for {row.form} ({row.layer.full}); {' and '.join(LYCORIS)} have")
    tensors, hand = dict(row.tensors), HANDS[dialect]
    rank, strong = _rank(row), row.strength * row.scale
    if rank and dialect in LYCORIS:
        own = row.alpha is not None and row.scale == 1
        tensors["alpha"] = row.alpha if own else torch.tensor(strong * rank)  # type: ignore[assignment]
    elif strong != 1:
        role = "up" if rank else "lokr_w1"
        tensors[role] = _times(tensors[role], strong)
        if "up_bias" in tensors:
            tensors["up_bias"] = _times(tensors["up_bias"], strong)
    for theirs, ours in (("dora_scale", "magnitude"), ("magnitude", "dora_scale")):
        if theirs in tensors and (dialect in LYCORIS) == (ours == "dora_scale"):
            tensors[ours] = _magnitude(tensors.pop(theirs), theirs, row.layer, dialect)
    return {_ending(role, hand): tensor for role, tensor in tensors.items()}


def _rank(row: Change) -> int:
    shapes = {role: tuple(tensor.shape) for role, tensor in row.tensors.items()}
    return FORMS[row.form].rank(shapes, row.layer.weight)


def _magnitude(size: Tensor, role: str, layer: Layer, dialect: str) -> Tensor:
    if direction(role, tuple(size.shape), layer.weight) != 0:
        raise RequestError(f"{dialect} has no words for a magnitude of each channel in ({layer.full})")
    if dialect in LYCORIS:
        return size.reshape(-1, *[1] * (len(layer.weight) - 1))
    return size.reshape(-1) if len(layer.weight) == 2 else size.reshape(1, -1, 1, 1)


def _ending(role: str, hand: str) -> str:
    for ending in ENDINGS:
        if ending.role == role and ending.hand in (hand, "", "lycoris"):
            return ending.words
    raise WeightsError(f"no ending for {role} of {hand}")


def _laid(tensor: Tensor, layer: Layer) -> Tensor:
    """A factor with as many axes as its layer's weight, so that factors of several files can stand side by side."""
    return tensor.flatten(1) if len(layer.weight) == 2 else tensor.reshape(*tensor.shape, *[1] * (4 - tensor.dim()))


def _times(tensor: Tensor, by: float) -> Tensor:
    return tensor if by == 1 else (tensor.float() * by).to(tensor.dtype) if tensor.element_size() < 4 else tensor * by
