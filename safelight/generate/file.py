"""Pictures that come in from outside: read with care, whole, and no larger than memory allows."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import IO

from PIL import Image, ImageOps, UnidentifiedImageError

from safelight.errors import ImageError

MAX_PIXELS = 64 * 2**20
"""Pixels of the largest picture that is read: 8192 x 8192. A small file can claim to be far larger."""
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
"""The only ones that are decoded, whatever a file is called; some others would start programs of the machine."""
RECIPES = ("PNG", "JPEG", "WEBP")
"""Those that a recipe, or settings of another program, are read from."""
DEEP = ("I", "F")
"""First letters of the modes whose numbers do not fit in 8 bits; cutting them would draw something else."""


def open_picture(
    path: str | Path | IO[bytes], formats: tuple[str, ...] = FORMATS, *, deep: bool = False
) -> Image.Image:
    """Read a picture whole, turned the way its camera was held; of several frames the first.

    Args:
        formats: those that are decoded, in Pillow's names.
        deep: whether more than 8 bits a colour are taken, as maps of depth have.

    Returns:
        The picture, with ``filename`` where it came from a file, and its texts in ``info``.

    Raises:
        ImageError: it does not exist, is no picture, is cut off, has more than 8 bits a colour, or claims more than 64
            million pixels.
    """
    name = str(path) if isinstance(path, str | Path) else ""
    called = name or "the picture"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what matters of a file is an error here, the rest is none of the user's
            with Image.open(path, formats=formats) as picture:
                if picture.width * picture.height > MAX_PIXELS:
                    raise ImageError(
                        f"{called}: {picture.width}x{picture.height} pixels are too many; the most are {MAX_PIXELS}"
                    )
                if picture.mode.startswith(DEEP) and not deep:
                    raise ImageError(
                        f"{called}: has more than 8 bits a colour (mode {picture.mode}); save it as 8-bit RGB"
                    )
                picture.load()
                turned = ImageOps.exif_transpose(picture)
    except ImageError:
        raise
    except FileNotFoundError:
        raise ImageError(f"{called}: no such file") from None
    except Image.DecompressionBombError:
        raise ImageError(f"{called}: its pixels are too many; the most are {MAX_PIXELS}") from None
    except UnidentifiedImageError:
        raise ImageError(f"{called}: is no picture that can be read; use {', '.join(formats)}") from None
    except Exception as error:  # decoders of hostile files raise anything
        raise ImageError(f"{called}: cannot be read as a picture ({str(error) or type(error).__name__})") from None
    turned.filename = name  # type: ignore[attr-defined]  # turning made a copy that forgot it
    return turned
