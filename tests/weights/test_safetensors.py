"""A header is believed only after every number in it was checked: hostile and damaged files get a typed error."""

from __future__ import annotations

import json
import time
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from safelight.errors import WeightsError
from safelight.weights import safetensors
from safelight.weights.safetensors import Entry, read_header

GOOD = {
    "a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
    "b": {"dtype": "U8", "shape": [], "data_offsets": [24, 25]},
}


def file_of(path: Path, header: Any, data: bytes = b"\0" * 25, length: int | None = None) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes((len(text) if length is None else length).to_bytes(8, "little") + text + data)
    return path


def test_a_good_header_says_where_everything_lies(tmp_path: Path) -> None:
    path = file_of(tmp_path / "m.safetensors", {**GOOD, "__metadata__": {"format": "pt"}})
    header = read_header(path)
    start = path.stat().st_size - 25
    assert header.entries["a"] == Entry("F32", (2, 3), start, start + 24)
    assert header.entries["b"] == Entry("U8", (), start + 24, start + 25)
    assert header.metadata == {"format": "pt"}
    assert header.size == path.stat().st_size


def test_files_of_the_reference_are_read(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    save_file({"x": torch.zeros(3, 4, dtype=torch.bfloat16), "empty": torch.zeros(0, 7)}, path, {"hello": "world"})
    header = read_header(path)
    assert {name: (e.dtype, e.shape) for name, e in header.entries.items()} == {
        "x": ("BF16", (3, 4)),
        "empty": ("F32", (0, 7)),
    }
    assert header.metadata == {"hello": "world"}


def one(**change: Any) -> dict[str, Any]:
    return {"a": {"dtype": "U8", "shape": [25], "data_offsets": [0, 25], **change}}


@pytest.mark.parametrize(
    ("header", "message"),
    [
        pytest.param(b'{"a', "not valid JSON", id="cut JSON"),
        pytest.param(b"\xff\xfe{}", "not valid JSON", id="not UTF-8"),
        pytest.param(b"[" * 100_000 + b"]" * 100_000, "not valid JSON|not a table", id="deep nesting"),
        pytest.param(b'{"a": ' + b"9" * 10_000 + b"}", "not valid JSON|lacks", id="endless number"),
        pytest.param(b'{"a": 1, "a": 2}', "occurs twice", id="the same name twice"),
        pytest.param([], "not a table", id="a list"),
        pytest.param({"a": 5}, "lacks dtype", id="a number for a tensor"),
        pytest.param(one(extra=1), "lacks dtype", id="another key"),
        pytest.param(one(dtype="F33"), "unknown dtype", id="unknown dtype"),
        pytest.param(one(dtype=["U8"]), "unknown dtype", id="dtype no text"),
        pytest.param(one(dtype="F32"), "should take 100 bytes", id="size of another dtype"),
        pytest.param(one(shape=[-25]), "impossible", id="negative shape"),
        pytest.param(one(shape=[25.0]), "impossible", id="fractional shape"),
        pytest.param(one(shape=[True, 25]), "impossible", id="boolean shape"),
        pytest.param(one(shape=[1] * 100 + [25]), "impossible", id="a hundred dimensions"),
        pytest.param(one(shape=[2**62, 2**62, 25]), "impossible", id="astronomic shape"),
        pytest.param(one(shape=[0, 2**62, 4], data_offsets=[0, 0]), "impossible", id="nothing, without end"),
        pytest.param(one(data_offsets=[25, 0]), "impossible", id="backwards"),
        pytest.param(one(data_offsets=[0]), "impossible", id="one offset"),
        pytest.param(one(shape=[2**40], data_offsets=[0, 2**40]), "cut off", id="beyond the file"),
        pytest.param(one(shape=[24], data_offsets=[0, 24]), "longer than its tensors", id="a byte left over"),
        pytest.param(one(shape=[24], data_offsets=[1, 25]), "leaves a gap", id="a gap at the start"),
        pytest.param(
            {**one(), "b": {"dtype": "U8", "shape": [5], "data_offsets": [20, 25]}}, "overlaps", id="overlapping"
        ),
        pytest.param({**one(), "b": one()["a"]}, "overlaps", id="two names for the same bytes"),
        pytest.param({**one(), "__metadata__": {"a": 1}}, "metadata", id="metadata no text"),
        pytest.param({**one(), "__metadata__": []}, "metadata", id="metadata no table"),
    ],
)
def test_a_hostile_header_is_refused(tmp_path: Path, header: Any, message: str) -> None:
    path = file_of(tmp_path / "m.safetensors", header)
    with pytest.raises(WeightsError, match=message) as caught:
        read_header(path)
    assert str(path) in str(caught.value)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("length", [26, 2**40, 2**64 - 1, 0, 1])
def test_a_header_longer_than_the_file_or_empty_is_refused(tmp_path: Path, length: int) -> None:
    path = file_of(tmp_path / "m.safetensors", b"", length=length)
    with pytest.raises(WeightsError, match=r"cut off|not valid JSON"):
        read_header(path)


@pytest.mark.parametrize("content", [b"", b"abc", b"\0" * 8])
def test_a_file_without_a_header_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="not a safetensors file"):
        read_header(path)


