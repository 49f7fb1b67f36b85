"""Pictures at the edge of the program: read with care, fitted, turned into tensors and back.

Axes: [1, 3, H, W] in [-1, 1] for colours, [1, 1, H, W] in [0, 1] for masks.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import IO

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from safelight.errors import ImageError

MAX_PIXELS = 64 * 2**20
"""Pixels of the largest picture that is read: 8192 x 8192. A small file can claim to be far larger."""


def open_picture(path: str | Path | IO[bytes]) -> Image.Image:
    """Read a picture whole, turned the way its camera was held.

    Raises:
        ImageError: it does not exist, is no picture, is cut off, or claims more than 64 million pixels.
    """
    name = path if isinstance(path, str | Path) else "the picture"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            picture = Image.open(path)
        if picture.width * picture.height > MAX_PIXELS:
            raise ImageError(f"{name}: {picture.width}x{picture.height} pixels are too many; the most are {MAX_PIXELS}")
        picture.load()
        return ImageOps.exif_transpose(picture)
    except FileNotFoundError:
        raise ImageError(f"{name}: no such file") from None
    except UnidentifiedImageError:
        raise ImageError(f"{name}: is no picture that can be read; use PNG, JPEG or WebP") from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ImageError(f"{name}: cannot be read as a picture ({error})") from None


def to_tensor(picture: Image.Image, size: tuple[int, int]) -> Tensor:
    """A picture as [1, 3, H, W] in [-1, 1]: transparency over white, fitted to ``size`` (Lanczos) where it differs."""
    if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
        over = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", over.size, "white"), over)
    rgb = picture.convert("RGB")
    if rgb.size != size:
        rgb = rgb.resize(size, Image.Resampling.LANCZOS)
    return torch.from_numpy(np.array(rgb)).permute(2, 0, 1)[None].float() / 127.5 - 1


def to_mask(picture: Image.Image, size: tuple[int, int]) -> Tensor:
    """A mask as [1, 1, H, W]: 1 where it is white (repainted), 0 where black; at one half it is cut.

    Raises:
        ImageError: nothing in it is white, so nothing would be repainted.
    """
    grey = picture.convert("L")
    if grey.size != size:
        grey = grey.resize(size, Image.Resampling.NEAREST)
    mask = (torch.from_numpy(np.array(grey)) >= 128).float()[None, None]
    if not mask.any():
        raise ImageError("the mask has no white, so nothing would be repainted; white is repainted, black is kept")
    return mask


def to_picture(x: Tensor) -> Image.Image:
    """[1, 3, H, W] in [-1, 1] -> an RGB picture; what lies outside is cut, halves round to even."""
    bytes_ = ((x[0].float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return Image.fromarray(bytes_.permute(1, 2, 0).cpu().numpy(), "RGB")
