"""Name a file by its content: SHA-256, as recipes and manifests record it."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from safelight.errors import FileError


def sha256(path: str | os.PathLike[str]) -> str:
    """The SHA-256 of a file's bytes, 64 lower-case hexadecimal digits; reads the file once, in pieces.

    Raises:
        FileError: the file cannot be read.
    """
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise FileError(f"{path}: cannot be read ({error.strerror or error})") from error
