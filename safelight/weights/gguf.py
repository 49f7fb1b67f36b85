"""Read and check the header of a GGUF file, without torch and without trusting a single number in it.

Layout: magic, version 2 or 3, counts, key-value pairs, tensor infos (name, axes fastest first, type, offset), padding,
data. Source: the format's specification, https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Any

from safelight.errors import WeightsError
from safelight.weights.header import MAX_HEADER, MAX_TENSORS, Entry, Header, possible, size_of

MAGIC = b"GGUF"
VERSIONS = (2, 3)
MAX_PAIRS = 10_000
MAX_TEXTS = 1_000_000
"""Texts in lists, all together: a vocabulary and its merges have about 600,000."""
MAX_AXES = 4
KEPT = 4096
"""Bytes of the longest text that is kept of the metadata; longer ones are templates and vocabularies."""
TYPES = {0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 6: "Q5_0", 7: "Q5_1", 8: "Q8_0", 30: "BF16"}
KNOWN = {10: "Q2_K", 11: "Q3_K", 12: "Q4_K", 13: "Q5_K", 14: "Q6_K"}
"""The commonest types that are not read, to name them in the error."""
SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
TEXT, LIST = 8, 9
LENGTH = struct.Struct("<Q")


def read_gguf(path: str | os.PathLike[str]) -> Header:
    """Read and check the header of a GGUF file.

    Checked: version 2 or 3; the header fits in the file and in 16 MiB; at most 20,000 tensors, 10,000 pairs and a
    million texts; no name twice; known types; every tensor lies inside the file on its alignment, none overlaps.
    Of the metadata, numbers and short texts are kept; lists are passed over.

    Raises:
        WeightsError: the file is missing, unreadable, truncated, or any check fails; says which.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            text = file.read(MAX_HEADER)
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror or error}); check the path") from error
    try:
        return _Cursor(text, size).header()
    except struct.error:
        cut = "is cut off" if size <= MAX_HEADER else f"is longer than the {MAX_HEADER} bytes that are read"
        raise WeightsError(f"{path}: its header {cut}; download it again") from None
    except ValueError as error:
        raise WeightsError(f"{path}: {error}; the file is damaged or of another kind") from None


class _Cursor:
    """A place in the header; every reading is checked against its end by `struct`."""

    def __init__(self, text: bytes, size: int) -> None:
        self.text, self.size, self.at, self.texts = text, size, 0, 0

    def number(self, kind: str) -> Any:
        """One little-endian number."""
        (value,) = struct.unpack_from("<" + kind, self.text, self.at)
        self.at += struct.calcsize("<" + kind)
        return value

    def skip(self, count: int) -> None:
        """Pass over bytes."""
        if count > len(self.text) - self.at:
            raise struct.error
        self.at += count

    def bytes(self) -> bytes:
        """A text with its length before it."""
        length, begin = self.number("Q"), self.at
        self.skip(length)
        return self.text[begin : self.at]

    def header(self) -> Header:
        """Everything, checked."""
        if self.text[:4] != MAGIC:
            raise ValueError("does not begin like a GGUF file")
        self.skip(4)
        version, tensors, pairs = self.number("I"), self.number("Q"), self.number("Q")
        if version not in VERSIONS:
            raise ValueError(f"GGUF version {version} is not known; 2 and 3 are")
        if tensors > MAX_TENSORS or pairs > MAX_PAIRS:
            raise ValueError(f"{tensors} tensors and {pairs} settings; at most {MAX_TENSORS} and {MAX_PAIRS} are read")
        metadata: dict[str, str] = {}
        for _ in range(pairs):
            name, value = self.bytes().decode("utf-8"), self.value(self.number("I"))
            if name in metadata:
                raise ValueError(f"the setting {name[:80]!r} occurs twice")
            metadata[name] = value
        infos = [self.info() for _ in range(tensors)]
        align = int(metadata.get("general.alignment") or 32)
        if align < 1 or align > 2**20 or align & (align - 1):
            raise ValueError(f"the alignment {align} is no power of two")
        start = -(-self.at // align) * align
        return Header(self.placed(infos, start, align), _kept(metadata), self.size, "gguf")

    def value(self, kind: int, depth: int = 0) -> str:
        """A setting as text; empty for lists and for texts that are too long to show."""
        if kind == TEXT:
            text = self.bytes()
            return text.decode("utf-8", "replace") if len(text) <= KEPT else ""
        if kind == LIST and depth < 2:
            inner, count = self.number("I"), self.number("Q")
            if inner in SCALARS:
                self.skip(count * struct.calcsize("<" + SCALARS[inner]))
                return ""
            self.texts += count
            if self.texts > MAX_TEXTS:
                raise ValueError(f"more than {MAX_TEXTS} texts in its settings")
            for _ in range(count):
                if inner == TEXT:
                    self.at += 8 + LENGTH.unpack_from(self.text, self.at)[0]
                    if self.at > len(self.text):
                        raise struct.error
                else:
                    self.value(inner, depth + 1)
            return ""
        if kind not in SCALARS:
            raise ValueError(f"a setting of the unknown type {kind}")
        return str(self.number(SCALARS[kind]))

    def info(self) -> tuple[str, str, tuple[int, ...], int]:
        """Name, type, shape and offset of a tensor."""
        name = self.bytes().decode("utf-8")
        axes = self.number("I")
        if axes > MAX_AXES:
            raise ValueError(f"tensor {name[:80]!r} has {axes} axes; at most {MAX_AXES} are read")
        shape = tuple(self.number("Q") for _ in range(axes))[::-1]
        kind = self.number("I")
        if kind not in TYPES:
            called = KNOWN.get(kind, f"type {kind}")
            raise ValueError(f"tensor {name[:80]!r} is in {called}; read are {', '.join(TYPES.values())}")
        return name, TYPES[kind], shape, self.number("Q")

    def placed(self, infos: list[tuple[str, str, tuple[int, ...], int]], start: int, align: int) -> dict[str, Entry]:
        """Entries by name, each inside the file and on its own."""
        entries: dict[str, Entry] = {}
        for name, kind, shape, offset in infos:
            length = size_of(kind, shape)
            if name in entries:
                raise ValueError(f"the tensor {name[:80]!r} occurs twice")
            if length is None or not possible(shape) or offset % align or start + offset + length > self.size:
                raise ValueError(f"tensor {name[:80]!r} of {kind} {list(shape)} lies outside of the file or its blocks")
            entries[name] = Entry(kind, shape, start + offset, start + offset + length)
        reached = start
        for name, entry in sorted(entries.items(), key=lambda item: (item[1].begin, item[1].end)):
            if entry.begin < reached:
                raise ValueError(f"tensor {name[:80]!r} overlaps the one before it")
            reached = entry.end
        return entries


def _kept(metadata: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in metadata.items() if value}
