"""Write safetensors files and small texts so that a reader finds the old file or the new one, never half of one.

Layout: see `safelight.weights.safetensors`. Tensors are ordered by falling size of their elements, then by name, so
that each lies on a multiple of its element size and equal tensors give equal bytes.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from safelight.errors import ExistsError, FileError, WeightsError
from safelight.weights.load import DTYPES

NAMES = {dtype: name for name, dtype in DTYPES.items()}


@dataclass(frozen=True)
class Written:
    """What a conversion did: the files it wrote, how many tensors, and the names it passed over."""

    files: tuple[Path, ...]
    tensors: int
    unread: tuple[str, ...] = ()


def save(
    tensors: Mapping[str, Tensor], path: str | os.PathLike[str], metadata: Mapping[str, str] | None = None
) -> None:
    """Write a safetensors file: temporary file in the same folder, flushed to the disk, renamed.

    Args:
        tensors: any device; views are written out as if contiguous, so shared memory is not shared in the file.
        path: its folder must exist; an existing file is replaced.
        metadata: free text; ``format: pt`` is added, which other programs want to see.

    Raises:
        WeightsError: a dtype that the format does not have, a tensor without data, or a name that it reserves.
        FileError: the folder cannot be written to.
    """
    ordered = sorted(tensors.items(), key=lambda item: (-item[1].element_size(), item[0]))
    header: dict[str, object] = {"__metadata__": {"format": "pt", **(metadata or {})}}
    end = 0
    for name, tensor in ordered:
        if tensor.dtype not in NAMES or tensor.is_meta or name == "__metadata__":
            raise WeightsError(f"tensor {name!r} ({tensor.dtype}, {tensor.device}) cannot be written to {path}")
        begin, end = end, end + tensor.numel() * tensor.element_size()
        header[name] = {"dtype": NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    head = len(text).to_bytes(8, "little") + text
    write(path, (part for parts in ([head], (_bytes(tensor) for _, tensor in ordered)) for part in parts))


def write(path: str | os.PathLike[str], parts: Iterable[bytes | memoryview], *, fresh: bool = False) -> None:
    """Write the parts, one after the other, to a file that appears whole or not at all.

    Args:
        fresh: leave a file alone that exists by the time this one is whole.

    Raises:
        ExistsError: ``fresh``, and the file exists. FileError: the folder cannot be written to; nothing is left behind.
    """
    path = Path(path)
    temporary = path.parent / f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.part"
    try:
        with temporary.open("xb") as file:
            for part in parts:
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
        if fresh:
            _link(temporary, path)
        else:
            temporary.replace(path)
        flush_folder(path.parent)
    except FileExistsError:
        raise ExistsError(f"{path}: exists; it was not overwritten") from None
    except OSError as error:
        raise FileError(f"{path}: cannot be written ({error.strerror or error}); choose another place") from error
    finally:
        temporary.unlink(missing_ok=True)


def make_folder(folder: Path) -> None:
    """Make a folder, and those it lies in, where they are missing; FileError where that cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(f"{folder}: cannot be made ({error.strerror or error}); choose another place") from error


def vacant(folder: Path) -> None:
    """ExistsError where there is something at ``folder`` already, other than an empty folder."""
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise ExistsError(f"{folder} is not empty; name a new folder")


@contextlib.contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A folder to write into that gets its name when all is written; stopped or failed, nothing is left behind.

    Raises:
        ExistsError: there is something at ``folder`` already, other than an empty folder.
        FileError: the place cannot be written.
    """
    vacant(folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".part", dir=folder.parent))
    except OSError as error:
        raise FileError(f"cannot write into {folder.parent}: {error.strerror}") from error
    try:
        yield part
        part.chmod(0o755)
        if folder.exists():
            folder.rmdir()
        part.rename(folder)
    except OSError as error:
        raise FileError(f"cannot write {folder}: {error.strerror}") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _link(temporary: Path, path: Path) -> None:
    """Give the file its name, which unlike a renaming never replaces another file."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without links
        if path.exists():
            raise FileExistsError(path) from None
        temporary.replace(path)


def _bytes(tensor: Tensor) -> memoryview:
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().data if flat.numel() else memoryview(b"")


def flush_folder(folder: Path) -> None:
    """Make the renaming itself last; not every system can, and then the file is merely less safe against power cuts."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
