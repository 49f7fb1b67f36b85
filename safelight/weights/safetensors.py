"""Read and check the header of a safetensors file, without torch and without trusting a single number in it.

Layout: 8 bytes little-endian length N, N bytes of JSON (name -> dtype, shape, data_offsets), then the data.
Source: the format's specification, https://github.com/huggingface/safetensors#format. The limits below are this
program's own: real files hold at most about 3,000 tensors in one file and 1 MB of header.
"""

from __future__ import annotations

import json
import math
import os
import sys
from pathlib import Path
from typing import Any

from safelight.errors import WeightsError
from safelight.weights.header import BITS, MAX_HEADER, MAX_RANK, MAX_TENSORS, Entry, Header, possible

MAX_MARKS = 300_000
"""Brackets, braces and commas outside of texts; 20,000 tensors of rank 4 have 220,000. More is built to fill memory."""
ROW = {"dtype", "shape", "data_offsets"}
PICKLES = {".bin", ".ckpt", ".pt", ".pth", ".pkl"}


def read_header(path: str | os.PathLike[str], *, named: bool = True) -> Header:
    """Read and check the header of a safetensors file.

    Args:
        named: whether a file that is called like a pickle is refused unread.

    Checked: the file is no pickle; the header fits in the file and in 16 MiB; at most 20,000 tensors; known dtypes;
    sizes agree with shapes; every tensor lies inside the file, none overlaps another, and no byte is left over.

    Raises:
        WeightsError: the file is missing, unreadable, truncated, a pickle, or any check fails; says which.
    """
    path = Path(path)
    if named and path.suffix.lower() in PICKLES:
        raise pickle_error(path)
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(8)
            length = int.from_bytes(head, "little")
            if head[:2] in (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05") or head[:4] == b"PK\x03\x04":
                raise pickle_error(path)
            if len(head) < 8 or length > size - 8 or length < 2:
                raise WeightsError(f"{path}: not a safetensors file, or cut off ({size} bytes); download it again")
            if length > MAX_HEADER:
                raise WeightsError(f"{path}: its header says {length} bytes; at most {MAX_HEADER} are read")
            text = file.read(length)
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror or error}); check the path") from error
    try:
        _bounded(text)
        words = text.decode("utf-8")
        del text  # a header of 16 MiB need not be held twice
        if sys.getsizeof(words) > 2 * MAX_HEADER + 1024:  # one rare letter makes all the others four bytes wide
            raise ValueError(f"more than {2 * MAX_HEADER} bytes of text in memory")
        table = json.loads(words, object_pairs_hook=_no_twins)
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{path}: its header is not valid JSON ({error}); the file is damaged") from error
    return _checked(path, table, 8 + length, size)


def pickle_error(path: Path) -> WeightsError:
    """The answer to a pickle: it is never opened, since opening one runs whatever program is inside."""
    return WeightsError(
        f"{path}: this is a pickle (.bin, .ckpt, .pt), which can run any program when opened; use the .safetensors file"
        " of the same model, or 'safelight convert FILE DST --allow-pickle', which reads its tensors and runs nothing"
    )


def _bounded(text: bytes) -> None:
    """Refuse a text that would become far more objects than any header has, before it becomes them."""
    marks = (b"{", b"[", b",")
    bare = text.replace(b"\\\\", b"").replace(b'\\"', b"") if b"\\" in text else text
    if sum(map(bare.count, marks)) <= MAX_MARKS:
        return
    outside = b"".join(bare.split(b'"', 2 * MAX_MARKS)[::2])  # commas inside of texts, such as captions, say nothing
    if bare.count(b'"') > 2 * MAX_MARKS or sum(map(outside.count, marks)) > MAX_MARKS:
        raise ValueError(f"more than {MAX_MARKS} brackets and commas")


def _no_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        raise ValueError("a name occurs twice")
    return table


def _checked(path: Path, table: Any, start: int, size: int) -> Header:
    if not isinstance(table, dict):
        raise WeightsError(f"{path}: its header is not a table of tensors; the file is damaged")
    metadata = table.pop("__metadata__", {})
    if not isinstance(metadata, dict) or any(not isinstance(v, str) for v in metadata.values()):
        raise WeightsError(f"{path}: its metadata is not a table of texts; the file is damaged")
    if len(table) > MAX_TENSORS:
        raise WeightsError(f"{path}: {len(table)} tensors; at most {MAX_TENSORS} are read")
    entries = {name: _entry(path, name, row, start) for name, row in table.items()}
    reached = start
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].begin, item[1].end)):
        if entry.begin != reached:
            what = "overlaps the one before it" if entry.begin < reached else "leaves a gap before it"
            raise WeightsError(f"{path}: tensor {name!r} {what}; the file is damaged or hostile")
        reached = entry.end
    if reached != size:
        state = "cut off" if reached > size else "longer than its tensors"
        raise WeightsError(f"{path}: the file is {state}: {size} bytes, its header says {reached}; download it again")
    return Header(entries, metadata, size)


def _entry(path: Path, name: str, row: Any, start: int) -> Entry:
    if not isinstance(row, dict) or row.keys() != ROW:
        raise WeightsError(f"{path}: tensor {name!r} lacks dtype, shape or data_offsets; the file is damaged")
    dtype, shape, offsets = row["dtype"], row["shape"], row["data_offsets"]
    if not isinstance(dtype, str) or dtype not in BITS:
        raise WeightsError(f"{path}: tensor {name!r} has the unknown dtype {str(dtype)[:40]!r}")
    placed = _numbers(offsets, 2) and len(offsets) == 2 and offsets[0] <= offsets[1]
    if not placed or not _numbers(shape, MAX_RANK) or not possible(shape):
        raise WeightsError(f"{path}: tensor {name!r} has an impossible shape or place; the file is damaged")
    if math.prod(shape) * BITS[dtype] != 8 * (offsets[1] - offsets[0]):
        raise WeightsError(
            f"{path}: tensor {name!r} of {dtype} {shape} should take {math.prod(shape) * BITS[dtype] // 8} bytes,"
            f" its place has {offsets[1] - offsets[0]}; the file is damaged"
        )
    return Entry(dtype, tuple(shape), start + offsets[0], start + offsets[1])


def _numbers(values: Any, most: int) -> bool:
    if not isinstance(values, list) or len(values) > most:
        return False
    return all(type(value) is int and 0 <= value < 2**63 for value in values)  # True is an int, too, but not its type