def test_a_huge_header_is_refused_without_being_read(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    with path.open("wb") as file:
        file.write((safetensors.MAX_HEADER + 1).to_bytes(8, "little"))
        file.truncate(2**30)
    tracemalloc.start()
    with pytest.raises(WeightsError, match="at most 16777216 are read"):
        read_header(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**20


def test_more_tensors_than_any_model_has_are_refused(tmp_path: Path) -> None:
    header = {str(i): {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]} for i in range(20_001)}
    with pytest.raises(WeightsError, match="20001 tensors"):
        read_header(file_of(tmp_path / "m.safetensors", header, b""))
    del header["0"]
    assert len(read_header(file_of(tmp_path / "m.safetensors", header, b"")).entries) == 20_000


@pytest.mark.parametrize("name", ["model.bin", "model.ckpt", "model.pt", "MODEL.PTH"])
def test_a_pickle_is_never_opened_and_the_answer_says_what_to_do(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    torch.save({"a": torch.zeros(2)}, path)
    with pytest.raises(WeightsError, match=r"use the \.safetensors file"):
        read_header(path)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_under_a_false_name_is_seen(tmp_path: Path, zipped: bool) -> None:
    path = tmp_path / "model.safetensors"
    torch.save({"a": torch.zeros(2)}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(WeightsError, match="this is a pickle"):
        read_header(path)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "none.safetensors", tmp_path):
        with pytest.raises(WeightsError, match="cannot be read"):
            read_header(path)


@settings(
    max_examples=300, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_any_damage_is_read_or_refused_but_never_crashes(tmp_path: Path, data: st.DataObject) -> None:
    path = file_of(tmp_path / "m.safetensors", GOOD)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(content) - 1))
        content[place : place + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=3))
    path.write_bytes(content)
    start = time.process_time()
    try:
        header = read_header(path)
    except WeightsError:
        pass
    else:
        assert all(entry.end <= len(content) for entry in header.entries.values())
    assert time.process_time() - start < 1


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(b'{"a":[' + b"[]," * 5_000_000 + b"[]]}", id="lists"),
        pytest.param(b'{"a":[' + b"{}," * 5_000_000 + b"{}]}", id="tables"),
        pytest.param(b'{"a":[' + b'"",' * 5_000_000 + b'""]}', id="texts"),
        pytest.param(b'{"a":[' + b"1234567," * 2_000_000 + b"1]}", id="numbers"),
        pytest.param(b'{"' + b'\\"' * 7_000_000 + b'":[' + b"[]," * 300_000 + b"[]]}", id="escaped quotes"),
        pytest.param(b'{"__metadata__":{"a":"' + b"," * 15_000_000 + '🦊"},"b":[1]}'.encode(), id="wide letters"),
    ],
)
def test_sixteen_megabytes_of_header_are_refused_in_little_time_and_memory(tmp_path: Path, text: bytes) -> None:
    path = file_of(tmp_path / "m.safetensors", text)
    begun = time.process_time()
    with pytest.raises(WeightsError, match=r"brackets and commas|bytes of text in memory"):
        read_header(path)
    assert time.process_time() - begun < 1
    tracemalloc.start()
    with pytest.raises(WeightsError):
        read_header(path)
    assert tracemalloc.get_traced_memory()[1] < 100e6
    tracemalloc.stop()


def test_long_captions_in_the_metadata_are_no_attack(tmp_path: Path) -> None:
    captions = json.dumps({f"a {i}, with, commas": i for i in range(40_000)})
    path = file_of(tmp_path / "m.safetensors", {**GOOD, "__metadata__": {"ss_tag_frequency": captions}})
    assert read_header(path).metadata["ss_tag_frequency"] == captions
