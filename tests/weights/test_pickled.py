"""What torch.save wrote is read without being run: tensors come out, programs do not."""

from __future__ import annotations

import io
import os
import pickle
import time
import tracemalloc
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from safelight.errors import WeightsError
from safelight.weights.container import read_any
from safelight.weights.load import read
from safelight.weights.opcodes import MAX_STEPS
from safelight.weights.pickled import read_pickled


def tensors() -> dict[str, torch.Tensor]:
    x = torch.randn(6, 8, generator=torch.Generator().manual_seed(0))
    return OrderedDict(
        plain=x,
        half=x.half(),
        bf16=x.bfloat16(),
        turned=x.T,
        cut=nn.Parameter(x[2:4, ::2]),
        numbers=torch.arange(3),
        empty=torch.zeros(0, 3),
        single=torch.tensor(5.0),
        flag=torch.tensor([True, False]),
    )


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_every_tensor_of_torch_comes_out(tmp_path: Path, protocol: int) -> None:
    torch.save(tensors(), tmp_path / "m.pt", pickle_protocol=protocol)
    found = read(tmp_path / "m.pt", pickles=True)
    assert list(found) == list(tensors())
    for name, tensor in tensors().items():
        assert found[name].dtype == tensor.dtype and torch.equal(found[name], tensor), name


def test_a_training_checkpoint_gives_its_weights_and_its_numbers(tmp_path: Path) -> None:
    whole = {"state_dict": tensors(), "global_step": 875000, "loss": np.float32(3.0), "epoch": 2, "lists": [1, 2]}
    torch.save(whole, tmp_path / "m.ckpt")
    header = read_any(tmp_path / "m.ckpt", pickles=True)
    assert header.container == "pickle" and list(header.entries) == list(tensors())
    assert header.metadata == {"global_step": "875000", "epoch": "2"}


def test_tables_in_tables_are_joined_by_dots(tmp_path: Path) -> None:
    torch.save({"string_to_param": {"*": torch.ones(2, 3)}, "name": "style"}, tmp_path / "m.pt")
    header = read_any(tmp_path / "m.pt", pickles=True)
    assert list(header.entries) == ["string_to_param.*"] and header.metadata == {"name": "style"}


def test_nothing_is_read_without_permission(tmp_path: Path) -> None:
    torch.save(tensors(), tmp_path / "m.safetensors")
    torch.save(tensors(), tmp_path / "m.ckpt", _use_new_zipfile_serialization=False)
    for name in ("m.safetensors", "m.ckpt"):
        with pytest.raises(WeightsError, match="this is a pickle"):
            read(tmp_path / name)


class Program:
    """Runs a command when unpickled."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("function", [os.system, eval, exec, print, __import__, os.remove])
def test_a_program_is_named_and_never_run(tmp_path: Path, function: Any) -> None:
    witness = tmp_path / "witness"
    torch.save({"a": torch.ones(1), "b": Program(function, f"touch {witness}")}, tmp_path / "m.ckpt")
    with pytest.raises(WeightsError, match=rf"asks for \w+\.{function.__name__}.*do not trust it"):
        read(tmp_path / "m.ckpt", pickles=True)
    assert not witness.exists()


def test_what_a_training_library_left_is_not_made(tmp_path: Path) -> None:
    """torch.load would import the library and, in its safe mode, refuse the file."""
    program = b"\x80\x02}X\x01\x00\x00\x00acpytorch_lightning.callbacks\nModelCheckpoint\n)\x81}bs."
    text = io.BytesIO()
    torch.save({"w": torch.ones(2)}, text)
    with zipfile.ZipFile(text) as whole:
        (name,) = [n for n in whole.namelist() if n.endswith("data.pkl")]
        old = whole.read(name)
    both = b"\x80\x02}(X\x01\x00\x00\x00c" + program[2:-1] + b"X\x01\x00\x00\x00t" + old[2:-1] + b"u."
    rewritten(text, tmp_path / "m.ckpt", {name: both})
    assert list(read(tmp_path / "m.ckpt", pickles=True)) == ["t.w"]


def rewritten(source: io.BytesIO, path: Path, members: dict[str, bytes], **how: Any) -> Path:
    """The zip file with some members replaced or added."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(path, "w", **how) as new:
        for name in old.namelist():
            new.writestr(name, members.get(name, old.read(name)))
        for name in members.keys() - set(old.namelist()):
            new.writestr(name, members[name])
    return path


def saved(value: Any = None) -> io.BytesIO:
    text = io.BytesIO()
    torch.save({"a": torch.ones(4)} if value is None else value, text)
    return text


def pickled(path: Path, program: bytes) -> Path:
    return rewritten(saved(), path, {"archive/data.pkl": program})


def test_compressed_members_are_bombs(tmp_path: Path) -> None:
    path = rewritten(saved(), tmp_path / "m.pt", {}, compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(WeightsError, match="compressed or encrypted"):
        read_pickled(path)


@pytest.mark.parametrize("name", ["../evil", "/etc/passwd", "archive/../../evil", "a\\b"])
def test_members_that_lead_elsewhere_are_refused(tmp_path: Path, name: str) -> None:
    path = rewritten(saved(), tmp_path / "m.pt", {name: b"x"})
    with pytest.raises(WeightsError, match="leads elsewhere"):
        read_pickled(path)


def test_a_member_twice_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "m.pt", "w") as file:
        file.writestr("a/data.pkl", b"x")
        with pytest.warns(UserWarning, match="Duplicate"):
            file.writestr("a/data.pkl", b"y")
    with pytest.raises(WeightsError, match="occurs twice"):
        read_pickled(tmp_path / "m.pt")


