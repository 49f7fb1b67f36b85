"""Read a T2I-Adapter: a released folder, or one file in its names or in those of the original training code."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from safelight.adapters.fitting import unet_of
from safelight.adapters.loaded import Loaded, beside
from safelight.adapters.t2i.model import FIXED, FULL, LIGHT, XL, T2IAdapter, T2IConfig
from safelight.adapters.t2i.use import check_levels
from safelight.errors import WeightsError
from safelight.families.family import Model
from safelight.weights.container import read_any
from safelight.weights.dialects import adapter
from safelight.weights.folder import read_json, weight_files
from safelight.weights.keys import read_keys
from safelight.weights.load import made_of, read
from safelight.weights.moves import to_ours

KEYS = read_keys(Path(__file__).with_name("keys.toml"))
FOLDED = {8: FULL, 16: XL}
"""Pixels to a cell -> the kind of full adapter that folds so many."""


def is_t2i(path: Path, *, pickles: bool = False) -> bool:
    """Whether a folder or a file is of a T2I-Adapter, by what is in it.

    Raises:
        FileError: it cannot be read.
    """
    if path.is_dir():
        return read_json(path / "config.json").get("_class_name") in FIXED["_class_name"]
    found = adapter(read_any(path, pickles=pickles).shapes())
    return found is not None and found.kind == "t2i-adapter"


def load_t2i(path: Path, *, variant: str = "", pickles: bool = False) -> T2IAdapter:
    """An adapter, in evaluation mode, its tensors mapped, in the dtype of the file, on the CPU.

    Args:
        path: the folder of a released adapter, or one file: its weights without the folder, or of the original code.
        variant, pickles: see `safelight.weights.folder.weight_files`; ``variant`` is of folders only.

    Raises:
        WeightsError: a file is missing, unreadable or of another kind, or its names or shapes do not fit.
        ConfigError: ``config.json`` describes another network.
    """
    if path.is_dir():
        raw = read_json(path / "config.json")
        return made_of(path, raw, build, read(weight_files(path, variant, pickles=pickles), pickles=pickles))
    tensors = read(path, pickles=pickles)
    for table in KEYS.parts.values():
        if table.marker in tensors:
            plan = table.to_ours(tensors)
            # What no rule knows keeps its name, and is refused as what the network does not have.
            tensors = {**to_ours(tensors, plan.moves), **{name: tensors[name] for name in plan.left}}
            break
    return made_of(path, _config(path, tensors), build, tensors)


def open_t2i(path: Path, model: Model, *, variant: str = "", pickles: bool = False) -> Loaded[T2IAdapter]:
    """An adapter, ready to be used with ``model``: where that computes, in its number format.

    Args:
        path, variant, pickles: see `load_t2i`.

    Raises:
        RequestError: it was made for another model.
        WeightsError, ConfigError: see `load_t2i`; also a number in it that is none.
    """
    what = f"T2I-Adapter {path.stem}"
    unet = unet_of(what, model)
    network = load_t2i(path, variant=variant, pickles=pickles)
    check_levels(what, network.config, unet.config)
    return beside(network, path, unet.conv_in.weight, variant=variant, pickles=pickles)


def build(raw: Mapping[str, Any]) -> T2IAdapter:
    """The network that a configuration describes."""
    return T2IAdapter(T2IConfig.from_dict(raw))


def _config(path: Path, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """The configuration, from the shapes of tensors under released names.

    Raises:
        WeightsError: they are of no adapter.
    """
    light = "adapter.body.0.out_conv.weight" in tensors
    first = tensors.get("adapter.body.0.in_conv.weight" if light else "adapter.conv_in.weight")
    levels = {int(part) for name in tensors if (part := (name.split(".") * 3)[2]).isdigit()}
    last = "out_conv" if light else "resnets.0.block1"
    outs = [tensors.get(f"adapter.body.{level}.{last}.weight") for level in sorted(levels)]
    if first is None or first.ndim != 4 or not levels or any(out is None or out.ndim != 4 for out in outs):
        raise WeightsError(f"{path}: is no T2I-Adapter; its first tensor is {next(iter(tensors), None)}")
    widths = [len(out) for out in outs if out is not None]
    cells = [(count, f) for f in FOLDED for count in (1, 3) if count * f * f == first.shape[1]]
    if not cells:
        raise WeightsError(f"{path}: its first layer reads {first.shape[1]} channels; known are pictures of 1 and 3")
    channels, folded = cells[0]
    return {
        "in_channels": channels,
        "channels": widths[:-1] if light else widths,
        "num_res_blocks": len({name.split(".")[4] for name in tensors if name.startswith("adapter.body.0.resnets.")}),
        "downscale_factor": folded,
        "adapter_type": LIGHT if light else FOLDED[folded],
    }
