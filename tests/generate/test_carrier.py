"""Texts in files: PNG, JPEG and WebP give back what was written, and what others write; hostile files give nothing."""

from __future__ import annotations

import io
import json
import struct
import time
import zlib
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from safelight.errors import ImageError
from safelight.generate.file import RECIPES, open_picture
from safelight.generate.metadata import a1111, carrier, dialect
from safelight.generate.recipe import recipe_in
from safelight.generate.request import Request
from tests.generate.scenes import PROMPT, picture, pipe
from tests.generate.test_a1111 import PROMPTS
from tests.generate.test_file import chunk

KINDS = ("PNG", "JPEG", "WEBP")


def reopened(data: bytes) -> Image.Image:
    return open_picture(io.BytesIO(data), RECIPES)


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(KINDS), PROMPTS, PROMPTS)
@example("JPEG", 'a "hat", red: 1\nSteps: 3, Sampler: x', "帽子\U0001f3a9")
@example("WEBP", "帽" * 500, "")
def test_both_forms_come_back_from_every_kind_of_file(kind: str, prompt: str, negative: str) -> None:
    told = replace(pipe().recipe(pipe().settle(Request(PROMPT))), prompt=prompt, negative=negative)
    read = reopened(carrier.encoded(picture(16), kind, told.texts()))
    assert recipe_in(read) == told
    found = dialect.read({"parameters": carrier.texts(read)["parameters"]})
    assert found == told.settings()
    assert a1111.write(told.settings()) == told.parameters()


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_png_and_webp_keep_every_bit(kind: str) -> None:
    assert reopened(carrier.encoded(picture(), kind, {})).tobytes() == picture().tobytes()


def test_a_jpeg_loses_what_a_picture_squeezed_alike_loses(tmp_path: Any) -> None:
    for quality in (30, 95):
        file = tmp_path / f"{quality}.jpg"
        file.write_bytes(carrier.encoded(picture(), "JPEG", {}, quality))
        read = open_picture(file)
        assert carrier.lossy(file)
        assert read.tobytes() != picture().tobytes()
        assert carrier.squeezed(picture(), file).tobytes() == read.tobytes()
    best, worst = (np.asarray(open_picture(tmp_path / f"{quality}.jpg"), int) for quality in (95, 30))
    assert abs(best - np.asarray(picture(), int)).mean() < abs(worst - np.asarray(picture(), int)).mean()
    (tmp_path / "x.png").write_bytes(carrier.encoded(picture(), "PNG", {}))
    assert not carrier.lossy(tmp_path / "x.png")
    assert carrier.squeezed(picture(), tmp_path / "x.png").tobytes() == picture().tobytes()
    (tmp_path / "cut.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    with pytest.raises(ImageError, match="cannot be compressed alike"):
        carrier.squeezed(picture(), tmp_path / "cut.jpg")


def test_a_recipe_that_does_not_fit_is_said() -> None:
    long = {"parameters": "x" * 40_000, "safelight": "{}"}
    with pytest.raises(ImageError, match="does not fit in a JPEG; write PNG or WebP"):
        carrier.exif("JPEG", long)
    read = reopened(carrier.encoded(picture(), "WEBP", long))
    assert carrier.texts(read) == long


TEXT = "a hat ü 帽\nSteps: 20, Sampler: Euler a, Seed: 1"


@pytest.mark.parametrize(
    "comment",
    [
        b"UNICODE\0" + TEXT.encode("utf-16-be"),
        b"UNICODE\0" + TEXT.encode("utf-16-le"),
        b"UNICODE\0" + TEXT.encode("utf-16"),
        b"ASCII\0\0\0" + TEXT.encode() + b"\0",
        bytes(8) + TEXT.encode(),
    ],
)
def test_a_users_comment_is_read_in_every_order_of_bytes(comment: bytes) -> None:
    assert carrier.comment_text(comment) == TEXT
    assert carrier.comment_text(b"JIS\0\0\0\0\0abc") == ""
    assert carrier.comment_text(b"") == ""


@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
def test_comfyuis_graphs_are_found_where_a_camera_would_name_itself(kind: str) -> None:
    graph = json.dumps({"1": {"class_type": "KSampler", "inputs": {"seed": 5, "steps": 4, "sampler_name": "ü"}}})
    fields, data = Image.Exif(), io.BytesIO()
    fields[0x0110] = b"prompt:" + graph.encode()
    fields[0x010F] = "Workflow: {}"
    picture().save(data, kind, exif=fields)
    found = carrier.texts(reopened(data.getvalue()))
    assert found == {"prompt": graph, "workflow": "{}"}
    read = dialect.read(found)
    assert read is not None and read.seed == 5


def test_stable_diffusion_cpps_webp_is_found() -> None:
    data = io.BytesIO()
    xmp = b"<x><sdcpp:parameters>a &lt;b&gt;\nSteps: 1</sdcpp:parameters></x>"
    picture().save(data, "WEBP", xmp=xmp)
    assert carrier.texts(reopened(data.getvalue())) == {"parameters": "a <b>\nSteps: 1"}


def test_every_way_in_which_a_png_holds_text_is_read() -> None:
    for compressed in (False, True):
        info, data = PngInfo(), io.BytesIO()
        info.add_text("parameters", "a hat ü", zip=compressed)
        info.add_itxt("prompt", "帽", zip=compressed)
        picture().save(data, "PNG", pnginfo=info)
        assert carrier.texts(reopened(data.getvalue())) == {"parameters": "a hat ü", "prompt": "帽"}


def test_a_text_that_unpacks_without_end_is_refused_at_once() -> None:
    data = io.BytesIO()
    picture().save(data, "PNG")
    head, rest = data.getvalue()[:33], data.getvalue()[33:]
    bomb = zlib.compress(bytes(100 * 2**20), 9)
    begun = time.perf_counter()
    for name, body in ((b"zTXt", b"parameters\0\0" + bomb), (b"iTXt", b"parameters\0\1\0\0\0" + bomb)):
        with suppress(ImageError):
            assert len(carrier.texts(reopened(head + chunk(name, body) + rest)).get("parameters", "")) < 2**22
    assert time.perf_counter() - begun < 1


@settings(max_examples=80, deadline=None)
@given(st.sampled_from(KINDS), st.data())
def test_a_damaged_file_gives_texts_or_an_error(kind: str, data: st.DataObject) -> None:
    told = {"parameters": TEXT, "safelight": '{"a": 1}'}
    bytes_ = bytearray(carrier.encoded(picture(8), kind, told))
    for _ in range(data.draw(st.integers(1, 8))):
        bytes_[data.draw(st.integers(0, len(bytes_) - 1))] = data.draw(st.integers(0, 255))
    with suppress(ImageError):
        read = reopened(bytes(bytes_))
        found = carrier.texts(read)
        assert all(isinstance(text, str) for text in found.values())
        dialect.read(found)
        recipe_in(read)


def test_hostile_fields_of_a_camera_are_passed_over() -> None:
    begun = time.perf_counter()
    for count in (2**32 - 1, 2**31, 2**20):
        entries = struct.pack(">HHII", 0x8769, 4, 1, 8) + struct.pack(">HHII", 0x010E, 2, count, 4)
        fields = b"Exif\0\0MM\0*\0\0\0\x08" + struct.pack(">H", 2) + entries + struct.pack(">I", 8)
        data = io.BytesIO()
        picture().save(data, "JPEG", exif=fields)
        assert carrier.texts(reopened(data.getvalue())) == {}
    assert time.perf_counter() - begun < 1
