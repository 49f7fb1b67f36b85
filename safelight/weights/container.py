"""The one way to a file's header, whatever its container: safetensors, GGUF, or, only when allowed, a pickle."""

from __future__ import annotations

import os
from pathlib import Path

from safelight.errors import WeightsError
from safelight.weights import gguf, pickled, zipped
from safelight.weights.header import Header
from safelight.weights.safetensors import PICKLES, pickle_error, read_header

SUFFIXES = (".safetensors", ".sft", ".gguf", *sorted(PICKLES))
"""What files of weights are called; what a file is, its content says."""
OLD = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")


def read_any(path: str | os.PathLike[str], *, pickles: bool = False) -> Header:
    """Read and check the header of a file of weights.

    Args:
        pickles: whether a file of torch.save may be read at all; even then it is never run.

    Raises:
        WeightsError: the file is missing, unreadable, hostile, or a pickle that was not allowed.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            head = file.read(4)
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror or error}); check the path") from error
    if head == gguf.MAGIC:
        return gguf.read_gguf(path)
    if head == zipped.MAGIC or head[:2] in OLD:
        if not pickles:
            raise pickle_error(path)
        return pickled.read_pickled(path)
    if path.suffix.lower() in PICKLES and not pickles:
        raise pickle_error(path)
    return read_header(path, named=False)
