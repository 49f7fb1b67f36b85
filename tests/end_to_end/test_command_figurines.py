"""``safelight figurines``: sheets and data sets of exact pictures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from safelight.generate.file import open_picture
from tests.end_to_end.shell import Shell, wrong


def test_a_sheet_is_a_page_of_people_that_its_flags_change(shell: Shell) -> None:
    flags = {"plain": [], "--seed": ["1"], "--split": ["unseen"], "--size": ["48"], "--columns": ["1"], "-n": ["3"]}
    pages = set()
    for flag, value in flags.items():
        words = ["-n", "2", "--size", "32", *([flag, *value] if value else []), "-o", f"x{flag}.png"]
        assert shell.run("figurines", "sheet", *words).out == f"x{flag}.png\n"
        pages.add(open_picture(f"x{flag}.png").tobytes())
    assert len(pages) == len(flags)


def test_a_sheet_replaces_another_only_by_force(shell: Shell) -> None:
    words = ["figurines", "sheet", "-n", "1", "--size", "32", "-o", "x.png"]
    assert shell.run(*words).code == 0
    assert "--force replaces it" in wrong(shell.run(*words), 1)
    assert shell.run(*words, "--force").code == 0


def test_a_data_set_holds_what_is_asked_for(shell: Shell) -> None:
    said = shell.run(
        *("figurines", "dataset", "set", "-n", "2", "--size", "32", "--seed", "3", "--split", "test"),
        *("--view", "0,6", "--view=-30,10", "--without", "depth", "--without", "masks"),
    )
    assert (said.code, said.out) == (0, "set\n")
    assert {path.name for path in Path("set").iterdir() if path.is_dir()} == {"images", "normals"}
    lines = [json.loads(line) for line in Path("set/images/metadata.jsonl").read_text("utf-8").splitlines()]
    assert [(line["file_name"], line["azimuth"]) for line in lines[:2]] == [
        ("000000_00.png", 0),
        ("000000_01.png", -30),
    ]
    assert len(lines) == 4
    assert "is not empty" in wrong(shell.run("figurines", "dataset", "set", "-n", "1"), 1)


WRONG = {
    "sheet -n 0": (2, "1 to 1000"),
    "sheet --columns 0": (2, "1 to 1000"),
    "sheet --size 4": (2, "between 16 and 2048"),
    "sheet --seed -3": (2, "seed of 0 or more"),
    "sheet --split trian": (2, "the nearest known: train"),
    "sheet -o none/x.png": (1, "cannot be written to"),
    "dataset set -n 0": (2, "count of 1 or more"),
    "dataset set --thorough --caption x": (2, "one of the two"),
    "dataset set --view 30": (2, "azimuth,elevation"),
    "dataset set --view 30,100": (2, "azimuth,elevation"),
    "dataset set --without dept": (2, "the nearest known: depth"),
    "dataset set --size 5000": (2, "between 16 and 2048"),
    "dataset /proc/self/set": (1, "cannot write"),
    "dataset": (2, "DIR"),
    "sheets": (2, "invalid choice"),
}


@pytest.mark.parametrize("words", WRONG)
def test_what_cannot_be_is_one_line_and_leaves_nothing(words: str, shell: Shell) -> None:
    code, told = WRONG[words]
    assert told in wrong(shell.run("figurines", *words.split()), code)
    assert shell.names() == []
