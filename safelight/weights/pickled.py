"""Read what torch.save wrote (``.ckpt``, ``.pt``, ``.bin``) without running it: its tensors by name and place.

A pickle is a program, and here it is never run: `safelight.weights.opcodes` makes tables of it and notes where
tensors lie. What a training program left beside its tensors becomes a mere name, and a name of anything but a few
known libraries is refused. Source: torch's own format, ``torch/serialization.py`` and ``torch/_utils.py``.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from safelight.errors import WeightsError
from safelight.weights import zipped
from safelight.weights.header import BITS, MAX_HEADER, MAX_RANK, MAX_TENSORS, Entry, Header, possible
from safelight.weights.opcodes import LONGEST_KEY, Machine

DEEPEST = 8
STORAGES = {
    "FloatStorage": "F32",
    "HalfStorage": "F16",
    "BFloat16Storage": "BF16",
    "DoubleStorage": "F64",
    "LongStorage": "I64",
    "IntStorage": "I32",
    "ShortStorage": "I16",
    "CharStorage": "I8",
    "ByteStorage": "U8",
    "BoolStorage": "BOOL",
}
BYSTANDERS = ("torch", "collections", "numpy", "pytorch_lightning", "lightning", "omegaconf", "_codecs")
"""Libraries whose objects real files hold beside their tensors; they become names."""
REBUILD = ("torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_tensor")
PARAMETER = ("torch._utils._rebuild_parameter", "torch._utils._rebuild_parameter_with_state")


@dataclass(frozen=True)
class Named:
    """Something of a library, known by its name only; also whatever calling it would have made."""

    name: str


@dataclass(frozen=True)
class Storage:
    """A member of the zip file that holds numbers of one format."""

    dtype: str
    key: str


def read_pickled(path: str | os.PathLike[str]) -> Header:
    """Read and check what torch.save wrote; tables in tables give names joined by dots, ``state_dict`` left out.

    Checked: the zip file (`safelight.weights.zipped`); at most 16 MiB and 500,000 instructions; every tensor lies
    inside its own numbers. Numbers and short texts beside the tensors are the metadata.

    Raises:
        WeightsError: the file is missing, unreadable, damaged, of the oldest format (before torch 1.6), or asks for
            anything but tensors; says which.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            if file.read(4) != zipped.MAGIC:
                raise ValueError(
                    "it is no zip file; a pickle of before torch 1.6 must be saved again with a newer torch"
                )
            found = zipped.members(file, size)
            prefix, program = _program(file, found)
        entries, metadata = _tensors(Machine(program, _Torch(prefix, found)).run())
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror or error}); check the path") from error
    except (struct.error, IndexError, KeyError, TypeError, AttributeError, UnicodeDecodeError):
        raise WeightsError(f"{path}: the file is damaged or cut off; download it again") from None
    except ValueError as error:
        raise WeightsError(f"{path}: {error}") from None
    return Header(entries, metadata, size, "pickle")


def _program(file: BinaryIO, found: Mapping[str, zipped.Member]) -> tuple[str, bytes]:
    """The folder inside the zip file, and its pickle."""
    programs = [name for name in found if name == "data.pkl" or name.endswith("/data.pkl")]
    if len(programs) != 1:
        raise ValueError("it is a zip file, but not one that torch wrote")
    place, prefix = found[programs[0]], programs[0].removesuffix("data.pkl")
    if place.end - place.begin > MAX_HEADER:
        raise ValueError(f"its table is longer than the {MAX_HEADER} bytes that are read")
    order = found.get(f"{prefix}byteorder")
    if order is not None:
        file.seek(order.begin)
        if file.read(6) != b"little":
            raise ValueError("its numbers are not little-endian")
    file.seek(place.begin)
    return prefix, file.read(place.end - place.begin)


