"""The page of the command names every flag of the commands that it tells of, and no other."""

from __future__ import annotations

import re

import pytest

from tests.architecture.source import ROOT

PAGE = (ROOT / "docs/reference/command.md").read_text(encoding="utf-8")
FLAGS = (ROOT / "tests/architecture/flags.txt").read_text(encoding="utf-8").splitlines()


TOLD = ["generate", "reproduce", "explain", "info", "models", "inspect", "convert", "verify", "samplers", "train"]


@pytest.mark.parametrize("command", [*TOLD, "figurines", "cameras", "views"])
def test_every_flag_stands_in_its_section(command: str) -> None:
    section = PAGE.partition(f"\n## {command}\n")[2].partition("\n## ")[0]
    told = set(re.findall(r"`(--?[a-z-]+)", section))
    known = {
        word for line in FLAGS if line.split()[0] == command for word in line.split() if re.match(r"--?[a-z]", word)
    }
    assert told == known - {"-h", "--help", "--debug"}
