"""The README's two set-up lines: two, no more, and continuous integration runs the second to the letter."""

from __future__ import annotations

import os
import re
import tomllib

import pytest

from tests.architecture.source import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")


def _lines() -> list[str]:
    part = README.partition("## Set up\n")[2].partition("\n## ")[0]
    return [line for block in re.findall(r"```sh\n(.*?)```", part, re.DOTALL) for line in block.splitlines()]


def test_there_are_exactly_two_set_up_lines() -> None:
    draw, test = _lines()
    assert "safelight generate " in draw
    assert test.endswith("&& ./check")


def test_continuous_integration_runs_the_test_line_to_the_letter() -> None:
    script = (ROOT / ".ci/run").read_text(encoding="utf-8").splitlines()
    commands = [line for line in script if line and not line.startswith(("#", "set ", "cd "))]
    assert commands == _lines()[1:]


def test_the_lines_touch_only_the_environment_they_make() -> None:
    for line in _lines():
        for command in line.split(" && "):
            assert "pip" not in command or "--python .venv" in command or "--without-pip .venv" in command, command
            assert "sudo" not in command and "--break-system-packages" not in command


@pytest.mark.parametrize("script", ["check", ".ci/run"])
def test_scripts_can_be_run(script: str) -> None:
    assert os.access(ROOT / script, os.X_OK)


def test_every_library_that_is_asked_for_is_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    asked = [*project["dependencies"], *(name for extra in project["optional-dependencies"].values() for name in extra)]
    constraints = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    pins = {line.split("==")[0].lower().replace("_", "-") for line in constraints.splitlines() if "==" in line}
    names = {re.split(r"[\[<>=]", name)[0].lower().replace("_", "-") for name in asked} - {"safelight"}
    assert names | {"k-diffusion"} <= pins
    assert "torch==2.13.0\n" in constraints
