"""Load an adapter's file: its changes, its numbers mapped into memory, and the strength of each."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor, nn

from safelight.adapters.lora.contents import Contents, listed, read_contents, sorted_contents
from safelight.adapters.lora.plan import Plan, Row
from safelight.adapters.lora.plan import fit as fitted
from safelight.adapters.lora.targets import Targets
from safelight.encoders.clip import ClipText
from safelight.errors import WeightsError
from safelight.families.family import Model
from safelight.weights.hash import sha256
from safelight.weights.header import Entry, Header
from safelight.weights.load import read
from safelight.weights.save import NAMES

FREE = ("oft", "oft_diag")
"""Forms whose alpha is a bound, where 0 means none."""


@dataclass(frozen=True)
class Lora:
    """An adapter, loaded; every number of it is sound.

    Attributes:
        contents: what its file holds. tensors: by name, as in the file.
    """

    contents: Contents
    tensors: Mapping[str, Tensor]

    @property
    def path(self) -> Path:
        """Its file."""
        return self.contents.path

    @property
    def name(self) -> str:
        """The file's name without its ending."""
        return self.path.stem

    @cached_property
    def sha256(self) -> str:
        """Of the file's bytes."""
        return sha256(self.path)

    def fit(self, model: Model) -> Plan:
        """Which layers of a model it changes.

        Raises:
            WeightsError: some of its changes do not fit; a table of what does and does not.
        """
        return fitted(self.contents, targets(model))

    def roles(self, row: Row) -> dict[str, Tensor]:
        """The tensors of a change by role."""
        return {role: self.tensors[name] for role, name in row.piece.names.items()}

    def strength(self, row: Row) -> float:
        """What a change is multiplied by before the caller's scale: alpha by rank; 1 where nothing says it."""
        if not row.rank:
            return 1.0
        alpha = row.piece.names.get("alpha")
        if alpha is not None:
            return float(self.tensors[alpha]) / row.rank
        said = self.contents.settings.strength(row.layer.part, row.layer.name, row.rank)
        return 1.0 if said is None else said


def load(path: str | os.PathLike[str], *, pickles: bool = False) -> Lora:
    """Load a LoRA or one of its kin, in any dialect.

    Args:
        pickles: whether a file of torch.save may be read; it is never run.

    Raises:
        WeightsError: the file is unreadable, holds a tensor that belongs to no whole change, a number that is none or
            infinite, or an alpha that is 0 or no number.
    """
    return sound(Lora(read_contents(path, pickles=pickles), read(path, pickles=pickles)))


def made(tensors: Mapping[str, Tensor], name: str, metadata: Mapping[str, str] | None = None) -> Lora:
    """An adapter of tensors in memory, named as in any dialect; what has no file is known by the hash of its numbers.

    Raises:
        WeightsError: see `load`; ``name`` stands for the file.
    """
    entries = {key: Entry(NAMES[tensor.dtype], tuple(tensor.shape), 0, 0) for key, tensor in tensors.items()}
    lora = sound(Lora(sorted_contents(Path(name), Header(entries, metadata or {})), tensors))
    digest = hashlib.sha256()
    for key, tensor in sorted(tensors.items()):
        digest.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    lora.__dict__["sha256"] = digest.hexdigest()
    return lora


def sound(lora: Lora) -> Lora:
    """The adapter, once every number was looked at.

    Raises:
        WeightsError: one is none, or infinite, or an alpha is 0 or no number.
    """
    contents, tensors = lora.contents, lora.tensors
    rows = list(contents.settings.rows.values())
    if contents.forms["oft_r"] and (not rows or any(row.get("coft") for row in rows)):
        how = (
            "with coft, which is not known here"
            if rows
            else "and nothing says how; its adapter_config.json must lie beside"
        )
        raise WeightsError(f"{contents.path}: turns what layers read as PEFT does, {how}")
    unsound = [name for name, tensor in tensors.items() if not _sound(tensor)]
    weak = [
        f"{name} is {float(tensors[name]) if tensors[name].numel() == 1 else 'no number'}"
        for piece in contents.pieces
        if (name := piece.names.get("alpha")) is not None
        and (tensors[name].numel() != 1 or (not float(tensors[name]) and piece.form not in FREE))
    ]
    if unsound or weak:
        lines = [f"{contents.path}: {len(unsound)} tensors hold numbers that are none, {len(weak)} strengths are wrong"]
        raise WeightsError("\n".join([*lines, *listed("unsound", unsound), *listed("strength", weak)]))
    return lora


def targets(model: Model) -> Targets:
    """The layers of a model."""
    rows = {part: _shapes(module) for part, module in parts(model).items()}
    return Targets(_title(model), rows, model.family)


def parts(model: Model) -> dict[str, nn.Module]:
    """The networks of a model that adapters change, by the names of the released folders.

    XL's refiner has the second of XL's two text encoders, and no other.
    """
    added = getattr(getattr(model.network, "config", None), "addition_embed_type", None)
    names, texts = ["text_encoder", "text_encoder_2"], [each for each in model.encoders if isinstance(each, ClipText)]
    if added and len(texts) == 1:
        names = names[1:]
    return {"unet": model.network, **dict(zip(names, texts))}


def _shapes(module: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(parameter.shape) for name, parameter in module.state_dict(keep_vars=True).items()}


def _title(model: Model) -> str:
    from safelight.weights.variants import tables

    width = getattr(getattr(model.network, "config", None), "cross_attention_dim", 0)
    known = [each for family in tables() if family.name == model.family for each in family.variants]
    return next((each.title for each in known if each.width == width and not each.task), model.folder.name)


def _sound(tensor: Tensor) -> bool:
    if not tensor.is_floating_point():
        return True
    return bool(torch.isfinite(tensor if tensor.element_size() > 1 else tensor.float()).all())
