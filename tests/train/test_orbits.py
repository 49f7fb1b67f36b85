"""Training views: a function of their order, kept when a run stops, refused when they are another's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from safelight.errors import CheckpointError, FileError, RequestError
from safelight.figurines.person import Person
from safelight.figurines.render import portrait, render, view_camera
from safelight.figurines.splits import split_of
from safelight.train.figurines import orbits, portraits
from safelight.train.figurines.orbits import ELEVATIONS, Order, load, render_all

ORDER = Order(people=3, views=3, size=24, seed=5)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("orbits") / "run"
    assert list(render_all(place, ORDER, 1)) == [3]
    return place


def test_every_view_is_the_render_from_its_place(folder: Path) -> None:
    found = load(folder)
    assert found.views.shape == (3, 3, 24, 24, 3)
    assert not found.views.flags.writeable
    for i, row in enumerate(found.codes):
        person = Person.from_codes(row)
        assert split_of(person) == "train"
        assert np.array_equal(found.views[i, 0], portrait(person, 24))
        azimuth, elevation = found.places[i, 2].tolist()
        drawn = render(person, view_camera(azimuth, elevation, 24))
        assert np.array_equal(found.views[i, 2], drawn.rgb)
        assert np.array_equal(found.mattes[i, 2], np.rint(drawn.mask * 255))


def test_normals_are_coarse_unit_and_in_the_cameras_axes(folder: Path) -> None:
    found = load(folder)
    vectors = found.normals.astype(float) / 127.5 - 1
    length = np.linalg.norm(vectors, axis=-1)
    there = length > 0.5
    assert np.abs(length[there] - 1).max() < 0.02
    assert (found.normals[~there] == 128).all()
    assert (vectors[there][:, 2] > -0.02).all(), "towards the viewer"
    top = there[0, 0].any(1).argmax()
    assert vectors[0, 0, top][there[0, 0, top]][:, 1].mean() > 0.3, "y is up"
    person = Person.from_codes(found.codes[0])
    other = replace(person, hair="bald", hat="none", glasses="none")
    assert np.array_equal(orbits.render_some(other.codes()[None], found.places[:1], 24)[2], found.normals[:1])


def test_cameras_stand_all_around_and_more_views_leave_the_earlier_ones() -> None:
    many = Order(people=300, views=4)
    places = many.places()
    assert np.array_equal(places[:, :3], Order(people=300, views=3).places())
    assert (places[:, 0] == (0, 6)).all()
    low, high = places[:, 1:].min((0, 1)), places[:, 1:].max((0, 1))
    assert low[0] < -170
    assert high[0] > 170
    assert ELEVATIONS[0] <= low[1] < 0 < 25 < high[1] <= ELEVATIONS[1]


def test_the_people_are_those_of_the_portraits_of_that_seed(tmp_path: Path) -> None:
    assert list(portraits.render_all(tmp_path, 3, 16, ORDER.seed, 1))[-1] == 3
    assert np.array_equal(portraits.load(tmp_path).codes, ORDER.codes())


def test_a_run_that_was_stopped_goes_on(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(orbits, "CHUNK", 1)
    first = render_all(tmp_path, ORDER, 1)
    assert next(first) == 1
    first.close()
    with pytest.raises(CheckpointError, match="1 of 3 people"):
        load(tmp_path)
    assert list(render_all(tmp_path, ORDER, 1)) == [1, 2, 3]
    for name in (orbits.VIEWS, orbits.MATTES, orbits.NORMALS, orbits.PLACES, orbits.PEOPLE):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()


def test_another_order_damage_and_nothing_are_refused(folder: Path, tmp_path: Path) -> None:
    for other in (replace(ORDER, size=16), replace(ORDER, seed=6), replace(ORDER, views=2), replace(ORDER, people=2)):
        with pytest.raises(CheckpointError, match="another order"):
            next(render_all(folder, other, 1))
    with pytest.raises(CheckpointError, match="render them first"):
        load(tmp_path)
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes()[:40])
    with pytest.raises(CheckpointError, match="damaged"):
        load(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError, match="cannot be kept"):
        next(render_all(tmp_path / "file", ORDER, 1))
    for wrong in ({"people": 0}, {"views": 0}, {"views": 65}, {"size": 4}, {"seed": -1}):
        with pytest.raises(RequestError, match="training views need"):
            replace(ORDER, **wrong)
