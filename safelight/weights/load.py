"""Give a module the tensors of its files: strictly by name and shape, mapped into memory, in the dtype of the file.

A mapped tensor costs no memory until it is read, and the system may drop it again; writing to one makes a private copy
of the page, never a change of the file.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from safelight.errors import ConfigError, WeightsError
from safelight.weights.container import read_any
from safelight.weights.folder import read_json, weight_files
from safelight.weights.header import BLOCKS, Entry
from safelight.weights.quantised import dequantise

DTYPES = {
    "BOOL": torch.bool,
    "U8": torch.uint8,
    "I8": torch.int8,
    "U16": torch.uint16,
    "I16": torch.int16,
    "U32": torch.uint32,
    "I32": torch.int32,
    "U64": torch.uint64,
    "I64": torch.int64,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "F8_E8M0": torch.float8_e8m0fnu,
    "F8_E4M3FNUZ": torch.float8_e4m3fnuz,
    "F8_E5M2FNUZ": torch.float8_e5m2fnuz,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F32": torch.float32,
    "F64": torch.float64,
    "C64": torch.complex64,
}
ROWS = 8
"""Rows of each kind in a table of mismatches; the rest is counted."""

Net = TypeVar("Net", bound=nn.Module)

Rename = Callable[[str], str | None]
"""A name in the file -> the name in the module, or None for a tensor that is known to say nothing."""


def load_into(
    module: nn.Module,
    paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    rename: Rename | None = None,
    pickles: bool = False,
) -> None:
    """Replace every parameter and buffer of ``module`` by the tensor of the same name in ``paths``.

    Build the module under ``torch.device("meta")``: its own tensors are dropped unread. Gradients stay as required
    before. Nothing is changed unless everything fits.

    Args:
        module: what to fill.
        paths: one safetensors file, or the shards of one.
        rename: translates the names of files written by another version of the same library.
        pickles: see `read`.

    Raises:
        WeightsError: a file is unreadable or hostile, or names or shapes differ; the message ends in a table of what
            is missing, unexpected and of another shape.
    """
    fill(module, read(paths, rename=rename, pickles=pickles))


def fill(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Replace every parameter and buffer of ``module`` by the tensor of the same name; all of them or none.

    Raises:
        WeightsError: names or shapes differ; see `load_into`.
    """
    check(type(module).__name__, module.state_dict(keep_vars=True), tensors)
    module.load_state_dict(tensors, strict=True, assign=True)


def load_part(
    folder: Path,
    build: Callable[[Mapping[str, Any]], Net],
    *,
    rename: Rename | None = None,
    variant: str = "",
    pickles: bool = False,
) -> Net:
    """One part of a released folder: ``config.json`` says what to build, the weights fill it.

    Args:
        variant: which of several files, such as ``fp16``; see `safelight.weights.folder.weight_files`.
        pickles: see `read`.

    Returns:
        the module in evaluation mode, its tensors mapped, in the dtype of the file, on the CPU.

    Raises:
        WeightsError: a file is missing or unreadable, or does not fit; the message names the folder.
        ConfigError: ``config.json`` says something that ``build`` does not know.
    """
    raw = read_json(folder / "config.json")
    tensors = read(weight_files(folder, variant, pickles=pickles), rename=rename, pickles=pickles)
    return made_of(folder, raw, build, tensors)


def made_of(
    path: Path, raw: Mapping[str, Any], build: Callable[[Mapping[str, Any]], Net], tensors: Mapping[str, Tensor]
) -> Net:
    """What ``build`` makes of a configuration, holding ``tensors``, in evaluation mode.

    Args:
        path: the folder or the file that they were read from; messages begin with it.

    Raises:
        WeightsError, ConfigError: they do not fit.
    """
    try:
        module = unfilled(raw, build)
        fill(module, tensors)
    except ConfigError as error:
        raise ConfigError(f"{path / 'config.json' if path.is_dir() else path}: {error}") from error
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from error
    return module.eval()


