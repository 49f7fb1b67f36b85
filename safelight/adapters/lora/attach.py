"""Attach an adapter to a loaded model, or merge it, and take it off again; what it changed has its own bits back.

A plain LoRA is computed beside the layer, at the cost of its rank; every other form is worked out once, when it is
attached, and costs nothing afterwards. Every change is one of the layer's own numbers W, never of what another adapter
made of them: W + the sum of scale · delta(W), in an order that the files' hashes give.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from safelight.adapters.lora.blocks import Blocks, blocks_of, weight_of
from safelight.adapters.lora.deltas import deltas
from safelight.adapters.lora.file import Lora, parts
from safelight.adapters.lora.plan import Plan, Row
from safelight.errors import RequestError
from safelight.families.family import Model
from safelight.nn import surgery
from safelight.nn.surgery import Change, Record

KIND = "lora"
MOST_SCALE = 100.0


class Beside(Change):
    """A plain LoRA beside its layer: y + scale · up(down(x)), down [R, I] or with the layer's kernel, up [O, R].

    Args:
        factors: role -> tensor, in the dtype of the layer.
        scale: of the change, alpha and all.
        live: see `Change`.
    """

    down: Tensor
    mid: Tensor | None
    up: Tensor
    scale: Tensor

    def __init__(self, name: str, order: str, factors: Mapping[str, Tensor], scale: Tensor, *, live: bool) -> None:
        super().__init__(name, order, live=live)
        for role in ("down", "mid", "up"):
            self.keep(role, factors.get(role))
        self.keep("scale", scale)

    def after(self, layer: Any, x: Tensor, y: Tensor) -> Tensor:
        if isinstance(layer, nn.Linear):
            low = F.linear(x, self.down) * self.scale
            return torch.addmm(y.flatten(0, -2), low.flatten(0, -2), self.up.t()).view(y.shape)
        if self.mid is not None:
            low = layer._conv_forward(F.conv2d(x, self.down), self.mid, None)
        else:
            low = layer._conv_forward(x, self.down, None)
        return y + F.conv2d(low * self.scale, self.up)


class Folded(Change):
    """Any other form: what it adds to the layer's parameters.

    Args:
        factors: role -> tensor, in float32 or better. row: the change. strength: alpha by rank.
        scale: the caller's. said: PEFT's settings.
    """

    scale: Tensor

    def __init__(
        self,
        name: str,
        order: str,
        factors: Mapping[str, Tensor],
        row: Row,
        scale: Tensor,
        *,
        strength: float,
        said: Mapping[str, Any],
        live: bool,
    ) -> None:
        super().__init__(name, order, live=live)
        self.form, self.roles, self.strength, self.said = row.piece.form, tuple(factors), strength, dict(said)
        for role, tensor in factors.items():
            self.keep(role, tensor)
        self.keep("scale", scale)

    def fold(self, layer: nn.Module, plain: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        weight = plain["weight"]
        tensors = {role: getattr(self, role).to(weight.dtype) for role in self.roles}
        made = deltas(self.form, tensors, weight, self.strength, self.said)
        return {name: delta * self.scale for name, delta in made.items()}


def attach(
    model: Model,
    lora: Lora,
    scale: float = 1.0,
    blocks: Blocks = None,
    *,
    name: str | None = None,
    live: bool = False,
) -> Record:
    """Change a model's layers; all of them or none.

    Args:
        scale: strength, -100 to 100; 1 is as trained, 0 changes no bit.
        blocks: dotted beginning of layers' names -> what ``scale`` is multiplied by there; the longest that fits
            counts. Names of text encoders' layers begin with ``text_encoder.`` or ``text_encoder_2.``. Or a customary
            row of numbers; see `blocks`.
        name: unique among those attached; by default the file's.
        live: leave the changes open to gradients, which flow into `factors`.

    Returns:
        what was attached, as recipes record it.

    Raises:
        WeightsError: the file does not fit the model; nothing was changed.
        RequestError: a scale that is none, a block that has no changed layer, or a name that is attached already.
    """
    plan = lora.fit(model)
    record = _record(lora, scale, blocks_of(blocks, plan), name)
    return _put(model, plan, lora, record, surgery.attach, surgery.detach, live=live)


def merge(model: Model, lora: Lora, scale: float = 1.0, blocks: Blocks = None, *, name: str | None = None) -> Record:
    """Write an adapter into a model's own numbers, in their dtype; steps then cost what they cost without it.

    The numbers that were there are kept (mapped ones cost no memory), and `unmerge` gives them back.

    Args: see `attach`. Raises: see `attach`.
    """
    plan = lora.fit(model)
    record = replace(_record(lora, scale, blocks_of(blocks, plan), name), merged=True)
    return _put(model, plan, lora, record, surgery.merge, surgery.unmerge, dense=True)


def _record(lora: Lora, scale: float, blocks: dict[str, float], name: str | None) -> Record:
    if not abs(scale) <= MOST_SCALE:
        raise RequestError(f"the scale of {lora.name} is {scale}; it can be from {-MOST_SCALE:g} to {MOST_SCALE:g}")
    return Record(name or lora.name, KIND, lora.sha256, float(scale), blocks)


def _put(
    model: Model,
    plan: Plan,
    lora: Lora,
    record: Record,
    do: Callable[[nn.Module, Record, Mapping[str, Change]], None],
    undo: Callable[[nn.Module, str], None],
    *,
    live: bool = False,
    dense: bool = False,
) -> Record:
    """Change all parts of a model or none."""
    done: list[nn.Module] = []
    try:
        for part, module in parts(model).items():
            do(module, record, _changes(module, plan, part, record, lora, live=live, dense=dense))
            done.append(module)
    except BaseException:
        for module in done:
            undo(module, record.name)
        raise
    return record


def detach(model: Model, name: str) -> None:
    """Take an adapter off; every layer that nothing else changes is as it was, to the bit.

    Raises:
        RequestError: none of that name is attached.
    """
    _take(model, name, False, surgery.detach)


def unmerge(model: Model, name: str) -> None:
    """Undo a merge: the tensors that were there before are back, and so is every bit.

    Raises:
        RequestError: none of that name is merged.
    """
    _take(model, name, True, surgery.unmerge)


def _take(model: Model, name: str, merged: bool, undo: Callable[[nn.Module, str], None]) -> None:
    there = {key: record for key, record in attached(model).items() if record.merged == merged}
    if name not in there:
        word = "merged" if merged else "attached"
        raise RequestError(f"no adapter {name!r} is {word}; there are: {', '.join(there) or 'none'}")
    for module in parts(model).values():
        undo(module, name)


def attached(model: Model) -> dict[str, Record]:
    """What is attached to a model or merged into it by name, in the order in which that was done."""
    return surgery.records(model.network)


def factors(model: Model, name: str) -> dict[str, dict[str, Tensor]]:
    """What an attached adapter is made of: full name of each changed layer -> role -> tensor, as it is computed with.

    The tensors are those in use, so that an optimiser can change them while the adapter is ``live``.
    """
    found: dict[str, dict[str, Tensor]] = {}
    for part, module in parts(model).items():
        for layer_name, layer in module.named_modules():
            for change in surgery.changes_of(layer):
                if change.name == name:
                    full = layer_name if part == "unet" else f"{part}.{layer_name}"
                    found[full] = {role: t for role, t in change.named_buffers() if role != "scale"}
    return found


def _changes(
    module: nn.Module, plan: Plan, part: str, record: Record, lora: Lora, *, live: bool, dense: bool
) -> dict[str, Change]:
    """The changes of one part; layers at strength 0 have none."""
    made: dict[str, Change] = {}
    for row in plan.rows:
        scale = record.scale * weight_of(record.blocks, row.layer.full)
        if row.layer.part == part and scale:
            layer = module.get_submodule(row.layer.name)
            how = dense or not beside(layer, row)
            made[row.layer.name] = change(layer, row, lora, record, scale, live=live, dense=how)
    return made


def change(
    layer: nn.Module, row: Row, lora: Lora, record: Record, scale: float, *, live: bool = False, dense: bool = False
) -> Change:
    """One row of a plan as a change of its layer; ``dense`` as something added to its numbers."""
    weight: Tensor = layer._parameters["weight"]  # type: ignore[assignment]
    strength, tensors = lora.strength(row), lora.roles(row)
    order = record.sha256
    if not dense:
        roles: list[str] = [role for role in ("down", "mid", "up") if role in tensors]
        shaped = {role: _own(_laid(tensors[role], layer).to(weight), live) for role in roles}
        return Beside(record.name, order, shaped, _number(scale * strength, weight), live=live)
    wide = surgery.wide(weight)
    counting = {role: tensor for role, tensor in tensors.items() if _counts(row, role)}
    moved = {role: _own(tensor.to(weight.device, wide), live) for role, tensor in counting.items()}
    said = lora.contents.settings.of(row.layer.part)
    number = _number(scale, weight)
    return Folded(record.name, order, moved, row, number, strength=strength, said=said, live=live)


def beside(layer: nn.Module, row: Row) -> bool:
    """Whether a change is computed beside its layer: plain LoRA of a linear layer or a convolution in one group."""
    plain = row.piece.form == "lora" and not {"magnitude", "dora_scale", "up_bias", "diff_b"} & row.piece.names.keys()
    return plain and isinstance(layer, nn.Linear | nn.Conv2d) and getattr(layer, "groups", 1) == 1


def _counts(row: Row, role: str) -> bool:
    """Whether a tensor takes part in the arithmetic; the alpha of scaled forms is in the strength."""
    return role != "alpha" or not row.rank


def _laid(tensor: Tensor, layer: nn.Module) -> Tensor:
    """A factor with the axes that its layer computes with."""
    if isinstance(layer, nn.Linear):
        return tensor.flatten(1)
    return tensor if tensor.dim() == 4 else tensor[:, :, None, None]


def _own(tensor: Tensor, live: bool) -> Tensor:
    """The tensor, or where it will be written into, a copy that is not the file's."""
    return tensor.clone() if live else tensor


def _number(value: float, weight: Tensor) -> Tensor:
    wide = surgery.wide(weight)
    return torch.tensor(value, dtype=wide, device=weight.device)
