"""Named rigs against the numbers that their models' own files and scripts give."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from safelight.core.camera import Camera
from safelight.errors import ConfigError, RequestError, UnknownNameError
from safelight.multiview.bounds import checked
from safelight.multiview.rig import FILE, read, rig, rigs

F64 = torch.float64
VIEWS = {
    "mvdream4": 4, "zero123pp-1.1": 6, "zero123pp-1.2": 6, "mvadapter6": 6, "mvadapter6-faces": 6,
    "era3d6": 6, "wonder3d6": 6, "facelift6": 6, "syncdreamer16": 16, "sv3d21": 21,
}  # fmt: skip


def near(found: torch.Tensor, wanted: object, tolerance: float) -> bool:
    return torch.allclose(found, torch.as_tensor(wanted, dtype=found.dtype), rtol=0, atol=tolerance)


def test_all_named_rigs_are_there():
    assert {name: len(row.azimuths) for name, row in rigs().items()} == VIEWS


@pytest.mark.parametrize("name", VIEWS)
def test_every_rig_looks_at_its_middle_from_where_its_row_says(name):
    row = rig(name)
    cameras = checked(row.cameras(32, F64))
    azimuth, elevation, distance = cameras.angles()
    assert near(
        torch.remainder(azimuth - torch.tensor(row.azimuths, dtype=F64) + 180, 360), torch.full_like(azimuth, 180), 1e-9
    )
    assert near(elevation, row.elevations, 1e-9)
    assert near(distance, [row.distance] * len(row.azimuths), 1e-12)
    pixels, _ = cameras.project(torch.zeros(1, 3, dtype=F64))
    assert near(pixels, torch.full_like(pixels, 16.0), 1e-12)
    up, _ = cameras.project(torch.tensor([[0.0, 0.0, 0.1]], dtype=F64))
    assert (up[..., 1] < 16).all(), "heads up"
    assert cameras.projection == ("perspective" if row.fov else "orthographic")
    assert row.cameras().size == (row.size, row.size)


def test_mvdreams_matrix_at_azimuth_0_and_elevation_15():
    wanted = [[1, 0, 0, 0], [0, 0.2588, -0.9659, -0.9659], [0, 0.9659, 0.2588, 0.2588], [0, 0, 0, 1]]
    assert near(rig("mvdream4").cameras(own=True)[3].camera_to_world_opengl, wanted, 1e-4)
    assert near(rig("mvdream4").cameras(own=True)[0].position, [0.9659, 0, 0.2588], 1e-4)


def test_syncdreamers_first_cameras():
    own = rig("syncdreamer16").cameras(own=True)
    assert near(own.position[0], [1.299, 0, 0.75], 1e-3)
    assert near(own.position[1], [1.2, 0.497, 0.75], 1e-3)
    assert near(own.focal, torch.full((16, 2), 280.0), 1e-3)


def test_facelifts_front_camera():
    front = rig("facelift6").cameras(own=True)[0]
    wanted = [[0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 2.7], [0, 0, 0, 1]]
    assert near(front.position, [-2.7, 0, 0], 1e-6)
    assert near(front.world_to_camera, wanted, 1e-6)
    assert near(front.focal, [548.99, 548.99], 1e-2)


def test_the_right_view_is_seen_from_the_subjects_left():
    """The person faces -y, so their left is +x, and there the camera of azimuth 90 stands."""
    for name in ("era3d6", "wonder3d6", "facelift6", "mvadapter6"):
        assert near(rig(name).cameras()[2].position / rig(name).distance, [1, 0, 0], 1e-6), name


def test_mvadapter_passes_azimuth_minus_90_to_a_function_whose_zero_is_x():
    row = rig("mvadapter6")
    for place, azimuth in zip(row.cameras(own=True).position, row.azimuths, strict=True):
        angle = math.radians(azimuth - 90)
        assert near(place, [1.8 * math.cos(angle), 1.8 * math.sin(angle), 0], 1e-6)
    corners = torch.tensor([[[0.55, 0.0, 0.55], [-0.55, 0.0, -0.55]]])
    assert near(row.cameras()[:1].project(corners[0])[0], [[[768, 0], [0, 768]]], 1e-3)


@pytest.mark.parametrize(
    ("name", "raised", "distance"),
    [("zero123pp-1.1", (30, -20), 0.5 * 35 / 16), ("zero123pp-1.2", (20, -10), 0.5 / math.tan(math.radians(15)))],
)
def test_zero123plus_stands_as_in_instantmesh(name, raised, distance):
    """x = r cos(el) cos(az), y = r cos(el) sin(az), z = r sin(el), az 30, 90, ..."""
    own = rig(name).cameras(own=True)
    for k, place in enumerate(own.position):
        azimuth, elevation = math.radians(30 + 60 * k), math.radians(raised[k % 2])
        level = math.cos(elevation)
        wanted = [level * math.cos(azimuth), level * math.sin(azimuth), math.sin(elevation)]
        assert near(place / place.norm(), wanted, 1e-6)
    assert near(own.position.norm(dim=-1), [distance] * 6, 1e-6)


def test_sv3d_ends_at_the_given_picture():
    row = rig("sv3d21")
    assert row.azimuths == pytest.approx([(k + 1) * 360 / 21 % 360 for k in range(21)])


def test_an_unknown_rig_names_the_nearest():
    with pytest.raises(UnknownNameError, match="nearest known: mvdream4"):
        rig("mvdream")


WRONG = {
    "turn = 0": ("turns = 0", "unknown keys: turns"),
    'title = "MVDream and ImageDream, 4 views"\n': ("", "lacks title"),
    "fov = 40": ("span = 1\nfov = 40", "one of the two"),
    "elevations = 15": ("elevations = [15, 15]", "elevations cannot be"),
    "azimuths = [90, 180, 270, 0]": ("azimuths = []", "azimuths cannot be"),
    "distance = 1.0": ("distance = nan", "distance cannot be nan"),
    "size = 256": ("size = true", "size cannot be"),
    'assumed = ["distance", "fov"]': ('assumed = ["zoom"]', "assumed cannot be"),
    "relative = false": ("relative = 0", "relative cannot be"),
    "[mvdream4]": ("mvdream4", "cannot be read"),
}


@pytest.mark.parametrize("line", WRONG)
def test_a_file_of_rigs_that_is_wrong_names_the_rig_and_the_key(line, tmp_path: Path):
    text, (instead, told) = FILE.read_text("utf-8"), WRONG[line]
    assert line in text
    (tmp_path / "rigs.toml").write_text(text.replace(line, instead, 1))
    with pytest.raises(ConfigError, match=told):
        read(tmp_path / "rigs.toml")


def test_views_are_one_to_64_and_stand_outside_the_head():
    assert checked(Camera.ring(64)).shape == (64,)
    for cameras, told in (
        (Camera.ring(65), "1 to 64 views, not 65"),
        (Camera.ring(2)[:0], "not 0"),
        (Camera.orbit(0.0), "one leading dimension"),
        (Camera.orbit([0.0, 90.0], distance=[1.0, 0.4]), "view 1 stands inside the head"),
    ):
        with pytest.raises(RequestError, match=told):
            checked(cameras)
