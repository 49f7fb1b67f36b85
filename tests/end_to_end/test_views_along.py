"""The model of views that comes along: small, known by name, and it turns people whom it never saw."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from safelight.cli.views import DEFAULT
from safelight.evaluate.views import baselines, trial
from safelight.evaluate.views.drawn import Settings, drawn
from safelight.evaluate.views.truth import cameras
from safelight.figurines.person import random_people
from safelight.figurines.render import portrait
from safelight.generate.source import viewers
from safelight.multiview.export.table import load as load_bundle
from safelight.multiview.model import load
from safelight.runtime.device import pick
from tests.end_to_end.shell import Shell

ALONG = ["figurines-views", "figurines-views-normals"]
PEOPLE = 3


@pytest.fixture(scope="module")
def held() -> trial.Exam:
    return trial.exam(PEOPLE, cameras(), lambda *_: None, asked=False)


@pytest.mark.parametrize("name", ALONG)
def test_they_are_small_and_draw_more_than_a_copy_or_the_mean(name: str, held: trial.Exam) -> None:
    """Of three people in few steps; figures of more are in ``evidence/views.json``."""
    place = viewers()[name]
    assert sum(each.stat().st_size for each in place.rglob("*") if each.is_file()) <= 15e6
    views = drawn(load(place, pick("cpu")), held.truths, Settings(steps=6), lambda *_: None)
    ours = trial.measure(views, held, 1, lambda *_: None)
    copied = trial.measure(baselines.copied(held.truths), held, 1, lambda *_: None)
    assert ours.overlap > 0.85 and ours.inside > copied.inside + 3
    assert ours.ratio < copied.ratio and ours.nearest == 1.0


def test_all_that_come_along_are_listed() -> None:
    assert list(viewers()) == ALONG and DEFAULT in ALONG


def test_the_command_turns_a_portrait_without_naming_a_model(shell: Shell) -> None:
    (person,) = random_people(np.random.default_rng(3), 1, "test")
    Image.fromarray(portrait(person, 128)).save(shell.folder / "portrait.png")
    said = shell.run("views", "portrait.png", "-n", "3", "--steps", "2", "-o", "turned")
    assert said.code == 0, said.err
    assert len(load_bundle(shell.folder / "turned").files) == 3
