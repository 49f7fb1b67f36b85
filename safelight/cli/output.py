"""Where pictures go: names found and tried before anything is drawn, files that appear whole or not at all."""

from __future__ import annotations

import io
import sys
import tempfile
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from safelight.errors import ExistsError, FileError, RequestError
from safelight.weights.folder import typed

if TYPE_CHECKING:
    from PIL.Image import Image

    from safelight.generate.recipe import Recipe

STDOUT = "-"
PNG, JPEG = ".png", (".jpg", ".jpeg")
KINDS = (PNG, *JPEG, ".webp")


@dataclass(frozen=True)
class Output:
    """Where the pictures of a command go.

    Attributes:
        paths: one for each picture, in order; empty for standard output.
        force: whether files that exist are replaced.
        quality: of a JPEG, 1 to 100; None for the usual one.
    """

    paths: tuple[Path, ...]
    force: bool = False
    quality: int | None = None

    def name(self, index: int) -> str:
        """What picture ``index`` is called to a person."""
        return str(self.paths[index]) if self.paths else "standard output"

    @property
    def kind(self) -> str:
        """What kind of files they are; standard output takes PNG."""
        from safelight.generate.metadata import carrier

        return carrier.KINDS[self.paths[0].suffix.lower()] if self.paths else "PNG"

    def check(self, recipes: Iterable[Recipe]) -> None:
        """Make sure that the recipes fit in such files; ImageError where one does not."""
        from safelight.generate.metadata.carrier import exif

        if self.kind != "PNG":
            for recipe in recipes:
                exif(self.kind, recipe.texts())

    def bytes_of(self, picture: Image, recipe: Recipe) -> bytes:
        """A picture as a file of this kind, with its recipe in it."""
        from safelight.generate.metadata.carrier import QUALITY, encoded

        return encoded(picture, self.kind, recipe.texts(), self.quality or QUALITY)

    def put(self, index: int, data: bytes) -> None:
        """Write picture ``index``; FileError where that cannot be, and then nothing of it is there."""
        if not self.paths:
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
            return
        put(self.paths[index], data, self.force)


def plan(
    out: str | None, seed: int, count: int, force: bool, quality: int | None = None, kinds: Collection[str] = (PNG,)
) -> Output:
    """Decide the names of ``count`` pictures and make sure that they can be written.

    Args:
        out: a file, a folder, ``-`` for standard output, or None for a name of our own in the folder where we are.
        seed: of the first picture, for names of our own: ``safelight-SEED.png``, or the next that is free.
        quality: of a JPEG, 1 to 100; None for the usual one.
        kinds: ends of names that are allowed, in small letters.

    Raises:
        RequestError: several pictures for standard output, a name of another kind, or a quality of other than a JPEG.
        ExistsError: a file is there and ``force`` is not given. FileError: the folder cannot be written to.
    """
    if quality is not None and not 1 <= quality <= 100:
        raise RequestError(f"--quality lies between 1 and 100, not {quality}")
    if out == STDOUT:
        _lossless(quality)
        if count > 1:
            raise RequestError(f"standard output takes one picture, not {count}; name a file or a folder with -o")
        if sys.stdout.isatty():
            raise RequestError("standard output is a terminal, which shows no pictures; redirect it or name a file")
        return Output(())
    folder = typed("." if out is None else out)
    if out is None or out.endswith("/") or (taken([folder]) and folder.is_dir()):
        _lossless(quality)
        reachable(folder)
        stems = (f"safelight-{seed}" + (f"-v{version}" if version > 1 else "") for version in range(1, 1_000_000))
        names = next(names for stem in stems if not taken(names := numbered(folder / f"{stem}.png", count)))
        return Output(tuple(names), force)
    end = folder.suffix.lower() or PNG
    if end not in kinds:
        told = "PNG, JPEG or WebP, which keep" if len(kinds) > 1 else "PNG, which keeps"
        raise RequestError(f"{folder}: pictures are written as {told} their recipe; let the name end in .png")
    if end not in JPEG:
        _lossless(quality)
    reachable(folder.parent)
    paths = numbered(folder if folder.suffix else folder.with_name(f"{folder.name}.png"), count)
    free(paths, force)
    return Output(tuple(paths), force, quality)


def _lossless(quality: int | None) -> None:
    if quality is not None:
        raise RequestError("--quality is of a JPEG, others lose nothing; let the name end in .jpg, or leave it out")


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


def free(paths: Sequence[Path], force: bool, instead: str = "--force replaces it, -o names another") -> None:
    """Make sure that no file is there, or with ``force`` that all are files; ExistsError, FileError.

    Args:
        instead: what to do about files that are there.
    """
    there = taken(paths)
    if there and not force:
        more = f" (and {len(there) - 1} more)" if len(there) > 1 else ""
        raise ExistsError(f"{there[0]}{more}: exists; {instead}")
    for path in there:
        if path.is_dir():
            raise FileError(f"{path}: is a folder; choose another name")


def put(path: Path, data: bytes, force: bool) -> None:
    """Write a file that appears whole or not at all, and replaces another only by ``force``."""
    from safelight.weights.save import write

    write(path, [data], fresh=not force)


def png(picture: Image) -> bytes:
    """A picture as the bytes of a PNG file."""
    data = io.BytesIO()
    picture.save(data, "PNG")
    return data.getvalue()
