"""A model is compared with the reference block by block, and the first module that differs is named."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from safelight.errors import RequestError
from safelight.evaluate import verify as subject
from safelight.evaluate.verify import difference, verify
from safelight.families.sd.model import UNet
from safelight.weights.folder import read_index
from tests.end_to_end.shell import Shell, wrong
from tests.models import tiny


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shell:
    monkeypatch.chdir(tmp_path)
    return Shell(tmp_path, capsys)


@pytest.mark.parametrize("kind", ["sd1", "sd2", "sdxl"])
def test_a_sound_model_agrees_in_every_module(kind: str) -> None:
    verdicts = list(verify(read_index(tiny(kind)), torch.float64))
    encoders = ["text_encoder", "text_encoder_2"] if kind == "sdxl" else ["text_encoder"]
    assert [verdict.part for verdict in verdicts] == [*encoders, "vae", "unet"]
    for verdict in verdicts:
        assert verdict.first is None and verdict.worst <= 1e-9, (verdict.part, verdict.first)
        assert len(verdict.heard) > 20, "hardly anything was compared"


def flipped(unet: UNet) -> str:
    unet.down_blocks[0].downsamplers[0].conv.weight.data *= -1  # type: ignore[index, union-attr]
    return "down_blocks.0.downsamplers.0.conv"


def another_eps(unet: UNet) -> str:
    unet.mid_block.resnets[1].norm2.eps = 1e-2  # type: ignore[union-attr]
    return "mid_block.resnets.1.norm2"


def dropped_bias(unet: UNet) -> str:
    unet.up_blocks[1].attentions[0].proj_out.bias.data[3] += 1e-6  # type: ignore[index, union-attr]
    return "up_blocks.1.attentions.0.proj_out"


@pytest.mark.parametrize("mutate", [flipped, another_eps, dropped_bias])
def test_the_first_module_that_differs_is_named(mutate: Callable[[UNet], str], monkeypatch: pytest.MonkeyPatch) -> None:
    named: list[str] = []
    ours = subject.read_parts

    def wrong_parts(index: object) -> object:
        parts = ours(index)  # type: ignore[arg-type]
        named.append(mutate(parts.unet))
        return parts

    monkeypatch.setattr(subject, "read_parts", wrong_parts)
    *others, unet = verify(read_index(tiny()), torch.float64)
    assert all(verdict.first is None for verdict in others)
    assert unet.first is not None and unet.first.module == named[0]


def test_the_command_says_it_and_returns_it(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    said = shell.run("verify", str(tiny()), "--dtype", "float64", "--against", "diffusers", "--json")
    told = json.loads(said.out)
    assert said.code == 0 and told["unet"]["first"] is None and told["unet"]["bar"] == 1e-9
    assert "agrees" in shell.run("verify", str(tiny())).out
    monkeypatch.setattr(subject, "BARS", {torch.float32: -1.0})
    said = shell.run("verify", str(tiny()))
    assert said.code == 1 and "DIFFERS first at" in said.out
    assert "nearest known: float32" in wrong(shell.run("verify", str(tiny()), "--dtype", "float33"))
    assert "unknown model" in wrong(shell.run("verify", "none"))


def test_a_single_file_is_verified_through_the_folder_it_becomes(shell: Shell) -> None:
    assert shell.run("convert", str(tiny("sdxl")), "m.safetensors").code == 0
    said = shell.run("verify", "m.safetensors", "--tokenizer", str(tiny("sdxl")))
    assert said.code == 0 and said.out.count("agrees") == 4
    assert shell.names() == ["m.safetensors"]


def test_without_the_reference_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(RequestError, match=r"safelight\[reference\]"):
        next(verify(read_index(tiny()), torch.float32))


def test_no_number_is_no_agreement() -> None:
    assert difference(torch.tensor([float("nan")]), torch.ones(1)) == float("inf")
    assert difference(torch.ones(2), torch.ones(1)) == float("inf")
    assert difference(torch.ones(1), torch.ones(1)) == 0
