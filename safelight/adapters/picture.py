"""What a recipe says of a picture that came in."""

from __future__ import annotations

import hashlib
from pathlib import Path

from PIL.Image import Image


def source(picture: Image | None) -> dict[str, str] | None:
    """The hash of its pixels, and its file's name, never its folder; None for no picture."""
    if picture is None:
        return None
    digest = hashlib.sha256(f"{picture.mode}{picture.size}".encode() + picture.tobytes()).hexdigest()
    return {"sha256": digest, "file": Path(str(getattr(picture, "filename", ""))).name}
