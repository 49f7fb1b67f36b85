"""The adapters that come along: small, known by name, and each does its work on the default model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from safelight.cli.main import main
from safelight.evaluate.figurines.adapters import Files, Trial, prove
from safelight.evaluate.figurines.pictures import Settings
from safelight.generate.pipe import load
from safelight.generate.source import ADAPTERS, adapters
from safelight.runtime.folders import folders

ALONG = {"lora": "framed", "embedding": "mira", "controlnet": "normals", "ip-adapter": "portrait"}
"""Kind -> name. What each should do is said in the plan that made it, `safelight/train/own/plans/figurines-*.toml`."""
LEAST = {
    "LoRA: pictures with a golden frame": 1.0,
    "learned word: its attributes": 0.7,
    "ControlNet: outline, intersection over union": 0.85,
    "IP-Adapter: attributes of the shown portrait": 0.5,
    "LoRA and ControlNet: with a frame": 1.0,
}
"""Of one person in few steps; the bars of many are in `evidence/adapters-trained.json`."""


def test_there_is_one_of_each_kind_and_all_are_small() -> None:
    assert {kind: list(adapters(kind)) for kind in ADAPTERS} == {kind: [name] for kind, name in ALONG.items()}
    files = [each for each in (folders().assets / "adapters").rglob("*") if each.is_file()]
    assert sum(each.stat().st_size for each in files) <= 15e6


def test_each_does_what_it_was_taught_and_nothing_at_scale_0() -> None:
    trial = Trial(load(), 1, Settings(steps=12), lambda what, done, total: None)
    names = Files(ALONG["lora"], ALONG["embedding"], ALONG["controlnet"], ALONG["ip-adapter"])
    found = {finding.claim: finding.value for finding in prove(trial, names)}
    assert {claim: value for claim, value in found.items() if "at scale 0" in claim and value != 1.0} == {}
    assert {claim: found[claim] for claim, least in LEAST.items() if found[claim] < least} == {}
    assert found["LoRA: the same prompts without it, with a frame"] == 0.0
    assert found["IP-Adapter: the same prompt without it"] < found["IP-Adapter: attributes of the shown portrait"]


@pytest.mark.parametrize("way", ["flag", "tag"])
def test_words_that_they_taught_are_known_and_others_are_named(
    way: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lora = ["--lora", "framed"] if way == "flag" else []
    prompt = "framed a portrait of <mira> with a zebra" + " <lora:framed:0.8>" * (way == "tag")
    asked = ["generate", prompt, *lora, "--embedding", "mira", "--steps", "1", "-o", str(tmp_path / "x.png")]
    assert main(asked) == 0
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "does not know" in line]
    assert "'zebra'" in line and "mira" not in line and "framed" not in line


def test_the_lora_is_explained_by_its_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["adapters", "framed", "-m", "figurines", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert not told["misses"] and told["metadata"]["modelspec.trigger_phrase"] == "framed"
