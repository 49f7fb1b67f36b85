"""Depth warp, epipolar lines and marks: true views pass, and each way to be wrong turns them red."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from safelight.core.camera import Camera
from safelight.evaluate.views.epipolar import RADIUS, lines, symmetric
from safelight.evaluate.views.marks import marks, places
from safelight.evaluate.views.trial import Exam
from safelight.evaluate.views.truth import Truth, cameras, people, truth
from safelight.evaluate.views.warp import Pairs, agreement, moved, pairs, sampled
from safelight.figurines.render import render


def shifted(pictures: np.ndarray, steps: int) -> np.ndarray:
    """Every other view moved to the right: views that are right one by one, and do not fit."""
    moved_ = pictures.copy()
    moved_[::2] = np.roll(pictures[::2], steps, axis=2)
    return moved_


def test_values_between_pixels_are_bilinear() -> None:
    v, u = np.mgrid[0:6, 0:8] + 0.5
    ramp = np.stack([u, 2 * v, u + v], -1)
    points = np.array([[3.25, 2.75], [0.5, 0.5], [7.5, 5.5], [4.0, 1.0]])
    assert np.allclose(sampled(ramp, points), np.stack([points[:, 0], 2 * points[:, 1], points.sum(1)], 1))
    assert np.allclose(sampled(ramp, np.array([[-3.0, 9.0]])), [[0.5, 11.0, 6.0]]), "outside, the edge's"


def test_shared_points_are_of_one_part_and_nothing_hidden_is_shared(one: Truth) -> None:
    shared = pairs(one, 0, 1)
    there = np.floor(shared.there).astype(int)
    same = one.labels[0][shared.rows, shared.columns] == one.labels[1][there[:, 1], there[:, 0]]
    assert len(same) > 400
    assert same.mean() > 0.9
    rows, columns = np.nonzero(np.isfinite(one.depth[0]))
    assert len(shared.rows) < 0.95 * len(rows), "some of what one sees is hidden from the other"
    back, depth = moved(one.cameras, (0, 0), rows, columns, one.depth[0][rows, columns])
    assert np.allclose(back, np.stack([columns + 0.5, rows + 0.5], 1), atol=1e-3)
    assert np.allclose(depth, one.depth[0][rows, columns], atol=1e-4)


def test_what_a_plate_hides_from_the_other_eye_is_not_shared() -> None:
    """A wall at depth 10 behind a plate at depth 5; the second camera stands one unit to the right of the first."""
    targets = [[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]]
    eyes = Camera.look_at([[0.0, -10.0, 0.0], [1.0, -10.0, 0.0]], targets, fov=53.1301, size=64)
    focal = float(eyes.focal[0, 0])
    assert focal == pytest.approx(64, abs=0.01)
    left = (24, 24 - round(focal / 5))  # where the plate begins in each view; it is 16 columns wide
    depth = np.full((2, 64, 64), 10.0, np.float32)
    for view, first in enumerate(left):
        depth[view, 16:48, first : first + 16] = 5.0
    given = people(1)[0]
    flat = Truth(given, eyes, *(np.zeros((2, 64, 64, 3), np.uint8),) * 2, depth, depth, depth, depth, depth)
    shared = pairs(flat, 0, 1)
    found = np.zeros((64, 64), bool)
    found[shared.rows, shared.columns] = True
    there = np.arange(64) - focal / 10  # of the wall, in columns
    hidden = (there > left[1] + 1) & (there < left[1] + 15)
    shown = (there > 1) & ((there < left[1] - 1) | (there > left[1] + 17))
    wall = depth[0] == 10
    assert hidden.sum() > 8
    assert not found[20:44][wall[20:44] & hidden].any()
    assert found[20:44][wall[20:44] & shown].all()
    assert found[18:46, 26:38].all(), "the plate itself"
    assert found[2:14, there > 1].all(), "above it nothing hides"


def test_true_views_agree_and_wrong_ones_do_not(one: Truth, wrong: np.ndarray, prepared: Exam) -> None:
    true = agreement(one.pictures, one)
    assert true.ratio < 0.2
    mixed = np.stack([prepared.truths[i % 3].pictures[i] for i in range(4)])
    for name, views, least in (("shifted", shifted(one.pictures, 4), 2), ("flipped", wrong, 2), ("mixed", mixed, 4)):
        assert agreement(views, one).ratio > least * true.ratio, name
        assert agreement(views, one).astray > 2 * true.astray, name


@pytest.mark.parametrize("noise", [0, 1])
def test_grey_views_agree_and_that_is_worth_nothing(prepared: Exam, one: Truth, noise: int) -> None:
    grey = np.random.default_rng(0).integers(128, 129 + noise, one.pictures.shape).astype(np.uint8)
    found = agreement(grey, one)
    assert found.error < 0.003, "the bare difference is fooled"
    assert found.ratio > 0.9
    assert found.astray > 0.1
    assert lines(grey, one, prepared.landmarks[0]).near < 0.05


def test_views_that_are_too_faint_to_be_seen_are_worth_nothing(prepared: Exam, one: Truth) -> None:
    faint = np.rint(128 + 0.012 * (one.pictures.astype(float) - 128)).astype(np.uint8)
    assert len(np.unique(faint)) > 2
    assert agreement(faint, one).ratio == 1
    assert lines(faint, one, prepared.landmarks[0]).found < 0.05


def test_views_that_share_no_surface_are_not_compared() -> None:
    person = people(1)[0]
    back_to_back = truth(person, cameras([(0.0, 0.0), (180.0, 0.0)], 32))
    found = agreement(back_to_back.pictures, back_to_back)
    assert (found.points, found.ratio) == (0, 1.0)
    assert lines(back_to_back.pictures, back_to_back) == (RADIUS, 0, 0, 0)


def test_the_distance_to_epipolar_lines_of_rectified_views_is_that_of_rows() -> None:
    """Two cameras side by side: the line of a pixel is its row."""
    eyes = Camera.look_at([[-0.5, -5.0, 0.0], [0.5, -5.0, 0.0]], [[-0.5, 0.0, 0.0], [0.5, 0.0, 0.0]], size=64)
    fundamental = eyes[0].fundamental(eyes[1]).numpy()
    here = np.array([[10.0, 20.0], [30.0, 40.0], [50.0, 5.0]])
    there = here + np.array([[3.0, 0.0], [-7.0, 2.0], [0.0, -1.5]])
    assert np.allclose(symmetric(fundamental, here, there), [0, 2, 1.5], atol=1e-3)


def test_landmarks_are_found_on_their_lines_in_true_views_only(one: Truth, wrong: np.ndarray, prepared: Exam) -> None:
    known = prepared.landmarks[0]
    true = lines(one.pictures, one, known)
    assert true == lines(one.pictures, one)
    assert true.points > 60
    assert true.near > 0.95
    assert true.distance < 0.6
    for views in (shifted(one.pictures, 4), wrong, prepared.truths[1].pictures):
        found = lines(views, one, known)
        assert found.near < 0.75
        assert found.distance > 1.5 * true.distance
    up = one.pictures.copy()
    up[::2] = np.roll(up[::2], 3, axis=1)
    assert lines(up, one, known).near < 0.35, "across the lines a shift is seen wholly"


def test_two_views_without_landmarks_are_passed_over(one: Truth, prepared: Exam) -> None:
    known = prepared.landmarks[0]
    none = known[0]._replace(points=Pairs(*(part[:0] for part in known[0].points)))
    assert lines(one.pictures, one, [none, *known[1:]]) == lines(one.pictures, one, known[1:])
    assert lines(one.pictures, one, [none]).points == 0


def drawn_as(true: Truth, **changes: str) -> np.ndarray:
    """Views of the same person with other attributes."""
    views = range(true.cameras.shape[0])
    person = replace(true.person, **changes)
    return np.stack([render(person, true.cameras[view], buffers=("rgb",)).rgb for view in views])


def test_a_true_mark_is_shown_on_its_side_and_a_mirrored_one_is_not(prepared: Exam) -> None:
    total = Counter()
    for true, known in zip(prepared.truths, prepared.places, strict=True):
        side = "left" if true.person.mark_side == "right" else "right"
        found, mirrored = marks(true.pictures, true, known), marks(drawn_as(true, mark_side=side), true, known)
        assert found.visible == found.shown == found.right
        assert found.astray == mirrored.right == 0
        both = sum(bool(mine and other) for mine, other in known)
        assert (mirrored.visible, mirrored.shown) == (found.visible, both)
        assert mirrored.astray == mirrored.bare
        assert found == marks(true.pictures, true)
        total.update(visible=found.visible, both=both)
    assert total["visible"] >= 5
    assert total["both"] >= 2


def test_a_mark_of_another_colour_or_none_is_not_shown(one: Truth) -> None:
    known = places(one)
    counted = marks(np.full_like(one.pictures, 128), one, known)
    assert (counted.shown, counted.astray) == (0, 0)
    assert counted.visible > 0
    assert counted.shares == (0, 0, 0)
    painted = one.pictures.copy()
    for picture, cheeks in zip(painted, known, strict=True):
        for cheek in filter(None, cheeks):
            picture[cheek.inside] = picture[cheek.around].mean(0)
    assert marks(painted, one, known).shown == 0


def test_half_of_a_mark_is_half_of_its_contrast(one: Truth) -> None:
    mine = next(mine for mine, _ in places(one) if mine)
    view = next(i for i, (here, _) in enumerate(places(one)) if here)
    assert mine.contrast(one.pictures[view]) == pytest.approx(1.0)
    faint = one.pictures[view].astype(float)
    faint[mine.inside] -= 0.5 * mine.difference
    assert mine.contrast(np.clip(np.rint(faint), 0, 255).astype(np.uint8)) == pytest.approx(0.5, abs=0.02)
