"""Scenes: what a model of views learns from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from safelight.errors import CheckpointError
from safelight.figurines.matte import matte
from safelight.figurines.render import PORTRAIT, portrait
from safelight.figurines.shapes import LABELS
from safelight.train.figurines.portraits import codes_of
from safelight.train.views import scenes

COUNT, VIEWS, SIZE, SEED = 3, 4, 16, 1


def test_scenes_go_on_where_they_stopped_and_begin_with_the_portrait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scenes, "CHUNK", 2)
    begun = scenes.render_all(tmp_path / "a", COUNT, VIEWS, SIZE, SEED, 1)
    assert next(begun) == 2
    begun.close()
    with pytest.raises(CheckpointError, match="2 of 3 scenes"):
        scenes.load(tmp_path / "a")
    assert list(scenes.render_all(tmp_path / "a", COUNT, VIEWS, SIZE, SEED, 1)) == [2, 3]
    assert list(scenes.render_all(tmp_path / "b", COUNT, VIEWS, SIZE, SEED, 1)) == [2, 3]
    one, other = (scenes.load(tmp_path / name) for name in "ab")
    assert all(np.array_equal(mine, yours) for mine, yours in zip(one, other, strict=True))
    assert one.pictures.shape == one.normals.shape == (COUNT, VIEWS + 1, SIZE, SIZE, 3)
    assert one.labels.shape == (COUNT, VIEWS + 1, SIZE, SIZE) and len(np.unique(one.labels)) > 5
    (first, *_) = (scenes.Person.from_codes(codes) for codes in one.codes)
    assert np.array_equal(one.pictures[0, 0], portrait(first, SIZE))
    assert len({picture.tobytes() for picture in one.pictures.reshape(-1, SIZE, SIZE, 3)}) == COUNT * (VIEWS + 1)
    with pytest.raises(CheckpointError, match="of other people, cameras or size"):
        list(scenes.render_all(tmp_path / "a", COUNT, VIEWS, SIZE, SEED + 1, 1))


def test_cameras_go_all_around_everyone() -> None:
    found = scenes.orbits(50, VIEWS, SEED)
    azimuths, elevations = found[:, 1:, 0], found[:, 1:, 1]
    sectors = np.sort((azimuths + 180) // (360 / VIEWS), axis=1)
    assert np.array_equal(sectors, np.tile(np.arange(VIEWS), (50, 1)))
    assert elevations.min() >= scenes.ELEVATIONS[0] and elevations.max() <= scenes.ELEVATIONS[1]
    assert np.ptp(elevations) > 35 and len({tuple(row) for row in (azimuths // 90)}) > 5, "in any order"
    assert (found[:, 0, :2] == np.float32([PORTRAIT["azimuth"], PORTRAIT["elevation"]])).all()
    moved = scenes.orbits(50, VIEWS, SEED, aside=0.5)
    assert np.array_equal(moved[..., :2], found[..., :2]) and not found[..., 2:].any() and not moved[:, 0, 2:].any()
    assert np.abs(moved).max((0, 1))[2:].min() > 0.45 and (np.abs(moved[..., 2:]) <= 0.5).all()


def test_coarse_normals_do_not_show_the_hat(tmp_path: Path) -> None:
    codes = codes_of(40, SEED)
    hats = [scenes.Person.from_codes(row) for row in codes]
    hat = next(person for person in hats if person.hat == "top hat")
    picture, normals, labels = scenes.view(hat, 32, 30.0, 10.0)
    figure, outline = (np.abs(normals.astype(int) - 128)).sum(-1) > 6, matte(picture)
    assert outline.any(1).argmax() + 2 < figure.any(1).argmax()
    assert (figure & outline).sum() > 0.9 * figure.sum()
    assert picture.shape == (32, 32, 3)
    assert ((labels > 0) == outline).mean() > 0.97 and (labels == LABELS.index("hat")).any()
