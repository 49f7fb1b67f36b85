"""Pictures that adapters are shown: laid flat, fitted, and as tensors.

Axes: [1, C, H, W] in [0, 1], C = 3 for red, green and blue, 1 for grey.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from safelight.encoders.clip_pixels import flat
from safelight.errors import ImageError

MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA")
STRONGEST = 2.0
"""Of hints; beyond, pictures fall apart."""
SLACK = 0.05
"""How far the aspects of a picture and of what it is fitted to may be apart: sizes are rounded to multiples."""


def check_hint(picture: Image.Image, size: tuple[int, int], what: str) -> None:
    """Refuse a picture that cannot be shown at ``size`` (width, height).

    Raises:
        ImageError: its numbers are no colours, or it is of another shape.
    """
    if picture.mode not in MODES:
        raise ImageError(
            f"{what}: a picture of mode {picture.mode}{named(picture)} holds no colours; make it one of 8 bits"
            + (" (safelight.adapters.preprocess.measured.depth spreads it)" if picture.mode[0] in "IF" else "")
        )
    (wide, high), (width, height) = picture.size, size
    if abs(wide * height / (high * width) - 1) > SLACK:
        raise ImageError(
            f"{what}: the picture{named(picture)} is {wide} x {high} pixels and what is drawn {width} x {height}, of "
            "another shape; crop the picture, or ask for its shape"
        )


def over(picture: Image.Image, background: float) -> Image.Image:
    """A picture of any mode as RGB, what is transparent over a grey from 0, black, to 1, white."""
    if "A" not in picture.getbands() and picture.info.get("transparency") is None:
        return picture.convert("RGB")
    seen = picture.convert("RGBA")
    made = Image.new("RGB", seen.size, (round(255 * background),) * 3)
    made.paste(seen, mask=seen.getchannel("A"))
    return made


def to_hint(picture: Image.Image, size: tuple[int, int], channels: int) -> Tensor:
    """A picture as [1, channels, H, W] in [0, 1], fitted to ``size`` (width, height; Lanczos) where it differs."""
    seen = flat(picture)
    if channels == 1:
        seen = seen.convert("L")
    if seen.size != size:
        seen = seen.resize(size, Image.Resampling.LANCZOS)
    values = torch.from_numpy(np.array(seen).reshape(size[1], size[0], channels))
    return values.permute(2, 0, 1)[None].float() / 255.0


def to_hole(mask: Image.Image, size: tuple[int, int]) -> Tensor:
    """A mask as booleans [1, 1, H, W], True where it is white; fitted to ``size`` (width, height; nearest)."""
    grey = mask.convert("L")
    if grey.size != size:
        grey = grey.resize(size, Image.Resampling.NEAREST)
    return (torch.from_numpy(np.array(grey)) >= 128)[None, None]


def source(picture: Image.Image | None) -> dict[str, str] | None:
    """What a recipe says of a picture that may have come in; None for no picture."""
    return None if picture is None else fingerprint(picture)


def fingerprint(picture: Image.Image) -> dict[str, str]:
    """What a recipe says of a picture that came in: the hash of its pixels, and its file's name, never its folder."""
    digest = hashlib.sha256(f"{picture.mode}{picture.size}".encode() + picture.tobytes()).hexdigest()
    return {"sha256": digest, "file": file_of(picture)}


def file_of(picture: Image.Image) -> str:
    """The name of the file that a picture was read from, without its folder; empty for others."""
    return Path(str(getattr(picture, "filename", ""))).name


def named(picture: Image.Image) -> str:
    """The same in brackets, behind a noun."""
    file = file_of(picture)
    return f" ({file})" if file else ""
