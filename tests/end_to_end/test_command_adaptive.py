"""Adaptive steps at the command: nobody knows before how often the network is asked, and all goes on as it does."""

from __future__ import annotations

import json

import pytest
from PIL import Image

from safelight.generate.file import open_picture
from tests.end_to_end.shell import Shell, wrong
from tests.models import tiny

ADAPTIVE = ("--sampler", "DPM adaptive", "--steps", "4")


@pytest.fixture
def kept(shell: Shell) -> str:
    """A picture drawn with adaptive steps, and what was said of it."""
    said = shell.generate(*ADAPTIVE, "-o", "x.png")
    assert said.code == 0, said.err
    return said.out


def test_the_command_draws_and_says_that_it_takes_as_many_evaluations_as_it_takes(kept: str, shell: Shell) -> None:
    assert "dpm_adaptive (as many evaluations as it takes)" in kept
    assert "bit-equal" in shell.run("reproduce", "x.png", "--model", str(tiny())).out


def test_what_it_took_is_told_and_a_smaller_tolerance_takes_more(shell: Shell) -> None:
    counts = []
    for place, rtol in (("a.png", "0.2"), ("b.png", "0.01")):
        said = shell.generate(*ADAPTIVE, "--option", f"rtol={rtol}", "--option", "atol=0.001", "--json", "-o", place)
        counts.append(json.loads(said.out)["evaluations"])
    assert 3 < counts[0] < counts[1]
    assert open_picture("a.png").tobytes() != open_picture("b.png").tobytes()


def test_every_step_is_kept_though_nobody_knows_how_many_there_will_be(shell: Shell) -> None:
    count = json.loads(shell.generate(*ADAPTIVE, "--every-step", "steps", "--json", "-o", "x.png").out)["evaluations"]
    names = [name for name in shell.names() if "step-" in name]
    assert names == [f"steps/x-step-{step:04}.png" for step in range(1, count + 1)]
    assert open_picture(names[-1]).tobytes() == open_picture("x.png").tobytes()
    assert "exists" in wrong(shell.generate(*ADAPTIVE, "--every-step", "steps", "-o", "x.png"), 1)
    shell.generate(*ADAPTIVE, "--every-step", "film.gif", "-o", "y.png")
    with Image.open("film.gif") as film:
        assert 1 < getattr(film, "n_frames", 1) <= count


def test_a_tolerance_of_nothing_is_refused_before_anything_is_drawn(shell: Shell) -> None:
    for option in ("rtol=0", "atol=-1"):
        said = wrong(shell.generate(*ADAPTIVE, "--option", option))
        assert f"option {option[:4]} of dpm_adaptive must lie between" in said
    assert "is 2 or 3" in wrong(shell.generate(*ADAPTIVE, "--option", "order=1"))
