"""GGUF files are read within bounds, and their blocks mean exactly what the reference says they mean."""

from __future__ import annotations

import struct
import time
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch

from safelight.errors import WeightsError
from safelight.weights.gguf import read_gguf
from safelight.weights.load import read
from safelight.weights.quantised import dequantise

KINDS = ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0")
X = np.random.default_rng(0).standard_normal((6, 64)).astype(np.float32)


@pytest.mark.parametrize("kind", KINDS)
def test_blocks_mean_what_the_reference_says(kind: str) -> None:
    number = getattr(gguf.GGMLQuantizationType, kind)
    blocks = gguf.quantize(X, number)
    ours = dequantise(torch.from_numpy(blocks.reshape(-1).copy()), kind, X.shape)
    assert np.array_equal(ours.numpy(), gguf.dequantize(blocks, number))


@pytest.mark.parametrize("kind", KINDS)
def test_any_bytes_mean_what_the_reference_says(kind: str) -> None:
    number = getattr(gguf.GGMLQuantizationType, kind)
    blocks = np.random.default_rng(1).integers(0, 256, gguf.quantize(X, number).shape, dtype=np.uint8)
    blocks.reshape(-1, gguf.GGML_QUANT_SIZES[number][1])[:, 1:4:2] &= 0x3F  # scales are finite
    ours = dequantise(torch.from_numpy(blocks.reshape(-1).copy()), kind, X.shape)
    assert np.array_equal(ours.numpy(), gguf.dequantize(blocks, number))


def written(path: Path) -> Path:
    """A file of the reference with every kind of tensor and setting."""
    writer = gguf.GGUFWriter(path, "sd1")
    writer.add_string("hello", "world")
    writer.add_uint32("number", 7)
    writer.add_bool("flag", True)
    writer.add_array("words", ["a", "b"])
    writer.add_array("numbers", [1, 2, 3])
    writer.add_tensor("plain", X)
    writer.add_tensor("half", X.astype(np.float16))
    for kind in (*KINDS, "BF16"):
        number = getattr(gguf.GGMLQuantizationType, kind)
        writer.add_tensor(kind, gguf.quantize(X, number), raw_dtype=number)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_files_of_the_reference_are_read(tmp_path: Path) -> None:
    path = written(tmp_path / "m.gguf")
    header = read_gguf(path)
    assert header.container == "gguf"
    assert header.metadata == {"general.architecture": "sd1", "hello": "world", "number": "7", "flag": "True"}
    tensors = read(path)
    assert np.array_equal(tensors["plain"].numpy(), X)
    assert torch.equal(tensors["half"], torch.from_numpy(X).half())
    assert torch.equal(tensors["BF16"], torch.from_numpy(X).bfloat16())
    for kind in KINDS:
        number = getattr(gguf.GGMLQuantizationType, kind)
        assert np.array_equal(tensors[kind].numpy(), gguf.dequantize(gguf.quantize(X, number), number)), kind


def text(word: str) -> bytes:
    return struct.pack("<Q", len(word)) + word.encode()


def tensor(name: str = "a", shape: tuple[int, ...] = (32,), kind: int = 0, offset: int = 0) -> bytes:
    return text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)


def file_of(path: Path, *rows: bytes, pairs: tuple[bytes, ...] = (), data: int = 128, **counts: int) -> Path:
    version, tensors = counts.get("version", 3), counts.get("tensors", len(rows))
    head = (
        b"GGUF" + struct.pack("<IQQ", version, tensors, counts.get("settings", len(pairs))) + b"".join([*pairs, *rows])
    )
    path.write_bytes(head + b"\0" * (-len(head) % 32 + data))
    return path


def test_a_good_file_of_our_own_is_read(tmp_path: Path) -> None:
    header = read_gguf(file_of(tmp_path / "m.gguf", tensor(shape=(16, 2))))
    assert header.entries["a"].shape == (2, 16)
    assert header.entries["a"].end == header.size


def setting(kind: int, value: bytes = b"", name: str = "a") -> bytes:
    return text(name) + struct.pack("<I", kind) + value


