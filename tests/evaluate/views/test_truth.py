"""Who is on trial, and what is known of them."""

from __future__ import annotations

import numpy as np
import pytest

from safelight.core.camera import Camera
from safelight.errors import RequestError, UnknownNameError
from safelight.evaluate.views.truth import BETWEEN, PLACES, Truth, cameras, fitting, people, truth, truths
from safelight.figurines.render import portrait
from safelight.figurines.splits import split_of


def test_people_are_held_out_and_a_longer_list_begins_like_a_shorter_one() -> None:
    found = people(140)
    assert found[:5] == people(5)
    assert {split_of(person) for person in found} == {"unseen"}
    assert len(set(found)) == 140
    assert split_of(people(1, "test")[0]) == "test"


def test_no_camera_of_the_trial_is_the_portraits_and_none_is_used_again() -> None:
    assert len({*PLACES, *BETWEEN}) == 16
    azimuths, elevations, distances = cameras(PLACES).angles((0.0, 0.0, -0.04))
    assert np.allclose(sorted(azimuths % 360), sorted(a for a, _ in PLACES), atol=1e-3)
    assert np.allclose(elevations, [e for _, e in PLACES], atol=1e-3)
    assert np.allclose(distances, 8.0, atol=1e-4)
    assert min(abs(a) for a, _ in PLACES) > 20


def test_all_that_is_known_belongs_together(one: Truth) -> None:
    there = np.isfinite(one.depth)
    assert np.array_equal(there, one.labels > 0)
    assert np.allclose(np.linalg.norm(one.normals[there], axis=-1), 1, atol=1e-5)
    assert not one.normals[~there].any()
    assert ((one.mattes > 0) >= there).all()
    assert np.array_equal(one.reference, portrait(one.person, 64))
    bare = np.linalg.norm(one.coarse, axis=-1) > 0.5
    assert (bare & ~there).sum() == 0, "the coarse head lies inside the figure"
    assert 0.3 < bare.sum() / there.sum() <= 1


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(RequestError, match="at least one person"):
        people(0)
    with pytest.raises(UnknownNameError, match="split"):
        people(1, "secret")
    near = Camera.orbit([0.0, 90.0], distance=[8.0, 1.0], size=16)
    with pytest.raises(RequestError, match="view 1 stands inside the head"):
        next(truths(1, near))
    with pytest.raises(RequestError, match="one leading dimension"):
        truth(people(1)[0], near[0])


def test_views_of_other_cameras_are_refused(one: Truth) -> None:
    assert fitting(one.pictures, one) is one.pictures
    for strange in (one.pictures[:2], one.pictures[..., :2], one.pictures.astype(np.float32)):
        with pytest.raises(RequestError, match=r"views of these cameras are uint8 \[4, 64, 64, 3\]"):
            fitting(strange, one)
