"""Picking the place to compute: flags first, then the environment, then what the machine has."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from safelight.errors import DeviceError, RequestError, UnknownNameError
from safelight.runtime import device as devices
from safelight.runtime.device import pick
from safelight.runtime.folders import folders


@pytest.fixture
def no_accelerator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "_count", lambda kind: int(kind == "cpu"))


@pytest.mark.usefixtures("no_accelerator")
def test_a_machine_without_accelerator_computes_in_float32_on_its_cpu() -> None:
    place = pick(environment={})
    assert (place.device, place.dtype, place.threads) == (torch.device("cpu"), torch.float32, torch.get_num_threads())


def test_a_flag_beats_the_environment_which_beats_the_machine() -> None:
    said = {"SAFELIGHT_DEVICE": "cpu", "SAFELIGHT_DTYPE": "bf16", "SAFELIGHT_THREADS": "2"}
    assert pick(environment=said).dtype == torch.bfloat16
    assert torch.get_num_threads() == 2
    place = pick("CPU", "float16", 1, environment=said)
    assert (place.dtype, place.threads, torch.get_num_threads()) == (torch.float16, 1, 1)


def test_auto_means_no_choice() -> None:
    assert pick("auto", "auto", environment={"SAFELIGHT_DEVICE": "auto"}).device == devices.devices()[0]


def test_an_accelerator_is_preferred_and_computes_in_a_half_format(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "_count", lambda kind: {"cuda": 2, "cpu": 1}.get(kind, 0))
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: True)
    assert (pick(environment={}).device, pick(environment={}).dtype) == (torch.device("cuda", 0), torch.bfloat16)
    assert pick("cuda:1", environment={}).device == torch.device("cuda", 1)
    with pytest.raises(DeviceError, match="has no device 'cuda:2'"):
        pick("cuda:2", environment={})


@pytest.mark.usefixtures("no_accelerator")
@pytest.mark.parametrize("name", ["cuda", "cuda:0", "mps", "xpu", "cpu:1"])
def test_a_device_that_is_not_there_is_named_with_those_that_are(name: str) -> None:
    with pytest.raises(DeviceError, match=rf"'{name}'.*it has: cpu"):
        pick(name, environment={})


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "meta", "cpu:-1"])
def test_an_unknown_device_lists_the_known(name: str) -> None:
    with pytest.raises(UnknownNameError, match="unknown device"):
        pick(name, environment={})


def test_an_unknown_dtype_lists_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match=r"'float31'; the nearest known: .*float32"):
        pick("cpu", "float31", environment={})


@pytest.mark.parametrize("count", [0, -1, 1025])
def test_threads_below_one_or_beyond_any_machine_are_refused(count: int) -> None:
    with pytest.raises(RequestError, match="from 1 to 1024"):
        pick("cpu", threads=count, environment={})


def test_threads_of_the_environment_must_be_a_number() -> None:
    with pytest.raises(RequestError, match="SAFELIGHT_THREADS is 'many'"):
        pick("cpu", environment={"SAFELIGHT_THREADS": "many"})


def test_folders_follow_the_environment_and_are_not_made(tmp_path: Path) -> None:
    where = folders({"XDG_CACHE_HOME": str(tmp_path)})
    assert (where.cache, where.hub) == (tmp_path / "safelight", tmp_path / "huggingface/hub")
    assert folders({"HF_HOME": str(tmp_path / "hf")}).hub == tmp_path / "hf/hub"
    assert folders({"HF_HUB_CACHE": str(tmp_path / "h")}).hub == tmp_path / "h"
    assert folders({"SAFELIGHT_CACHE": str(tmp_path / "s")}).cache == tmp_path / "s"
    assert not list(tmp_path.iterdir())
    assert where.assets == where.package / "assets"


def test_a_user_without_a_home_has_folders_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", staticmethod(nobody))
    assert folders({}).assets == folders({}).package / "assets"


@pytest.mark.gpu
def test_the_accelerator_found_computes() -> None:
    place = pick(environment={})
    assert place.device.type != "cpu"
    assert float(torch.ones(3, device=place.device, dtype=place.dtype).sum()) == 3