@pytest.mark.parametrize(
    ("pairs", "counts", "message"),
    [
        pytest.param((), {"version": 1}, "version 1 is not known", id="another version"),
        pytest.param((), {"tensors": 2**60}, "at most 20000", id="endless tensors"),
        pytest.param((), {"settings": 2**60}, "at most 20000 and 10000", id="endless settings"),
        pytest.param((), {"tensors": 4000}, "cut off", id="more tensors than there are"),
        pytest.param((setting(8, struct.pack("<Q", 2**63)),), {}, "cut off", id="an endless text"),
        pytest.param((setting(9, struct.pack("<IQQ", 8, 2, 2**63)),), {}, "cut off", id="an endless text in a list"),
        pytest.param((setting(9, struct.pack("<IQ", 4, 2**62)),), {}, "cut off", id="an endless list"),
        pytest.param((setting(9, struct.pack("<IQ", 8, 2**40)),), {}, "texts", id="an endless list of texts"),
        pytest.param((setting(9, struct.pack("<IQ", 9, 1) * 9),), {}, "unknown type 9", id="lists in lists"),
        pytest.param((setting(77),), {}, "unknown type 77", id="a setting of no type"),
        pytest.param((setting(0, b"1"),) * 2, {}, "occurs twice", id="a setting twice"),
        pytest.param((setting(4, struct.pack("<I", 3), "general.alignment"),), {}, "power of two", id="alignment"),
    ],
)
def test_hostile_settings_are_refused(
    tmp_path: Path, pairs: tuple[bytes, ...], counts: dict[str, int], message: str
) -> None:
    with pytest.raises(WeightsError, match=message):
        read_gguf(file_of(tmp_path / "m.gguf", tensor(), pairs=pairs, **counts))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        pytest.param([tensor(kind=12)], "is in Q4_K; read are", id="a format that is not read"),
        pytest.param([tensor(kind=99)], "is in type 99", id="no format"),
        pytest.param([tensor(shape=(1,) * 5)], "5 axes", id="too many axes"),
        pytest.param([tensor(shape=(2**40,))], "outside of the file", id="beyond the file"),
        pytest.param([tensor(shape=(2**62, 2**62))], "outside of the file", id="astronomic"),
        pytest.param([tensor(shape=(0, 2**63))], "outside of the file", id="nothing, without end"),
        pytest.param([tensor(shape=(31,), kind=8)], "outside of the file or its blocks", id="half a block"),
        pytest.param([tensor(offset=7, shape=(8,))], "outside of the file", id="off its alignment"),
        pytest.param([tensor(), tensor("b")], "overlaps", id="two names for the same bytes"),
        pytest.param([tensor(shape=(8,)), tensor(shape=(8,), offset=32)], "occurs twice", id="a name twice"),
        pytest.param([struct.pack("<Q", 2) + b"\xff\xfe"], "damaged", id="a name that is no text"),
    ],
)
def test_hostile_tensors_are_refused(tmp_path: Path, rows: list[bytes], message: str) -> None:
    with pytest.raises(WeightsError, match=message) as caught:
        read_gguf(file_of(tmp_path / "m.gguf", *rows))
    assert len(str(caught.value)) < 500


def test_the_file_that_hangs_the_reference_is_refused_at_once(tmp_path: Path) -> None:
    """Lists of 2^32 empty lists: the public reader walks through them one by one."""
    nested = text("a") + struct.pack("<IIQ", 9, 9, 2**32) + struct.pack("<IQ", 0, 0)
    path = file_of(tmp_path / "m.gguf", pairs=(nested,), data=40)
    assert path.stat().st_size < 200
    begun = time.process_time()
    with pytest.raises(WeightsError, match="more than 1000000 texts"):
        read_gguf(path)
    assert time.process_time() - begun < 0.1


def test_a_million_texts_take_little(tmp_path: Path) -> None:
    listed = setting(9, struct.pack("<IQ", 8, 1_000_000) + b"\0" * 8_000_000)
    path = file_of(tmp_path / "m.gguf", tensor(kind=12), pairs=(listed,))
    begun = time.process_time()
    with pytest.raises(WeightsError, match="Q4_K"):
        read_gguf(path)
    assert time.process_time() - begun < 1
