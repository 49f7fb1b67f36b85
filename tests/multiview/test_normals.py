"""Normals of all views in one camera's axes become those of each camera; those in other axes are told."""

from __future__ import annotations

import numpy as np
import pytest

from safelight.figurines.dataset import normal_map
from safelight.figurines.person import random_people
from safelight.figurines.render import render, view_camera
from safelight.multiview.normals import UPRIGHT, misread, own_axes
from safelight.multiview.rig import rig


def test_what_faces_a_camera_faces_it_in_its_own_axes() -> None:
    """A wall that faces view v, told in the first camera's axes, looks back along that view's axis."""
    around = np.deg2rad([0, 45, 90, 180, -90, -45])
    towards = np.stack([np.sin(around), 0 * around, np.cos(around)], -1)  # x right, y up, z towards the first camera
    pictures = np.rint((towards + 1) * 127.5).astype(np.uint8)[:, None, None].repeat(2, 2)
    own = own_axes(pictures, rig("wonder3d6").cameras(2))
    assert own.shape == (6, 1, 2, 3) and own.dtype == np.float32
    np.testing.assert_allclose(own, np.broadcast_to([0.0, 0.0, -1.0], own.shape), atol=0.01)


def test_up_stays_up_for_level_cameras_and_lengths_become_one() -> None:
    short = np.rint((np.array([0.0, 0.4, 0.0]) + 1) * 127.5).astype(np.uint8)
    own = own_axes(np.broadcast_to(short, (6, 1, 1, 3)), rig("era3d6").cameras(1))
    np.testing.assert_allclose(own, np.broadcast_to([0.0, -1.0, 0.0], own.shape), atol=0.02)


@pytest.mark.parametrize("azimuth", [0.0, 22.5, 112.5, 202.5, 292.5])
def test_normals_in_other_axes_are_told_by_what_looks_away(azimuth: float) -> None:
    person = random_people(np.random.default_rng(5), 1, "test")[0]
    seen = render(person, view_camera(azimuth, 20.0, 64), buffers=("rgb", "normals"), coarse=True)
    assert seen.normals_camera is not None and seen.normals_world is not None and seen.rgb is not None
    assert misread(normal_map(seen.normals_camera)) == ""
    assert "look away" in misread(normal_map(seen.normals_camera * UPRIGHT)), "z forwards, as OpenCV has it"
    assert misread(normal_map(seen.normals_world)) and misread(seen.rgb)
    assert misread(np.full((8, 8, 3), 200, np.uint8)) == "", "a plain ground shows nothing"
