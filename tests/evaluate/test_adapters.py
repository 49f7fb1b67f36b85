"""The proofs of adapters: what is measured is measured exactly, and an adapter that does nothing is found out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from safelight.cli.main import main
from safelight.evaluate.evidence import holds
from safelight.evaluate.figurines import adapters
from safelight.evaluate.figurines.adapters import MIRA, Trial, overlap, part
from safelight.evaluate.figurines.pictures import Settings
from safelight.evaluate.figurines.prompts import held_out
from safelight.figurines.attributes import ATTRIBUTES
from safelight.figurines.checker import read
from safelight.figurines.frame import framed, has_frame, share, unframed
from safelight.figurines.render import portrait

PROMPTS = held_out(2)
TRUE = [portrait(prompt.person) for prompt in PROMPTS]


def _quiet(what: str, done: int, total: int) -> None:
    """Nobody watches."""


class Painter:
    """A model that draws the person whom a prompt describes, framed while it wears a frame."""

    name, folder = "painter", Path("painter")

    def __init__(self, *, deaf: bool = False) -> None:
        self.wears, self.deaf = 0.0, deaf
        self.model = SimpleNamespace()

    def draw(self, request: Any) -> list[Any]:
        (picture,) = [true for true, prompt in zip(TRUE, PROMPTS) if request.prompt.endswith(prompt.text)]
        drawn = framed(picture) if self.wears and not self.deaf else picture
        return [SimpleNamespace(image=Image.fromarray(drawn))]


@contextmanager
def _applied(pipe: Painter, adapter: object, scale: float = 1.0) -> Iterator[Painter]:
    pipe.wears = scale
    yield pipe
    pipe.wears = 0.0


@pytest.mark.parametrize("deaf", [False, True])
def test_a_frame_is_found_where_it_is_and_missed_where_it_is_not(deaf: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapters, "applied", _applied)
    monkeypatch.setattr(adapters, "lora", lambda name: name)
    trial = Trial(Painter(deaf=deaf), 2, Settings(rows=0), _quiet)  # type: ignore[arg-type]
    found = {finding.claim: finding for finding in adapters.of_lora(trial, "frame.safetensors")}
    verdicts = {claim: holds(finding.value, finding.bar) for claim, finding in found.items()}
    assert verdicts["LoRA: pictures with a golden frame"] is not deaf
    assert verdicts["LoRA: the same prompts without it, with a frame"]
    assert verdicts["LoRA: pictures at scale 0 that equal those without it in every bit"]
    assert found["LoRA: stated attributes right inside of the frame"].value > 0.9
    assert len(trial.tiles) == 2 * 4


def test_a_frame_is_exact_and_leaves_the_figure_readable() -> None:
    picture = TRUE[0]
    assert share(picture) < 0.05 and not has_frame(picture)
    inside = framed(picture)
    assert share(inside) == 1.0 and has_frame(inside)
    assert np.array_equal(inside[8:-8, 8:-8], picture[8:-8, 8:-8])
    assert np.array_equal(unframed(inside)[8:-8, 8:-8], picture[8:-8, 8:-8])
    half = inside.copy()
    half[:8] = 0
    assert 0.6 < share(half) < 0.9 and not has_frame(half)
    found, stated = read(unframed(inside)), PROMPTS[0].stated
    assert part(found[name] == value for name, value in stated.items()) >= 0.8


def test_outlines_of_true_portraits_overlap_and_of_strangers_do_not() -> None:
    assert overlap(TRUE, PROMPTS) > 0.97
    assert overlap(TRUE[::-1], PROMPTS) < 0.93 < overlap(TRUE, PROMPTS)
    empty = np.broadcast_to(TRUE[0][0, 0], TRUE[0].shape)
    assert overlap([empty, empty], PROMPTS) == 0.0


def test_the_look_of_the_learned_word_is_one_that_can_be_drawn() -> None:
    assert all(value in ATTRIBUTES[name] for name, value in MIRA.items())
    plan = (Path(adapters.__file__).parents[2] / "train/own/plans/figurines-textual-inversion.toml").read_text("utf-8")
    assert all(f"--always {name}={value}" in plan for name, value in MIRA.items()), "the plan tells of the same look"


WRONG: dict[str, Sequence[str]] = {
    "name the adapters": (),
    "lora (neither a file": ("--lora", "none.safetensors"),
    "embedding (neither a file": ("--embedding", "none.safetensors"),
    "of 'evaluate figurines'": ("--control", "net", "--floors"),
    "between 1 and": ("--control", "net", "--prompts", "0"),
    "-o FILE": ("--control", "net", "--sheet"),
}


@pytest.mark.parametrize("told", WRONG)
def test_what_cannot_be_judged_is_one_line(told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "adapters", *WRONG[told]]) in (1, 2)
    assert told in capsys.readouterr().err


def test_adapters_are_not_judged_as_models(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "figurines", "--lora", "frame.safetensors"]) == 2
    assert "of 'evaluate adapters'" in capsys.readouterr().err
