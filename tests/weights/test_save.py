"""A file appears whole or not at all, in the bytes that other programs read."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from safelight.errors import FileError, WeightsError
from safelight.weights.hash import sha256
from safelight.weights.load import DTYPES, read
from safelight.weights.safetensors import read_header
from safelight.weights.save import save, write


def test_the_reference_reads_what_we_write(tmp_path: Path) -> None:
    tensors = {
        "half": torch.randn(3, 5).half(),
        "brain": torch.randn(2).bfloat16(),
        "double": torch.randn(1, 1, 7, dtype=torch.float64),
        "view": torch.arange(12).reshape(3, 4).t(),
        "number": torch.tensor(3.5),
        "empty": torch.zeros(0, 4),
        "bool": torch.tensor([True, False, True]),
        "Zähler": torch.tensor([1], dtype=torch.int8),
    }
    path = tmp_path / "m.safetensors"
    save(tensors, path, {"note": "first"})
    theirs, ours = load_file(path), read(path)
    for name, tensor in tensors.items():
        assert torch.equal(theirs[name], tensor)
        assert torch.equal(ours[name], tensor)
        assert ours[name].dtype == tensor.dtype
    header = read_header(path)
    assert header.metadata == {"format": "pt", "note": "first"}
    assert all(entry.begin % DTYPES[entry.dtype].itemsize == 0 for entry in header.entries.values())


def test_eight_bit_floats_survive(tmp_path: Path) -> None:
    tensor = torch.tensor([1.0, -0.5, 448.0]).to(torch.float8_e4m3fn)
    save({"a": tensor}, tmp_path / "m.safetensors")
    assert torch.equal(read(tmp_path / "m.safetensors")["a"].float(), tensor.float())


def test_equal_tensors_give_equal_bytes_whatever_their_order(tmp_path: Path) -> None:
    a, b = torch.ones(3), torch.zeros(2, dtype=torch.uint8)
    save({"a": a, "b": b}, tmp_path / "1")
    save({"b": b, "a": a}, tmp_path / "2")
    assert sha256(tmp_path / "1") == sha256(tmp_path / "2")


def test_a_trained_parameter_is_saved_without_its_graph(tmp_path: Path) -> None:
    weight = torch.nn.Parameter(torch.ones(2))
    save({"a": weight * 2}, tmp_path / "m.safetensors")
    assert read(tmp_path / "m.safetensors")["a"].tolist() == [2, 2]


def test_a_failure_halfway_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write(path, [b"old"])

    def parts() -> Iterator[bytes]:
        yield b"new"
        raise OSError(28, "No space left on device")

    with pytest.raises(FileError, match="No space left"):
        write(path, parts())
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_an_interruption_halfway_leaves_nothing(tmp_path: Path) -> None:
    def parts() -> Iterator[bytes]:
        yield b"new"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "file", parts())
    assert os.listdir(tmp_path) == []


def test_an_unwritable_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="cannot be written"):
        save({"a": torch.ones(1)}, tmp_path / "none" / "m.safetensors")


@pytest.mark.parametrize(
    "tensors",
    [
        {"a": torch.zeros(2, dtype=torch.complex128)},
        {"a": torch.zeros(2, device="meta")},
        {"__metadata__": torch.ones(1)},
    ],
    ids=["dtype", "no data", "reserved name"],
)
def test_what_the_format_cannot_hold_is_refused(tmp_path: Path, tensors: dict[str, torch.Tensor]) -> None:
    with pytest.raises(WeightsError, match="cannot be written"):
        save(tensors, tmp_path / "m.safetensors")
    assert os.listdir(tmp_path) == []


def test_a_file_is_named_by_its_content(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"abc")
    assert sha256(tmp_path / "f") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    with pytest.raises(FileError, match="cannot be read"):
        sha256(tmp_path / "none")
