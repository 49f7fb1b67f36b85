"""Write a model's numbers, with what was merged into them, as a copy of the checkpoint that it was read from.

A folder is copied file by file, but for the weights of the parts that adapters change; of a single file every other
tensor is written as it lies there. Number formats are those of the original.
"""

from __future__ import annotations

import json
import secrets
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path

from torch import Tensor, nn

from safelight.adapters.lora.attach import attached
from safelight.adapters.lora.file import parts
from safelight.errors import ExistsError, FileError, RequestError
from safelight.families.family import Model
from safelight.families.sd.single import understand
from safelight.weights.folder import Index
from safelight.weights.load import read
from safelight.weights.moves import to_theirs
from safelight.weights.save import save

STEMS = ("diffusion_pytorch_model", "model", "pytorch_model")
"""How files of weights are called, shards and their indexes too."""
MERGED = "safelight.merged"
"""Where a file says in its metadata what was merged into it."""


def write_checkpoint(model: Model, index: Index, place: Path) -> list[Path]:
    """Write a model that `merge` changed.

    Args:
        index: what the model was loaded by, in the number format of its files. place: a folder where it was a folder,
            which must not be there yet; else a file.

    Returns:
        the files that were written, other than by copying.

    Raises:
        RequestError: the model is of a family whose files are not written. ExistsError, FileError: the place is taken,
            or cannot be written to.
    """
    if model.family != "sd":
        raise RequestError(f"checkpoints of the family {model.family} are not written; merge into a model in memory")
    return _folder(model, index, place) if index.folder.is_dir() else _file(model, index, place)


def _notes(model: Model) -> dict[str, str]:
    merged = [asdict(record) for record in attached(model).values() if record.merged]
    return {MERGED: json.dumps(merged, ensure_ascii=False)}


def _file(model: Model, index: Index, place: Path) -> list[Path]:
    told = understand(index.folder, pickles=index.pickles)
    tensors = read(index.folder, pickles=index.pickles)
    for part, module in parts(model).items():
        component = told.found.component(part)
        if component is not None:
            tensors |= to_theirs(numbers(module), component.plan.moves, component.prefix)
    metadata = {key: value for key, value in told.header.metadata.items() if isinstance(value, str)}
    save(tensors, place, {**metadata, **_notes(model)})
    return [place]


def _folder(model: Model, index: Index, place: Path) -> list[Path]:
    if place.exists():
        raise ExistsError(f"{place}: exists; choose another name, or remove it")
    scratch = place.parent / f".{place.name}.{secrets.token_hex(4)}.part"
    written = []
    try:
        scratch.mkdir()
        left_out = {file for part in parts(model) for file in _weights(index.folder / part)}
        for file in _files(index.folder):
            if file not in left_out:
                copy = scratch / file.relative_to(index.folder)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, copy)
        for part, module in parts(model).items():
            stem = "diffusion_pytorch_model" if part == "unet" else "model"
            middle = f".{index.variant}" if index.variant else ""
            (scratch / part).mkdir(exist_ok=True)
            save(numbers(module), scratch / part / f"{stem}{middle}.safetensors", _notes(model))
            written.append(place / part / f"{stem}{middle}.safetensors")
        scratch.rename(place)
    except OSError as error:
        raise FileError(f"{place}: cannot be written ({error.strerror or error}); choose another place") from None
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return written


def numbers(module: nn.Module) -> dict[str, Tensor]:
    """Every number of a network by its released name."""
    return dict(module.state_dict())


def _weights(folder: Path) -> Iterator[Path]:
    """The files of weights of one part, of every variant and container: a copy has the one that is written."""
    for file in sorted(folder.iterdir()):
        if file.name.split(".")[0].split("-")[0] in STEMS:
            yield file


def _files(folder: Path) -> Iterator[Path]:
    yield from (file for file in sorted(folder.rglob("*")) if file.is_file())


def tensors(model: Model) -> Mapping[str, Mapping[str, Tensor]]:
    """The numbers of the networks that adapters change, part by part."""
    return {part: numbers(module) for part, module in parts(model).items()}
