"""The checker reads true portraits without a fault and finds nothing where there is nothing to find."""

from __future__ import annotations

from dataclasses import asdict
from functools import cache

import numpy as np
import pytest

from safelight.errors import ImageError
from safelight.figurines.attributes import ATTRIBUTES
from safelight.figurines.checker import check, read, telling
from safelight.figurines.layers import OPPONENT, PARTS, Canvas, Grid, Window, compose, layer
from safelight.figurines.person import Person, random_people, visible
from safelight.figurines.render import portrait, render, view_camera
from safelight.figurines.scores import Scores, chance


@cache
def people() -> list[Person]:
    return [*random_people(np.random.default_rng(21), 6), *random_people(np.random.default_rng(22), 6, "unseen")]


@cache
def readings() -> list[dict[str, str]]:
    return [read(portrait(person)) for person in people()]


def scored(found: list[dict[str, str]], stated: list[dict[str, str]]) -> Scores:
    pairs = zip(found, stated, strict=True)
    return Scores.of((words, {name: seen[name] == words[name] for name in words}) for seen, words in pairs)


def blurred(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Softer by a binomial kernel (standard deviation 0.7 pixels) and a little noisy, like a small autoencoder's."""
    soft = np.pad(picture.astype(float), ((1, 1), (1, 1), (0, 0)), mode="edge")
    soft = 0.25 * soft[:-2] + 0.5 * soft[1:-1] + 0.25 * soft[2:]
    soft = 0.25 * soft[:, :-2] + 0.5 * soft[:, 1:-1] + 0.25 * soft[:, 2:]
    return np.clip(soft + rng.normal(0, 6, soft.shape), 0, 255).astype(np.uint8)


def test_portraits_put_together_from_layers_are_the_rendered_ones() -> None:
    for person in people():
        picture = compose(asdict(person), Grid(128, 2)) @ np.linalg.inv(OPPONENT.T.astype(float))
        assert np.abs(picture * 255 - portrait(person)).max() < 0.51


def test_a_window_of_a_portrait_is_cut_from_the_whole() -> None:
    values, grid, window = asdict(people()[0]), Grid(64, 2), Window(10, 41, 7, 50)
    np.testing.assert_array_equal(compose(values, grid, window), compose(values, grid)[window.slices])


def test_a_part_laid_over_and_over_changes_nothing() -> None:
    values, grid = {**asdict(people()[0]), "hat": "crown"}, Grid(64, 2)
    canvas = Canvas.empty("mint", grid, Window(0, 64, 0, 64))
    for label in (*PARTS, *reversed(PARTS)):
        one = layer(label, values, grid)
        if one is not None:
            canvas.add(one)
    np.testing.assert_array_equal(canvas.picture(), compose({**values, "background": "mint"}, grid))


def test_true_portraits_are_wholly_right() -> None:
    scores = scored(readings(), [visible(person) for person in people()])
    assert scores.overall == 1.0
    assert scores.wholly_right == 1.0


def test_soft_and_noisy_portraits_are_read_nearly_as_well() -> None:
    rng = np.random.default_rng(5)
    found = [read(blurred(portrait(person), rng)) for person in people()[3:9]]
    assert scored(found, [visible(person) for person in people()[3:9]]).overall >= 0.99


def test_one_wrong_attribute_is_found_and_the_others_stay_right() -> None:
    person = Person.from_mapping({**{name: choices[1] for name, choices in ATTRIBUTES.items()}, "glasses": "none"})
    for name in visible(person):
        for other in set(ATTRIBUTES[name]) - {getattr(person, name)}:
            stated = {**visible(person), name: other}
            answers = {n: found == stated[n] for n, found in read_once(person).items() if n in stated}
            assert [n for n, right in answers.items() if not right] == [name]


@cache
def read_once(person: Person) -> dict[str, str]:
    return read(portrait(person))


@pytest.mark.parametrize(("azimuth", "hidden"), [(70.0, set()), (160.0, {"eyes", "mouth", "nose", "mark_side"})])
def test_a_small_view_from_elsewhere_is_read_for_what_it_shows(azimuth: float, hidden: set[str]) -> None:
    for person in people()[:2]:
        shown = telling(asdict(person), azimuth, 15.0)
        assert not hidden & set(shown)
        assert {"clothes_color", "background"} <= set(shown)
        picture = render(person, view_camera(azimuth, 15.0, 64), buffers=("rgb",)).rgb
        assert picture is not None
        found = read(picture, azimuth, 15.0)
        assert {name: found[name] for name in shown} == shown


def test_only_what_is_stated_is_answered() -> None:
    person = people()[0]
    assert check(portrait(person), {"skin": person.skin}) == {"skin": True}
    assert check(portrait(person), {}) == {}


def test_a_mirrored_portrait_has_the_mark_on_the_wrong_side() -> None:
    person = people()[1]
    assert not check(np.ascontiguousarray(portrait(person)[:, ::-1]), visible(person))["mark_side"]


def test_pictures_that_are_not_about_the_words_score_chance() -> None:
    rng = np.random.default_rng(8)
    described = [visible(person) for person in random_people(rng, 4000)]
    noise = [read(rng.integers(0, 256, (128, 128, 3), dtype=np.uint8)) for _ in range(6)]
    mean = read(np.mean([portrait(person) for person in people()], axis=0).astype(np.uint8))
    floors = {"noise": noise, "mean": [mean], "another": readings()}
    for name, found in floors.items():
        scores = scored([found[i % len(found)] for i in range(len(described))], described)
        far = {a: scores.balanced(a) - chance(a) for a in ATTRIBUTES if abs(scores.balanced(a) - chance(a)) > 0.05}
        assert (name, far, scores.wholly) == (name, {}, 0)


def test_shuffled_prompts_leave_no_figure_wholly_right() -> None:
    described = [visible(person) for person in people()]
    assert scored(readings(), [*described[1:], described[0]]).wholly == 0


def test_the_same_picture_is_read_the_same_way() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (128, 128, 3), dtype=np.uint8)
    assert read(picture) == read(picture.copy())


@pytest.mark.parametrize(
    "picture",
    [np.zeros((128, 128, 3)), *(np.zeros(size, np.uint8) for size in ((100, 100, 3), (128, 128), (0, 0, 3)))],
)
def test_what_is_no_portrait_is_refused(picture: np.ndarray) -> None:
    with pytest.raises(ImageError):
        read(picture)


def test_scores_subtract_chance() -> None:
    stated = [{"mark_side": "left"}] * 3 + [{"mark_side": "right"}]
    scores = Scores.of((words, {"mark_side": i < 3}) for i, words in enumerate(stated))
    assert scores.share("mark_side") == 0.75
    assert scores.balanced("mark_side") == 0.5
    assert scores.above_chance("mark_side") == 0.5
    assert (scores.overall, scores.wholly_right, scores.figures) == (0.75, 0.75, 4)
    assert "mark_side" in scores.table()
