"""Numbers that pin the camera's conventions: world z up, azimuth 0 in front at -y, OpenCV axes, centres at 0.5."""

from __future__ import annotations

import math

import pytest
import torch

from safelight.core.camera import Camera
from safelight.errors import RequestError

F64 = torch.float64


def near(found: torch.Tensor, wanted: object, tolerance: float = 1e-12) -> bool:
    return torch.allclose(found, torch.as_tensor(wanted, dtype=found.dtype), rtol=0, atol=tolerance)


@pytest.mark.parametrize(
    ("azimuth", "elevation", "place"),
    [(0, 0, (0, -2, 0)), (90, 0, (2, 0, 0)), (180, 0, (0, 2, 0)), (-90, 0, (-2, 0, 0)), (0, 90, (0, 0, 2)),
     (45, 0, (math.sqrt(2), -math.sqrt(2), 0)), (0, -30, (0, -math.sqrt(3), -1))],
)  # fmt: skip
def test_an_orbit_puts_the_camera_where_its_angles_say(azimuth, elevation, place):
    camera = Camera.orbit(azimuth, elevation, distance=2.0, dtype=F64)
    assert near(camera.position, place)


def test_an_orbit_looks_at_its_target_with_the_world_upright():
    target = (0.3, -0.2, 0.5)
    camera = Camera.orbit(30.0, 20.0, distance=3.0, fov=40.0, size=(48, 64), target=target, dtype=F64)
    points = torch.tensor([target, (0.3, -0.2, 0.6)], dtype=F64)
    pixels, depth = camera.project(points)
    assert near(pixels[0], (32.0, 24.0))
    assert near(depth[0], 3.0)
    assert pixels[1, 1] < 24.0
    assert near(pixels[1, 0], 32.0)


def test_from_the_front_the_world_x_axis_points_right():
    pixels, _ = Camera.orbit(0.0, dtype=F64).project(torch.tensor([[0.1, 0.0, 0.0]], dtype=F64))
    assert pixels[0, 0] > 64.0
    assert near(pixels[0, 1], 64.0)


def test_camera_axes_are_right_handed_and_orthonormal():
    azimuths = torch.linspace(-180, 180, 13, dtype=F64)
    camera = Camera.orbit(azimuths[:, None], torch.tensor([-90.0, -20.0, 0.0, 90.0], dtype=F64), dtype=F64)
    assert camera.shape == (13, 4)
    assert near(camera.rotation.mT @ camera.rotation, torch.eye(3).expand(13, 4, 3, 3))
    assert near(torch.linalg.det(camera.rotation), torch.ones(13, 4))


def test_the_field_of_view_spans_the_pictures_height():
    camera = Camera.orbit(0.0, distance=1.0, fov=90.0, size=(100, 60), dtype=F64)
    pixels, _ = camera.project(torch.tensor([[0.0, 0.0, 1.0], [0.0, 0.0, -1.0]], dtype=F64))
    assert near(pixels, [[30.0, 0.0], [30.0, 100.0]])


def test_look_at_agrees_with_orbit():
    orbit = Camera.orbit(50.0, 25.0, distance=4.0, fov=30.0, target=(0.1, 0.2, 0.3), dtype=F64)
    looking = Camera.look_at(orbit.position, (0.1, 0.2, 0.3), fov=30.0, dtype=F64)
    assert near(looking.rotation, orbit.rotation)
    assert near(looking.position, orbit.position)
    assert near(looking.focal, orbit.focal)


def test_rays_pass_through_the_pixel_centres():
    camera = Camera.orbit(torch.tensor([0.0, 70.0, 200.0]), 15.0, distance=5.0, size=(6, 9), dtype=F64)
    origins, directions = camera.rays()
    assert origins.shape == directions.shape == (3, 6, 9, 3)
    assert near(directions.norm(dim=-1), torch.ones(3, 6, 9))
    pixels, depth = camera.project((origins + 2.5 * directions).flatten(1, 2))
    rows, columns = torch.meshgrid(torch.arange(6) + 0.5, torch.arange(9) + 0.5, indexing="ij")
    assert near(pixels, torch.stack([columns, rows], -1).reshape(54, 2).expand(3, 54, 2), 1e-11)
    assert (depth > 0).all()


def test_matrices_are_inverse_and_agree_with_project():
    camera = Camera.orbit(torch.tensor([10.0, 130.0]), 40.0, distance=3.0, fov=35.0, size=(32, 40), dtype=F64)
    assert near(camera.camera_to_world @ camera.world_to_camera, torch.eye(4).expand(2, 4, 4))
    point = torch.tensor([0.2, -0.3, 0.4, 1.0], dtype=F64)
    seen = (camera.world_to_camera @ point)[..., :3]
    homogeneous = (camera.intrinsics @ seen[..., None])[..., 0]
    pixels, depth = camera.project(point[None, :3])
    assert near(homogeneous[:, :2] / homogeneous[:, 2:], pixels[:, 0])
    assert near(homogeneous[:, 2], depth[:, 0])


def test_relative_to_itself_a_camera_sits_at_the_origin():
    camera = Camera.orbit(33.0, 12.0, distance=2.0, dtype=F64)
    home = camera.relative_to(camera)
    assert near(home.rotation, torch.eye(3))
    assert near(home.position, torch.zeros(3))


def test_relative_cameras_see_the_same_from_a_moved_world():
    first = Camera.orbit(0.0, 10.0, distance=2.0, dtype=F64)
    others = Camera.orbit(torch.tensor([90.0, 200.0]), 5.0, distance=3.0, dtype=F64)
    points = torch.randn(7, 3, dtype=F64, generator=torch.Generator().manual_seed(0)) * 0.3
    moved = (points - first.position) @ first.rotation
    assert near(others.relative_to(first).project(moved)[0], others.project(points)[0], 1e-10)


def test_resizing_keeps_the_view():
    camera = Camera.orbit(20.0, 5.0, distance=2.0, size=(64, 48), dtype=F64)
    points = torch.tensor([[0.1, 0.2, -0.1]], dtype=F64)
    assert near(camera.resized((128, 96)).project(points)[0], 2 * camera.project(points)[0])


def test_float32_is_the_default_and_indexing_takes_one():
    cameras = Camera.orbit(torch.tensor([0.0, 90.0, 180.0]))
    assert cameras.position.dtype == torch.float32
    assert cameras[1].shape == ()
    assert near(cameras[1].position, (1.0, 0.0, 0.0), 1e-6)
    assert cameras.to(F64).focal.dtype == F64


def test_senseless_cameras_are_refused():
    with pytest.raises(RequestError, match="parallel to up"):
        Camera.look_at((0.0, 0.0, 3.0), (0.0, 0.0, 0.0))
    with pytest.raises(RequestError, match="field of view"):
        Camera.orbit(0.0, fov=180.0)
    with pytest.raises(RequestError, match="at least one pixel"):
        Camera.orbit(0.0, size=(0, 4))
    with pytest.raises(RequestError, match="shapes"):
        Camera(torch.eye(3), torch.zeros(2, 3), torch.ones(2), torch.ones(2), (4, 4))