def test_a_list_that_points_at_the_same_bytes_is_refused(tmp_path: Path) -> None:
    text = saved({"a": torch.ones(4), "b": torch.zeros(4)}).getvalue()
    end = text.rindex(b"PK\x05\x06")
    rows = text.index(b"PK\x01\x02")
    listed = bytearray(text[rows:end])
    places = [place for place in range(len(listed)) if listed[place : place + 4] == b"PK\x01\x02"]
    names = [listed[p + 46 :].split(b"PK")[0] for p in places]
    first, second = (p for p, name in zip(places, names) if b"/data/" in name)
    listed[second + 42 : second + 46] = listed[first + 42 : first + 46]
    (tmp_path / "m.pt").write_bytes(text[:rows] + bytes(listed) + text[end:])
    with pytest.raises(WeightsError, match="overlaps"):
        read_pickled(tmp_path / "m.pt")


@pytest.mark.parametrize("cut", [10, 100, 300, -30, -5, -1])
def test_a_cut_file_is_refused(tmp_path: Path, cut: int) -> None:
    (tmp_path / "m.pt").write_bytes(saved().getvalue()[:cut])
    with pytest.raises(WeightsError):
        read_pickled(tmp_path / "m.pt")


def test_the_oldest_format_is_refused_with_advice(tmp_path: Path) -> None:
    torch.save(tensors(), tmp_path / "m.ckpt", _use_new_zipfile_serialization=False)
    with pytest.raises(WeightsError, match="saved again with a newer torch"):
        read_any(tmp_path / "m.ckpt", pickles=True)


def test_a_zip_file_of_something_else_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "m.pt", "w") as file:
        file.writestr("hello.txt", "hello")
    with pytest.raises(WeightsError, match="not one that torch wrote"):
        read_pickled(tmp_path / "m.pt")


def tensor(storage: str = "ctorch\nFloatStorage\n", place: str = "(K\x00(K\x04t(K\x01tt", key: str = "0") -> bytes:
    """The program of one tensor, its place and shape given as instructions."""
    inner = f"(X\x07\x00\x00\x00storage{storage}X\x01\x00\x00\x00{key}X\x03\x00\x00\x00cpuK\x04tQ"
    arguments = f"({inner}{place[1:-1]}\x89)t"
    return b"\x80\x02}X\x01\x00\x00\x00actorch._utils\n_rebuild_tensor_v2\n" + arguments.encode("latin1") + b"Rs."


def test_the_program_of_one_tensor_is_understood(tmp_path: Path) -> None:
    found = read(pickled(tmp_path / "m.pt", tensor()), pickles=True)
    assert torch.equal(found["a"], torch.ones(4))


@pytest.mark.parametrize(
    ("program", "message"),
    [
        pytest.param(tensor(place="(K\x01(K\x04t(K\x01tt"), "outside of its numbers", id="beyond its numbers"),
        pytest.param(tensor(place="(K\x00(J\xff\xff\xff\xfft(K\x01tt"), "impossible", id="a negative shape"),
        pytest.param(
            tensor(place="(K\x00(K\x00" + "J\x00\x00\x00\x7f" * 3 + "t(" + "K\x01" * 4 + "tt"),
            "impossible",
            id="endless",
        ),
        pytest.param(tensor(place="(K\x00(K\x02K\x02t(K\x01tt"), "impossible", id="shape and strides differ"),
        pytest.param(
            tensor(place="(K\x00(M\xe8\x03M\xe8\x03t(K\x00K\x00tt"), "repeats", id="a million times one number"
        ),
        pytest.param(tensor(storage="ctorch\nWeirdStorage\n"), "not known", id="an unknown format"),
        pytest.param(tensor(key="9"), "damaged", id="numbers that are not there"),
        pytest.param(b"\x80\x02}.", "no tensors", id="nothing"),
        pytest.param(b"\x80\x02" + b"}" * 100, "damaged", id="no end"),
        pytest.param(b".", "damaged", id="nothing on the stack"),
        pytest.param(b"t.", "damaged", id="no mark"),
        pytest.param(b"\x80\x02i os\nsystem\n.", "instruction 0x69", id="an instruction that makes objects"),
        pytest.param(b"cbuiltins\neval\n.", r"asks for builtins\.eval", id="a program"),
        pytest.param(b"X\xff\xff\xff\xff.", "damaged", id="an endless text"),
        pytest.param(b"\x80\x02}X\x01\x00\x00\x00aK\x01sX\x01\x00\x00\x00aK\x02s.", "occurs twice", id="a name twice"),
        pytest.param(b"N" * (MAX_STEPS + 1), "instructions", id="too many instructions"),
    ],
)
def test_a_hostile_program_is_refused(tmp_path: Path, program: bytes, message: str) -> None:
    with pytest.raises(WeightsError, match=message):
        read_pickled(pickled(tmp_path / "m.pt", program))


def test_tables_that_repeat_each_other_are_bounded(tmp_path: Path) -> None:
    """Ten levels of ten references to the level below are 10^10 names in 500 bytes."""
    level: Any = {str(i): i for i in range(10)}
    for _ in range(10):
        level = {str(i): level for i in range(10)}
    program = pickle.dumps(level, protocol=2)
    tracemalloc.start()
    begun = time.process_time()
    with pytest.raises(WeightsError, match="more than"):
        read_pickled(pickled(tmp_path / "m.pt", program))
    assert tracemalloc.get_traced_memory()[1] < 100e6 and time.process_time() - begun < 3  # tracing takes its time
    tracemalloc.stop()


def test_a_name_repeated_without_end_is_bounded(tmp_path: Path) -> None:
    long = "x" * 1000
    level: Any = {long: 1}
    for _ in range(6):
        level = {long: level}
    with pytest.raises(WeightsError, match="longer than"):
        read_pickled(pickled(tmp_path / "m.pt", pickle.dumps(level, protocol=2)))
