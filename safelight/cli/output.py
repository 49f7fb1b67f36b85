"""Where pictures go: names found and tried before anything is drawn, files that appear whole or not at all."""

from __future__ import annotations

import io
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from safelight.errors import ExistsError, FileError, RequestError
from safelight.weights.folder import typed

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.PngImagePlugin import PngInfo

STDOUT = "-"


@dataclass(frozen=True)
class Output:
    """Where the pictures of a command go.

    Attributes:
        paths: one for each picture, in order; empty for standard output.
        force: whether files that exist are replaced.
    """

    paths: tuple[Path, ...]
    force: bool = False

    def name(self, index: int) -> str:
        """What picture ``index`` is called to a person."""
        return str(self.paths[index]) if self.paths else "standard output"

    def put(self, index: int, data: bytes) -> None:
        """Write picture ``index``; FileError where that cannot be, and then nothing of it is there."""
        if not self.paths:
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
            return
        put(self.paths[index], data, self.force)


def plan(out: str | None, seed: int, count: int, force: bool) -> Output:
    """Decide the names of ``count`` pictures and make sure that they can be written.

    Args:
        out: a file, a folder, ``-`` for standard output, or None for a name of our own in the folder where we are.
        seed: of the first picture, for names of our own: ``safelight-SEED.png``, or the next that is free.

    Raises:
        RequestError: several pictures for standard output, or a name that is of no PNG.
        ExistsError: a file is there and ``force`` is not given. FileError: the folder cannot be written to.
    """
    if out == STDOUT:
        if count > 1:
            raise RequestError(f"standard output takes one picture, not {count}; name a file or a folder with -o")
        if sys.stdout.isatty():
            raise RequestError("standard output is a terminal, which shows no pictures; redirect it or name a file")
        return Output(())
    folder = typed("." if out is None else out)
    if out is None or out.endswith("/") or (taken([folder]) and folder.is_dir()):
        reachable(folder)
        stems = (f"safelight-{seed}" + (f"-v{version}" if version > 1 else "") for version in range(1, 1_000_000))
        names = next(names for stem in stems if not taken(names := numbered(folder / f"{stem}.png", count)))
        return Output(tuple(names), force)
    if folder.suffix.lower() not in ("", ".png"):
        raise RequestError(f"{folder}: pictures are written as PNG, which keeps their recipe; let the name end in .png")
    reachable(folder.parent)
    paths = numbered(folder if folder.suffix else folder.with_name(f"{folder.name}.png"), count)
    free(paths, force)
    return Output(tuple(paths), force)


def numbered(path: Path, count: int) -> list[Path]:
    """``a.png`` for one, ``a-1.png`` to ``a-9.png`` for several, with zeros so that names sort as numbers do."""
    if count == 1:
        return [path]
    digits = len(str(count))
    return [path.with_name(f"{path.stem}-{index:0{digits}}{path.suffix}") for index in range(1, count + 1)]


def reachable(folder: Path) -> None:
    """Make sure that files can be made in a folder, by making a nameless one; FileError says why not."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise FileError(f"{folder}: cannot be written to ({error.strerror or error}); choose another place") from None


def taken(paths: Iterable[Path]) -> list[Path]:
    """Those that exist; FileError where a name cannot be one."""
    paths = list(paths)
    try:
        return [path for path in paths if path.exists() or path.is_symlink()]
    except (OSError, ValueError) as error:
        raise FileError(f"{paths[0]}: cannot be a file's name ({error}); choose another with -o") from None


def free(paths: Sequence[Path], force: bool) -> None:
    """Make sure that no file is there, or with ``force`` that all are files; ExistsError, FileError."""
    there = taken(paths)
    if there and not force:
        more = f" (and {len(there) - 1} more)" if len(there) > 1 else ""
        raise ExistsError(f"{there[0]}{more}: exists; --force replaces it, -o names another")
    for path in there:
        if path.is_dir():
            raise FileError(f"{path}: is a folder; choose another name")


def put(path: Path, data: bytes, force: bool) -> None:
    """Write a file that appears whole or not at all, and replaces another only by ``force``."""
    from safelight.weights.save import write

    write(path, [data], fresh=not force)


def png(picture: Image, metadata: PngInfo | None = None) -> bytes:
    """A picture as the bytes of a PNG file."""
    data = io.BytesIO()
    picture.save(data, "PNG", pnginfo=metadata)
    return data.getvalue()
