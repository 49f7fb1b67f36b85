"""The four adapters of the toy world, taught from nothing by the commands at the heads of their plans, and judged.

About an hour on two cores, and so off by default: ``pytest -m slow tests/end_to_end/test_adapter_proofs.py``.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from safelight.train.own.plan import PLANS

MADE = {
    "lora": ("--lora", "lora.safetensors"),
    "textual-inversion": ("--embedding", "textual-inversion.safetensors"),
    "controlnet": ("--control", "controlnet"),
    "ip-adapter": ("--image-adapter", "ip-adapter"),
}
"""What is taught -> the flag that judges it, and its place in the run's folder."""


def commands(what: str) -> list[list[str]]:
    """The commands at the head of a plan, word by word."""
    head = (PLANS / f"figurines-{what}.toml").read_text("utf-8").split("\n\n")[0]
    lines = [line.removeprefix("#").strip() for line in head.splitlines()]
    told = " ".join(line.removesuffix("\\") for line in lines[1:])
    return [shlex.split(part) for part in told.split("safelight ") if part]


def run(words: list[str], place: Path) -> None:
    subprocess.run([sys.executable, "-m", "safelight", *words], cwd=place, check=True)


@pytest.mark.parametrize("what", MADE)
def test_every_plan_says_how_its_pictures_are_made_and_learned(what: str) -> None:
    data, learn = commands(what)
    assert data[:2] == ["figurines", "dataset"]
    assert learn[:4] == ["train", what, "--config", f"figurines-{what}"]
    assert learn[learn.index("--data") + 1].split("/")[0] == data[2]


@pytest.mark.slow
def test_every_adapter_does_what_it_was_taught(tmp_path: Path) -> None:
    judged = []
    for what, (flag, name) in MADE.items():
        data, learn = commands(what)
        if not (tmp_path / data[2]).exists():
            run(data, tmp_path)
        run(learn, tmp_path)
        judged += [flag, f"runs/{what}/{name}"]
    run(["evaluate", "adapters", *judged, "--sheet", "-o", "claims.json"], tmp_path)
    claims = json.loads((tmp_path / "claims.json").read_text("utf-8"))
    assert {claim["holds"] for claim in claims if claim["bar"]} == {True}
    assert (tmp_path / "claims-sheet.png").is_file()
