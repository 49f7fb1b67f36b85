"""Change layers of a network and change them back: a layer's class is replaced, its name and its numbers never.

There is one changed class for each class of layers. A changed layer keeps its parameters under their names, so
``state_dict`` is that of the plain network; what changes are made of are buffers that are not saved. Several changes of
one layer are applied in the order of `Change.order`, whatever the order in which they were attached.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from safelight.errors import RequestError

RECORDS, MERGED = "adapters", "merged"
"""Where a network keeps the records of its adapters, and the numbers that it had before some were written into its own;
an attribute is gone with the last that it tells of."""


@dataclass(frozen=True)
class Record:
    """What one adapter is, for recipes and lists.

    Attributes:
        name: unique among those of one network.
        kind: ``lora``, ``textual inversion`` and so on.
        sha256: of its file; empty where there is none.
        scale: strength; 1 is as trained.
        blocks: dotted beginning of layers' names -> what ``scale`` is multiplied by there.
        merged: whether its numbers were written into the network's own.
    """

    name: str
    kind: str
    sha256: str = ""
    scale: float = 1.0
    blocks: Mapping[str, float] = field(default_factory=dict)
    merged: bool = False


@dataclass
class _Merged:
    """A layer whose numbers were written over: what it had before, and what was written into it."""

    before: dict[str, Tensor]
    changes: list[Change]


class Change(nn.Module):
    """What one adapter does to one layer. A kind of change overrides one of the methods below.

    Args:
        name: of the adapter; see `Record`.
        order: where the change stands among those of its layer; equal ones are ordered by ``name``.
        live: fold anew at every call, so that gradients reach what the change is made of.
    """

    def __init__(self, name: str, order: str = "", *, live: bool = False) -> None:
        super().__init__()
        self.name, self.order, self.live = name, order, live

    def keep(self, name: str, tensor: Tensor | None) -> None:
        """Hold a tensor that moves with the layer and is not saved with it."""
        self.register_buffer(name, tensor, persistent=False)

    def fold(self, layer: nn.Module, plain: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """What is added to the layer's parameters.

        Args:
            plain: the parameters as they were read, by name, in float32 or float64.
        """
        return {}

    def after(self, layer: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        """What becomes of the layer's output ``y`` for the input ``x``; ``y`` may be written into."""
        return y

    def convolve(self, layer: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor | None:
        """Another way to convolve, such as around the edges; None for the layer's own."""
        return None


def attach(root: nn.Module, record: Record, changes: Mapping[str, Change]) -> None:
    """Change layers of ``root``; all of them or none.

    Args:
        record: is kept at ``root``, even where nothing is changed.
        changes: dotted name of a layer -> what is done to it.

    Raises:
        RequestError: an adapter of that name is there already, or a layer is not there or of a kind that has no
            parameters to change.
    """
    if record.name in records(root):
        raise RequestError(f"the adapter {record.name!r} is attached already; detach it first, or give it another name")
    layers = {name: _layer(root, name) for name in changes}
    rows = {name: sorted([*changes_of(layers[name]), change], key=_place) for name, change in changes.items()}
    numbers = {name: fold(layers[name], row) for name, row in rows.items()}  # what can fail is done before the first
    for name, layer in layers.items():
        _set(layer, rows[name], numbers[name])
    remember(root, record)


def detach(root: nn.Module, name: str) -> None:
    """Take every change of the adapter ``name`` away from the layers of ``root``, and its record."""
    for layer in list(root.modules()):
        row = changes_of(layer)
        rest = [change for change in row if change.name != name]
        if len(rest) < len(row):
            _set(layer, rest, fold(layer, rest))
    forget(root, name)


def merge(root: nn.Module, record: Record, changes: Mapping[str, Change]) -> None:
    """Write changes into the parameters of layers; all of them or none. What was there before is kept.

    Raises:
        RequestError: see `attach`; also a change that is more than something added to parameters.
    """
    if record.name in records(root):
        raise RequestError(f"the adapter {record.name!r} is attached already; detach it first, or give it another name")
    held: dict[str, _Merged] = dict(root.__dict__.get(MERGED, {}))
    for name, change in changes.items():
        layer = _layer(root, name)
        before = {key: p.data for key, p in layer._parameters.items() if p is not None}
        there = held.get(name, _Merged(before, []))
        held[name] = _Merged(there.before, sorted([*there.changes, change], key=_place))
    _write(root, held, changes)
    remember(root, record)


def unmerge(root: nn.Module, name: str) -> None:
    """Undo a merge: layers without another have the very tensors back that they had, never a difference of sums."""
    held: dict[str, _Merged] = dict(root.__dict__.get(MERGED, {}))
    touched = [layer for layer, row in held.items() if any(change.name == name for change in row.changes)]
    for layer in touched:
        held[layer] = _Merged(held[layer].before, [each for each in held[layer].changes if each.name != name])
    _write(root, held, touched)
    forget(root, name)


def _write(root: nn.Module, held: Mapping[str, _Merged], touched: Iterable[str]) -> None:
    """Give layers the numbers of what is merged into them."""
    made = {name: {**held[name].before, **_sum(root.get_submodule(name), held[name])} for name in touched}
    for name, numbers in made.items():
        layer = root.get_submodule(name)
        for key, tensor in numbers.items():
            layer._parameters[key].data = tensor  # type: ignore[union-attr]
        row = changes_of(layer)
        if row:  # what is attached is of the numbers below it
            _set(layer, row, fold(layer, row))
    rest = {name: row for name, row in held.items() if row.changes}
    root.__dict__.pop(MERGED, None)
    if rest:
        root.__dict__[MERGED] = rest


def _sum(layer: nn.Module, row: _Merged) -> dict[str, Tensor]:
    return folded(layer, row.changes, row.before)


def records(root: nn.Module) -> dict[str, Record]:
    """What is attached to a network, in the order in which it was attached."""
    return dict(root.__dict__.get(RECORDS, {}))


def remember(root: nn.Module, record: Record) -> None:
    """Add a record."""
    root.__dict__[RECORDS] = {**records(root), record.name: record}


def forget(root: nn.Module, name: str) -> None:
    """Drop a record, if it is there."""
    rest = {key: record for key, record in records(root).items() if key != name}
    root.__dict__.pop(RECORDS, None)
    if rest:
        root.__dict__[RECORDS] = rest


def plain(layer: nn.Module) -> type[nn.Module]:
    """The class that a layer has without its changes."""
    return getattr(type(layer), "plain_class", type(layer))


@torch.no_grad()
def fold(layer: nn.Module, changes: Iterable[Change]) -> dict[str, Tensor]:
    """The parameters that a layer has with these changes, of those that are changed; in the layer's dtype."""
    return folded(layer, changes, {name: p.data for name, p in layer._parameters.items() if p is not None})


def folded(layer: nn.Module, changes: Iterable[Change], plain: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same for numbers ``plain`` that the layer has without changes; gradients reach what changes are made of."""
    wide = {name: widened(tensor) for name, tensor in plain.items()}
    sums: dict[str, Tensor] = {}
    for change in changes:
        for name, delta in change.fold(layer, wide).items():
            sums[name] = sums.get(name, wide[name]) + delta
    return {name: total.to(plain[name].dtype) for name, total in sums.items()}


def widened(tensor: Tensor) -> Tensor:
    """A tensor's numbers without a gradient, in float32 or better."""
    return tensor.detach().to(wide(tensor))


def wide(tensor: Tensor) -> torch.dtype:
    """The number format in which changes of a tensor are worked out: its own, or float32 where that is finer."""
    return tensor.dtype if tensor.element_size() >= torch.float32.itemsize else torch.float32


def _layer(root: nn.Module, name: str) -> nn.Module:
    try:
        layer = root.get_submodule(name)
    except AttributeError:
        raise RequestError(f"the network has no layer {name!r}; its adapters are for another") from None
    if not any(parameter is not None for parameter in layer._parameters.values()):
        raise RequestError(f"the layer {name!r} ({plain(layer).__name__}) has no numbers of its own to change")
    return layer


def changes_of(layer: nn.Module) -> list[Change]:
    """What was done to one layer, in the order in which it is applied."""
    return list(layer.changes) if hasattr(type(layer), "plain_class") else []  # type: ignore[arg-type]


def _place(change: Change) -> tuple[str, str]:
    return change.order, change.name


def _set(layer: nn.Module, row: list[Change], numbers: Mapping[str, Tensor]) -> None:
    """Give a layer exactly these changes, and its plain class where there are none."""
    kind = plain(layer)
    for name in list(layer._buffers):
        if name.startswith("folded_"):
            delattr(layer, name)
    if hasattr(type(layer), "plain_class"):
        del layer.changes, layer.live
    if not row:
        layer.__class__ = kind
        return
    layer.__class__ = changed(kind)  # type: ignore[arg-type]
    layer.changes = nn.ModuleList(row)
    layer.__dict__["live"] = any(change.live for change in row)
    for name, tensor in numbers.items():
        layer.register_buffer(f"folded_{name}", tensor, persistent=False)


@cache
def changed(kind: Any) -> type[nn.Module]:
    """The class of a changed layer of this kind; whoever reads its parameters reads the changed ones."""

    def number(name: str) -> property:
        def read(self: nn.Module) -> Tensor | None:
            if self.live and f"folded_{name}" in self._buffers:
                own = {key: p.data for key, p in self._parameters.items() if p is not None}
                return folded(self, self.changes, own)[name]  # type: ignore[arg-type]
            made = self._buffers.get(f"folded_{name}")
            return self._parameters.get(name) if made is None else made

        return property(read)

    def forward(self: Any, x: Tensor) -> Tensor:
        y = kind.forward(self, x)
        for change in self.changes:
            y = change.after(self, x, y)
        return y

    def convolve(self: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        for change in self.changes:
            if (y := change.convolve(self, x, weight, bias)) is not None:
                return y
        return kind._conv_forward(self, x, weight, bias)

    body: dict[str, Any] = {"plain_class": kind, "forward": forward, "weight": number("weight"), "bias": number("bias")}
    if issubclass(kind, nn.Conv2d):
        body["_conv_forward"] = convolve
    return type(f"Changed{kind.__name__}", (kind,), body)