def unfilled(raw: Mapping[str, Any], build: Callable[[Mapping[str, Any]], Net]) -> Net:
    """What ``build`` makes of a configuration, without memory for its tensors."""
    with torch.device("meta"), Unfilled():
        return build(raw)


class Unfilled(TorchFunctionMode):
    """Modules built under this mode keep their parameters as they were allocated.

    Filling them would be work for nothing; worse, a normal distribution on ``meta`` makes torch import its compiler,
    which takes longer than importing torch.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Leave the initialisers out, do all else."""
        if getattr(func, "__module__", "") == "torch.nn.init":
            return args[0] if args else kwargs["tensor"]
        return func(*args, **(kwargs or {}))


def read(
    paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    rename: Rename | None = None,
    pickles: bool = False,
) -> dict[str, Tensor]:
    """All tensors of one or more files by name, whatever their container, mapped into memory.

    Quantised blocks of GGUF become float32; everything else keeps the dtype of the file.

    Args:
        pickles: whether files of torch.save may be read; they are never run. See `safelight.weights.pickled`.

    Raises:
        WeightsError: see `load_into`; also when two files, or two names after renaming, hold the same tensor.
    """
    files = [paths] if isinstance(paths, (str, os.PathLike)) else list(paths)
    tensors: dict[str, Tensor] = {}
    for path in files:
        for name, tensor in _mapped(Path(path), pickles).items():
            ours = rename(name) if rename else name
            if ours is None:
                continue
            if ours in tensors:
                raise WeightsError(f"{path}: tensor {name!r} was read before, as {ours!r}; remove one of the two files")
            tensors[ours] = tensor
    return tensors


def check(kind: str, wanted: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
    """Compare names and shapes.

    Raises:
        WeightsError: they differ; one line that counts, then the table.
    """
    missing = [f"  missing     {name} {_shape(t)}" for name, t in wanted.items() if name not in found]
    extra = [f"  unexpected  {name} {_shape(t)}" for name, t in found.items() if name not in wanted]
    both = [name for name in wanted if name in found]
    shapes = [
        f"  shape       {name} is {_shape(found[name])}, not {_shape(wanted[name])}"
        for name in both
        if found[name].shape != wanted[name].shape
    ]
    if not (missing or extra or shapes):
        return
    lines = [
        f"the file does not fit {kind}: {len(both) - len(shapes)} of {len(wanted)} tensors match,"
        f" {len(missing)} missing, {len(extra)} unexpected, {len(shapes)} of another shape;"
        " is it of this model and its config.json?"
    ]
    for rows in (missing, extra, shapes):
        lines += rows[:ROWS] + ([f"  … and {len(rows) - ROWS} more"] if len(rows) > ROWS else [])
    raise WeightsError("\n".join(lines))


def _mapped(path: Path, pickles: bool) -> dict[str, Tensor]:
    header = read_any(path, pickles=pickles)
    if not header.entries:
        return {}
    try:
        whole = torch.from_file(str(path), shared=False, size=header.size, dtype=torch.uint8)
    except (OSError, RuntimeError) as error:
        raise WeightsError(f"{path}: cannot be mapped into memory ({error})") from error
    return {name: _view(whole, entry) for name, entry in header.entries.items()}


def _view(whole: Tensor, entry: Entry) -> Tensor:
    data = whole[entry.begin : entry.end]
    if entry.dtype in BLOCKS:
        return dequantise(data, entry.dtype, entry.shape)
    dtype = DTYPES[entry.dtype]
    if entry.begin % dtype.itemsize:  # a file from a careless writer: only a copy can be aligned
        data = data.clone()
    data = data.view(dtype)
    return data.view(entry.shape) if entry.strides is None else data.as_strided(entry.shape, entry.strides)


def _shape(tensor: Tensor) -> str:
    return "×".join(map(str, tensor.shape)) or "number"
