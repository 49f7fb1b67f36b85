"""The trial of models that draw figurines: who draws what is asked is wholly right, who does not is found out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

import safelight.generate.pipe
from safelight.cli.main import main
from safelight.errors import RequestError
from safelight.evaluate import origin
from safelight.evaluate.evidence import read
from safelight.evaluate.figurines import curves, floors, neighbours, pictures, trial
from safelight.evaluate.figurines.prompts import held_out, states_a_held_out_pair
from safelight.figurines.captions import parse
from safelight.figurines.person import Person, visible
from safelight.figurines.render import portrait
from safelight.figurines.splits import split_of
from safelight.generate.request import Request
from safelight.train.figurines.portraits import render_all
from tests.models import tiny

PROMPTS = held_out(3)


def _quiet(what: str, done: int, total: int) -> None:
    """Nobody watches."""


def _draws(people: dict[str, Person], edge: int = 128) -> Any:
    """A model that draws, for every prompt, the person given for it."""

    def draw_many(requests: Sequence[Request]) -> list[Any]:
        return [SimpleNamespace(image=Image.fromarray(portrait(people[request.prompt]))) for request in requests]

    model = SimpleNamespace(defaults=SimpleNamespace(width=edge, height=edge))
    return SimpleNamespace(name="some/where/painter", draw_many=draw_many, model=model, folder=Path("some/where"))


def _perfect() -> Any:
    return _draws({prompt.text: prompt.person for prompt in PROMPTS})


def test_prompts_are_new_and_say_so() -> None:
    prompts = held_out(60)
    assert len({prompt.text for prompt in prompts}) == 60
    assert prompts[:3] == PROMPTS, "a longer list begins like a shorter one"
    for prompt in prompts:
        assert split_of(prompt.person) == "unseen"
        assert states_a_held_out_pair(prompt.stated)
        assert parse(prompt.text) == prompt.stated
        assert prompt.stated.items() <= visible(prompt.person).items()


def test_a_model_that_draws_what_is_asked_keeps_every_promise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(safelight.generate.pipe, "load", lambda model, device: _perfect())
    place = tmp_path / "painter.json"
    words = ["evaluate", "figurines", "-m", "some/where/painter", "--prompts", "2", "--sheet", "-o", str(place)]
    assert main(words) == 0
    claims = {entry.claim: entry for entry in read(place)}
    assert claims["painter: all stated attributes"].value == 1.0
    assert claims["painter: all stated attributes"].holds
    assert claims["painter: the weakest attribute, chance subtracted"].value == 1.0
    assert claims["painter: figures wholly right"].unit == "share of 2"
    assert {entry.command for entry in claims.values()} == {
        "safelight evaluate figurines -m painter --prompts 2 --sheet"
    }
    assert all(entry.holds is not False for entry in claims.values())
    assert Image.open(tmp_path / "painter-sheet.png").width > 2 * 128
    assert "wholly right" in capsys.readouterr().out
    assert str(tmp_path) not in json.dumps([vars(entry) for entry in claims.values()])


def _never(model: str, device: str | None) -> Any:
    pytest.fail("the model was loaded before the request was looked at")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--width", "0"], "--width is a number from 1 to 64"),
        (["--neighbours", "-1"], "--neighbours is a number from 1"),
        (["--neighbours", "0"], "--neighbours is a number from 1"),
        (["--card", "--prompts", "5"], "leave --prompts or --card out"),
        (["--card", "--steps", "3", "--seed", "1"], "leave --steps, --seed or --card out"),
        (["--sheet", "--prompts", "2"], "--sheet needs -o FILE"),
        (["-o", "no/such/folder/painter.json"], "no such folder"),
        (["-o", "."], "cannot be written"),
        (["-o", "taken.json", "--curves"], "taken-curves.png: cannot be written"),
        (["-o", "other.json"], "is not a list of claims"),
    ],
)
def test_what_would_lose_a_trial_is_said_before_it(
    words: list[str],
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(safelight.generate.pipe, "load", _never)
    (tmp_path / "taken-curves.png").mkdir()
    (tmp_path / "other.json").write_text("not claims")
    assert main(["evaluate", "figurines", *words]) in (1, 2)
    assert told in capsys.readouterr().err


def test_a_model_without_a_card_is_refused_before_the_trial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pipe = _perfect()
    pipe.folder, pipe.draw_many = tmp_path, lambda requests: pytest.fail("it draws already")
    monkeypatch.setattr(safelight.generate.pipe, "load", lambda model, device: pipe)
    assert main(["evaluate", "figurines", "-m", "some/where/painter", "--card"]) == 1
    assert "no card" in capsys.readouterr().err


def _standard(monkeypatch: pytest.MonkeyPatch, checkout: Path) -> Any:
    """A checkout, a perfect model, and a standard trial of two prompts, so that it takes no time."""
    (checkout / "evidence").mkdir(parents=True)
    pipe = _perfect()
    monkeypatch.setattr(safelight.generate.pipe, "load", lambda model, device: pipe)
    monkeypatch.setattr(origin, "checkout", lambda: checkout)
    monkeypatch.setattr(origin, "cores", lambda: 1)  # processes take longer to start than two pictures to read
    inner = trial.trial
    monkeypatch.setattr(trial, "trial", lambda pipe, count, *more: inner(pipe, 2 if count == 300 else count, *more))
    return pipe


def test_only_the_standard_trial_enters_the_checkouts_evidence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _standard(monkeypatch, tmp_path)
    place = tmp_path / "evidence/figurines.json"
    for words in (["--prompts", "2"], ["--steps", "3"], ["--seed", "1"], ["-m", "other"], ["--sampler", "heun"]):
        assert main(["evaluate", "figurines", *words]) == 0
        assert not place.exists(), words
    assert main(["evaluate", "figurines", "--sheet"]) == 0
    assert {entry.command for entry in read(place)} == {"safelight evaluate figurines --sheet"}
    assert (tmp_path / "evidence/figurines-sheet.png").is_file()


def test_scores_are_kept_though_what_comes_after_them_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _standard(monkeypatch, tmp_path)

    def fails(*words: Any) -> Any:
        raise RequestError("it fails")

    monkeypatch.setattr(curves, "curves", fails)
    assert main(["evaluate", "figurines", "--curves"]) == 2
    assert any(entry.claim == "painter: all stated attributes" for entry in read(tmp_path / "evidence/figurines.json"))


def test_a_card_holds_the_scores_of_the_trial_and_not_those_of_the_curves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = _standard(monkeypatch, tmp_path)
    pipe.folder = tmp_path
    (tmp_path / "safelight.json").write_text(json.dumps({"card": {}}))
    points = [curves.Point("steps", 3.0, trial.trial(pipe, 2, pictures.Settings(), _quiet).scores)]
    monkeypatch.setattr(curves, "curves", lambda *words: points)
    assert main(["evaluate", "figurines", "--curves", "--card"]) == 0
    scores = json.loads((tmp_path / "safelight.json").read_text())["card"]["scores"]
    assert "painter: all stated attributes" in scores
    assert not [claim for claim in scores if "with steps" in claim]
    assert any("with steps 3" in entry.claim for entry in read(tmp_path / "evidence/figurines.json"))


def test_a_model_that_draws_other_people_is_found_out() -> None:
    texts, people = [p.text for p in PROMPTS[:2]], [p.person for p in PROMPTS[:2]]
    wrong = _draws(dict(zip(texts, people[::-1], strict=True)))
    found = trial.trial(wrong, 2, pictures.Settings(), _quiet)
    assert found.scores.overall < 0.6
    verdicts = trial.verdicts("painter", found.scores, trial.BARS["cpu"])
    assert any(finding.bar and finding.value < float(finding.bar.split()[1]) for finding in verdicts)


@pytest.mark.parametrize("count", [0, 10_001])
def test_counts_out_of_range_are_refused(count: int) -> None:
    with pytest.raises(RequestError, match="prompts must number"):
        trial.trial(_perfect(), count, pictures.Settings(), _quiet)


def test_models_of_other_pictures_are_refused() -> None:
    with pytest.raises(RequestError, match="512x512"):
        trial.trial(_draws({}, 512), 3, pictures.Settings(), _quiet)


def test_pictures_are_drawn_with_seeds_that_count_upwards_in_wide_calls() -> None:
    seen: list[Request] = []
    pipe = _perfect()
    inner = pipe.draw_many
    pipe.draw_many = lambda requests: (seen.extend(requests), inner(requests))[1]
    settings = pictures.Settings(steps=7, guidance=2.0, seed=5, sampler="heun", rows=2)
    assert len(pictures.draw(pipe, [prompt.text for prompt in PROMPTS], settings, _quiet)) == 3
    assert [request.seed for request in seen] == [5, 6, 7]
    assert {(r.steps, r.guidance, r.sampler, r.rows) for r in seen} == {(7, 2.0, "heun", 2)}


def test_readings_are_held_against_everybody_else_but_never_their_own() -> None:
    described = [{"skin": "tan"}, {"skin": "blue"}, {"skin": "tan"}]
    scores = floors.crossed(described, described)
    assert scores.figures == 3 * 7, "of the ten shifts, 3, 6 and 9 meet the own description again"
    assert scores.right == {("skin", "tan"): 7}


def test_a_picture_goes_through_the_autoencoder_and_back() -> None:
    pipe = safelight.generate.pipe.load(str(tiny()), device="cpu")
    picture = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    back = floors.autoencoded(pipe, picture)
    assert back.shape == picture.shape and back.dtype == np.uint8
    np.testing.assert_array_equal(back, floors.autoencoded(pipe, picture))


def test_every_setting_of_the_curves_is_tried_and_drawn_in_the_chart(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[tuple[int | None, float | None]] = []

    def draw(pipe: Any, texts: Sequence[str], settings: pictures.Settings, tell: pictures.Tell) -> list[np.ndarray]:
        tried.append((settings.steps, settings.guidance))
        return []

    monkeypatch.setattr(curves, "draw", draw)
    monkeypatch.setattr(curves, "read_all", lambda *words: [prompt.stated for prompt in PROMPTS])
    points = curves.curves(_perfect(), PROMPTS, pictures.Settings(steps=20, guidance=3.0), _quiet)
    assert tried == [(n, 3.0) for n in curves.STEPS] + [(20, g) for g in curves.GUIDANCE]
    assert {point.scores.overall for point in points} == {1.0}
    assert len(np.unique(np.asarray(curves.chart(points)).reshape(-1, 3), axis=0)) > 5
    found = trial.of_curves("painter", points)
    assert found[0].claim == "painter: with steps 3, all stated attributes" and found[0].bar is None


def test_a_training_picture_is_its_own_neighbour_and_a_shifted_one_is_near() -> None:
    people = neighbours.trained(12)
    copy, strange = portrait(people[7]), portrait(PROMPTS[0].person)
    found = neighbours.nearest([copy, strange], people, 1, _quiet)
    assert found[0].person == people[7] and found[0].distance < 0.05
    assert 0.1 < found[1].distance < 1.0
    told = trial.of_neighbours("painter", found[:1], found[1:], 12)
    assert told[0].value < told[2].value
    assert neighbours.side_by_side([copy, strange], found).width > 4 * 128


def test_a_shared_background_is_not_likeness() -> None:
    person = neighbours.trained(1)[0]
    fields = {**vars(person), "skin": "blue" if person.skin != "blue" else "tan"}
    apart = [
        neighbours.nearest(
            [portrait(Person(**{**fields, "background": ground}))],
            [Person(**{**vars(person), "background": ground})],
            1,
            _quiet,
        )
        for ground in ("mint", "rose")
    ]
    assert apart[0][0].distance == pytest.approx(apart[1][0].distance, rel=0.1)


def test_neighbours_are_looked_for_among_the_people_that_training_renders(tmp_path: Path) -> None:
    assert list(render_all(tmp_path, 3, 16, neighbours.TRAINED_SEED, workers=1)) == [3]
    codes = [person.codes() for person in neighbours.trained(3)]
    np.testing.assert_array_equal(np.load(tmp_path / "people.npy"), codes)


def test_work_is_shared_between_processes_that_start_afresh() -> None:
    with pictures.pool(2) as executor:
        assert executor is not None
        assert list(executor.map(abs, [-2, 3])) == [2, 3]
    with pictures.pool(1) as executor:
        assert executor is None
