"""A folder of pictures with captions: what is in it, or one error that names what is wrong.

    FOLDER/
      moss.png, moss.txt              a picture, and its caption in a text of the same name
      3_garden/fern.jpg, fern.txt     a folder "N_word": its pictures count N times
      control/moss.png                for a ControlNet: what it is shown of the picture of the same name

Other files and folders are left alone.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from safelight.adapters.picture import flat
from safelight.errors import FileError, ImageError
from safelight.generate.file import open_picture

ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
REPEATED = re.compile(r"(\d{1,4})_.+")
CONTROL = "control"
MOST_CAPTION = 64 * 1024
"""Bytes of the longest caption."""
NAMED = 5
"""Files that an error names; the others are counted."""


@dataclass(frozen=True)
class Entry:
    """One picture.

    Attributes:
        path: its file. digest: SHA-256 of its bytes. caption: what it shows.
        repeats: how often it counts. control: the file that a ControlNet is shown, and the SHA-256 of it.
    """

    path: Path
    digest: str
    caption: str
    repeats: int = 1
    control: tuple[Path, str] | None = None

    def picture(self) -> Image.Image:
        """The picture, RGB; transparency over white. ImageError where it cannot be read any more."""
        return rgb(self.path.read_bytes(), self.path)


def scan(folder: Path, *, caption: str = "", trigger: str = "", control: Path | None = None) -> list[Entry]:
    """Every picture of a folder, in the order of their names.

    Args:
        caption: of pictures that have no text of their own; empty: every picture needs one.
        trigger: a word or more, put before every caption.
        control: the folder of what a ControlNet is shown, by the names of the pictures; None for none.

    Raises:
        FileError: the folder is not there or holds no pictures, pictures lack captions or controls, or a caption
            cannot be read. ImageError: a picture cannot be read, or is too large.
    """
    found = list(_listed(folder))
    if not found:
        raise FileError(f"{folder}: holds no pictures ({', '.join(ENDINGS)}); name a folder of pictures and captions")
    without = [path for path, _ in found if not caption and not path.with_suffix(".txt").is_file()]
    if without:
        raise FileError(f"{folder}: no caption (same name, .txt) beside {_names(without)}; write it, or data.caption")
    shown = {path: control / path.name for path, _ in found} if control is not None else {}
    shown = {path: _other_ending(place) for path, place in shown.items()}
    unpaired = [path for path, place in shown.items() if not place.is_file()]
    if unpaired:
        raise FileError(f"{control}: no picture of the same name for {_names(unpaired)}; every picture needs one")
    entries = []
    for path, repeats in found:
        text = read_caption(path.with_suffix(".txt")) if path.with_suffix(".txt").is_file() else caption
        pair = (shown[path], digest(shown[path])) if path in shown else None
        entries.append(Entry(path, digest(path), " ".join(filter(None, (trigger, text))), repeats, pair))
    return entries


def read_caption(path: Path) -> str:
    """The text of a caption in one line; FileError where it is none or too long."""
    try:
        if path.stat().st_size > MOST_CAPTION:
            raise FileError(f"{path}: longer than {MOST_CAPTION} bytes; that is no caption")
        return " ".join(path.read_text("utf-8-sig").split())
    except OSError as error:
        raise FileError(f"{path}: cannot be read ({error.strerror or error})") from None
    except UnicodeDecodeError:
        raise FileError(f"{path}: is not UTF-8; save it as such") from None


def digest(path: Path) -> str:
    """The SHA-256 of a picture's bytes, once it was seen to be a picture.

    Raises:
        ImageError: it is none, is cut off, too large, or of more than 8 bits a colour.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ImageError(f"{path}: cannot be read ({error.strerror or error})") from None
    rgb(data, path)
    return hashlib.sha256(data).hexdigest()


def rgb(data: bytes, path: Path) -> Image.Image:
    """A picture as RGB, transparency over white; ImageError names ``path`` where it is none."""
    try:
        return flat(open_picture(io.BytesIO(data)))
    except ImageError as error:
        raise ImageError(f"{path}: {str(error).removeprefix('the picture: ')}") from None


def spread(entries: Iterable[Entry]) -> list[int]:
    """The place of every entry, as often as it counts."""
    return [place for place, entry in enumerate(entries) for _ in range(entry.repeats)]


def _listed(folder: Path) -> Iterator[tuple[Path, int]]:
    """Pictures and how often they count."""
    try:
        children = sorted(folder.iterdir())
    except OSError as error:
        raise FileError(f"{folder}: cannot be read ({error.strerror or error}); --data takes a folder") from None
    yield from ((path, 1) for path in children if _is_picture(path))
    for below in children:
        repeated = REPEATED.fullmatch(below.name)
        if repeated and below.is_dir():
            count = max(1, int(repeated[1]))
            yield from ((path, count) for path in sorted(below.iterdir()) if _is_picture(path))


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in ENDINGS and not path.name.startswith(".") and path.is_file()


def _other_ending(path: Path) -> Path:
    """The same name with whatever ending there is."""
    if path.is_file():
        return path
    return next((place for ending in ENDINGS if (place := path.with_suffix(ending)).is_file()), path)


def _names(paths: list[Path]) -> str:
    more = f" and {len(paths) - NAMED} more" if len(paths) > NAMED else ""
    return ", ".join(path.name for path in paths[:NAMED]) + more
