"""Pictures from outside: whatever they hold, they are read or refused in one line."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from safelight.errors import ImageError
from safelight.generate.file import MAX_PIXELS, RECIPES, open_picture
from safelight.generate.picture import to_mask, to_picture, to_tensor
from tests.generate.scenes import picture


def saved(image: Image.Image, kind: str = "PNG") -> bytes:
    data = io.BytesIO()
    image.save(data, kind)
    return data.getvalue()


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few bytes that claims to be huge."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")


def test_what_is_no_picture_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "x.png"
    for data, words in (
        (b"", "is no picture"),
        (b"hello", "is no picture"),
        (saved(picture())[:200], "cannot be read"),
        (bomb(9000, 9000), "too many; the most are 67108864"),
        (bomb(60_000, 60_000), "too many|exceeds limit"),
        (saved(Image.new("I;16", (4, 4))), "more than 8 bits a colour"),
        (saved(Image.new("F", (4, 4)), "TIFF"), "more than 8 bits a colour"),
    ):
        file.write_bytes(data)
        with pytest.raises(ImageError, match=words) as caught:
            open_picture(file)
        assert str(file) in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(ImageError, match="no such file"):
        open_picture(tmp_path / "none.png")
    with pytest.raises(ImageError, match="cannot be read"):
        open_picture(tmp_path)
    assert MAX_PIXELS == 8192**2


def test_formats_that_start_other_programs_are_not_decoded(tmp_path: Path) -> None:
    file = tmp_path / "x.png"
    for data in (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n", saved(picture(8), "PPM")):
        file.write_bytes(data)
        with pytest.raises(ImageError, match="is no picture that can be read; use PNG, JPEG"):
            open_picture(file)
    file.write_bytes(saved(picture(8), "TIFF"))
    assert open_picture(file).size == (8, 8)
    with pytest.raises(ImageError, match=r"use PNG, JPEG, WEBP$"):
        open_picture(file, RECIPES)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(["PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP"]), st.data())
def test_a_damaged_picture_is_read_or_refused(kind: str, data: st.DataObject) -> None:
    bytes_ = bytearray(saved(picture(12), kind))
    for _ in range(data.draw(st.integers(1, 6))):
        bytes_[data.draw(st.integers(0, len(bytes_) - 1))] = data.draw(st.integers(0, 255))
    try:
        read = open_picture(io.BytesIO(bytes(bytes_)))
        to_tensor(read, (8, 8))
    except ImageError:
        pass


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "LAB"])
def test_every_mode_of_8_bits_becomes_colours(mode: str) -> None:
    tensor = to_tensor(picture().convert(mode) if mode != "LAB" else Image.new("LAB", (32, 32)), (32, 32))
    assert tensor.shape == (1, 3, 32, 32) and tensor.min() >= -1 and tensor.max() <= 1


def test_transparency_is_over_white() -> None:
    assert (to_tensor(Image.new("RGBA", (4, 4), (255, 0, 0, 0)), (4, 4)) == 1).all()


def test_a_camera_held_sideways_is_turned_and_keeps_its_name(tmp_path: Path) -> None:
    file, exif = tmp_path / "x.jpg", Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (8, 4)).save(file, exif=exif)
    turned = open_picture(file)
    assert turned.size == (4, 8) and turned.filename == str(file)


def test_bytes_go_there_and_back() -> None:
    assert to_picture(to_tensor(picture(), (32, 32))).tobytes() == picture().tobytes()


def test_white_is_repainted_and_black_is_kept() -> None:
    grey = Image.fromarray(np.array([[0, 127], [128, 255]], np.uint8), "L")
    assert torch.equal(to_mask(grey, (2, 2))[0, 0], torch.tensor([[0.0, 0.0], [1.0, 1.0]]))
