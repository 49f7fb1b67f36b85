"""``safelight doctor`` on this machine, and on one that is ill."""

from __future__ import annotations

import json
import re

import pytest
import torch

import safelight
from safelight.cli.main import main
from safelight.runtime import selftest


def test_doctor_names_versions_devices_threads_and_folders(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    said = capsys.readouterr().out
    for word in (safelight.__version__, torch.__version__, "cpu: ", "thread", "assets", "hub", "all well"):
        assert word in said


def test_doctor_as_json_says_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["libraries"]["torch"] == torch.__version__
    assert found["threads"] == torch.get_num_threads()
    assert {check["name"]: check["ok"] for check in found["selftest"]} == {
        "start noise": True,
        "attention": True,
        "convolution": True,
    }


def test_an_ill_machine_is_exit_code_1(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selftest, "ATTENTION_HEAD", (9.0,) * 8)
    assert main(["doctor"]) == 1
    assert re.search("attention +WRONG on cpu", capsys.readouterr().out)
    assert main(["doctor", "--json"]) == 1


def test_libraries_that_are_not_needed_may_be_absent(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from safelight.cli import doctor

    monkeypatch.setattr(doctor, "_version", lambda name: None if name == "diffusers" else "1")
    assert main(["doctor"]) == 0
    assert "not installed (only for bench and its references)" in capsys.readouterr().out
