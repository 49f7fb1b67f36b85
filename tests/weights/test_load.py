"""Modules are filled strictly by name and shape, from tensors that stay in the file until they are read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from safelight.errors import ConfigError, WeightsError
from safelight.weights.load import load_into, load_part, read
from safelight.weights.save import save


def small() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))


def on_meta() -> nn.Module:
    with torch.device("meta"):
        return small()


def resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def test_every_tensor_arrives_as_it_was_saved(tmp_path: Path) -> None:
    source = small().half()
    save_file(source.state_dict(), tmp_path / "m.safetensors")
    target = on_meta()
    load_into(target, tmp_path / "m.safetensors")
    for name, tensor in source.state_dict().items():
        assert torch.equal(target.state_dict()[name], tensor)
        assert target.state_dict()[name].dtype == tensor.dtype
    assert all(p.requires_grad for p in target.parameters())


def test_a_frozen_module_stays_frozen(tmp_path: Path) -> None:
    save(small().state_dict(), tmp_path / "m.safetensors")
    target = on_meta().requires_grad_(False)
    load_into(target, tmp_path / "m.safetensors")
    assert not any(p.requires_grad for p in target.parameters())


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
def test_tensors_stay_in_the_file_until_they_are_read(tmp_path: Path) -> None:
    size = 2**26
    path = tmp_path / "m.safetensors"
    header = json.dumps({"weight": {"dtype": "F16", "shape": [size // 2, 1], "data_offsets": [0, size]}}).encode()
    header += b" " * (-len(header) % 8)
    with path.open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(8 + len(header) + size)
    with torch.device("meta"):
        layer = nn.Linear(1, size // 2, bias=False)
    before = resident()
    load_into(layer, path)
    assert layer.weight.dtype == torch.float16
    assert resident() - before < size // 8


def test_writing_to_a_loaded_tensor_never_changes_the_file(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    save({"a": torch.ones(4)}, path)
    read(path)["a"].zero_()
    assert torch.equal(read(path)["a"], torch.ones(4))


def test_a_file_with_unaligned_tensors_is_read(tmp_path: Path) -> None:
    rows = {
        "a": {"dtype": "U8", "shape": [3], "data_offsets": [0, 3]},
        "b": {"dtype": "F32", "shape": [2], "data_offsets": [3, 11]},
    }
    text = json.dumps(rows).encode()
    data = bytes([1, 2, 3]) + torch.tensor([1.5, -2.5]).numpy().tobytes()
    (tmp_path / "m.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + data)
    got = read(tmp_path / "m.safetensors")
    assert got["a"].tolist() == [1, 2, 3]
    assert got["b"].tolist() == [1.5, -2.5]


def test_what_does_not_fit_is_told_as_a_table_and_nothing_changes(tmp_path: Path) -> None:
    weights = small().state_dict()
    weights["0.weights"] = weights.pop("0.weight")
    weights["0.bias"] = torch.zeros(5)
    save(weights, tmp_path / "m.safetensors")
    target = small()
    before = {name: tensor.clone() for name, tensor in target.state_dict().items()}
    with pytest.raises(WeightsError) as caught:
        load_into(target, tmp_path / "m.safetensors")
    first, *rows = str(caught.value).splitlines()
    assert "5 of 7 tensors match, 1 missing, 1 unexpected, 1 of another shape" in first
    assert [row.split() for row in rows] == [
        ["missing", "0.weight", "4×3"],
        ["unexpected", "0.weights", "4×3"],
        ["shape", "0.bias", "is", "5,", "not", "4"],
    ]
    assert all(torch.equal(tensor, before[name]) for name, tensor in target.state_dict().items())


def test_a_long_table_is_counted_not_printed(tmp_path: Path) -> None:
    save({f"x{i}": torch.zeros(1) for i in range(100)}, tmp_path / "m.safetensors")
    with pytest.raises(WeightsError, match="and 92 more") as caught:
        load_into(small(), tmp_path / "m.safetensors")
    assert len(str(caught.value).splitlines()) < 20


def test_shards_are_joined_and_a_tensor_in_two_of_them_is_refused(tmp_path: Path) -> None:
    weights = small().state_dict()
    one, two = tmp_path / "1.safetensors", tmp_path / "2.safetensors"
    save({name: t for name, t in weights.items() if name.startswith("0")}, one)
    save({name: t for name, t in weights.items() if name.startswith("1")}, two)
    target = on_meta()
    load_into(target, [one, two])
    assert all(torch.equal(target.state_dict()[name], tensor) for name, tensor in weights.items())
    with pytest.raises(WeightsError, match="was read before"):
        load_into(on_meta(), [one, two, two])


def test_renaming_translates_and_drops(tmp_path: Path) -> None:
    save({"old.a": torch.ones(1), "junk": torch.zeros(1)}, tmp_path / "m.safetensors")
    got = read(tmp_path / "m.safetensors", rename=lambda name: None if name == "junk" else name.removeprefix("old."))
    assert list(got) == ["a"]


def test_a_part_names_its_folder_when_it_does_not_fit(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    save({"a": torch.ones(1)}, tmp_path / "model.safetensors")
    with pytest.raises(WeightsError, match="does not fit Linear") as caught:
        load_part(tmp_path, lambda raw: nn.Linear(2, 2))
    assert str(tmp_path) in str(caught.value)

    def refuse(raw: object) -> nn.Module:
        raise ConfigError("no such network")

    with pytest.raises(ConfigError, match=r"config\.json: no such network"):
        load_part(tmp_path, refuse)