class _Torch:
    """What torch's pickles mean."""

    def __init__(self, prefix: str, found: Mapping[str, zipped.Member]) -> None:
        self.prefix, self.found = prefix, found

    def name(self, module: str, name: str) -> Named:
        """A name of a library, which is all that is ever known of it."""
        if module.split(".")[0] not in BYSTANDERS:
            raise ValueError(f"it asks for {f'{module}.{name}'[:80]}, which no table of tensors needs; do not trust it")
        return Named(f"{module}.{name}")

    def call(self, function: Any, arguments: Any) -> Any:
        """A table, a tensor's place, or no more than a name."""
        name = function.name if isinstance(function, Named) else ""
        if name == "collections.OrderedDict":
            return {}
        if name in REBUILD:
            return self.tensor(*arguments[:4])
        if name in PARAMETER:
            return arguments[0]
        return Named(name)

    def storage(self, reference: Any) -> Storage:
        """The member that holds numbers."""
        kind, storage, key, _, _ = reference
        dtype = STORAGES.get(storage.name.rpartition(".")[2]) if isinstance(storage, Named) else None
        if kind != "storage" or dtype is None or not isinstance(key, str):
            raise ValueError("its numbers are of a format that is not known")
        return Storage(dtype, key)

    def tensor(self, storage: Storage, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> Entry:
        """Where a tensor lies."""
        member, width = self.found[f"{self.prefix}data/{storage.key}"], BITS[storage.dtype] // 8
        numbers = (offset, *shape, *strides)
        if len(shape) != len(strides) or len(shape) > MAX_RANK:
            raise ValueError("a tensor has an impossible shape")
        whole = all(isinstance(n, int) and not isinstance(n, bool) and 0 <= n < 2**48 for n in numbers)
        if not whole or not possible(shape):
            raise ValueError("a tensor has an impossible shape or place")
        last = sum((n - 1) * s for n, s in zip(shape, strides)) + 1 if 0 not in shape else 0
        begin = member.begin + offset * width
        if begin + last * width > member.end:
            raise ValueError("a tensor lies outside of its numbers")
        laid, step = [], 1
        for length in reversed(shape):
            laid.append(step)
            step *= max(length, 1)
        plain = all(s == p or n == 1 for n, s, p in zip(shape, strides, reversed(laid)))
        if last and not plain and step > last:
            raise ValueError("a tensor repeats its numbers")
        return Entry(storage.dtype, tuple(shape), begin, begin + last * width, None if plain else tuple(strides))


def _tensors(value: Any) -> tuple[dict[str, Entry], dict[str, str]]:
    """Every tensor in tables of tables by its name, and single numbers and texts beside them."""
    entries: dict[str, Entry] = {}
    metadata: dict[str, str] = {}
    waiting: list[tuple[str, Any, int]] = [("", value, 0)]
    seen = 0
    while waiting:
        name, each, depth = waiting.pop()
        seen += 1
        if seen > 4 * MAX_TENSORS or len(waiting) > 4 * MAX_TENSORS or len(entries) > MAX_TENSORS:
            raise ValueError(f"it has more than {MAX_TENSORS} tensors or {4 * MAX_TENSORS} names")
        if isinstance(each, Entry):
            if name in entries:
                raise ValueError(f"the name {name[:80]!r} occurs twice")
            entries[name] = each
        elif isinstance(each, dict) and depth < DEEPEST:
            inner = [(_below(name, key, depth), each[key], depth + 1) for key in reversed(each)]
            waiting += inner
        elif isinstance(each, str | int | float) and len(str(each)) < 200:
            metadata[name] = str(each)
    if not entries:
        raise ValueError("it holds no tensors")
    return entries, metadata


def _below(name: str, key: str, depth: int) -> str:
    """The name of what a table holds; training programs keep the weights under ``state_dict``, which says nothing."""
    full = f"{name}.{key}" if name else "" if key == "state_dict" and depth < 2 else key
    if len(full) > LONGEST_KEY:
        raise ValueError(f"a name is longer than {LONGEST_KEY} letters")
    return full
