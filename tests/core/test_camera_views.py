"""The views of cameras: orthographic rays, epipolar lines, crops, other worlds; and what is refused."""

from __future__ import annotations

import math

import pytest
import torch

from safelight.core.camera import Camera
from safelight.core.gauge import normalised
from safelight.core.similarity import Similarity
from safelight.errors import RequestError, UnknownNameError

F64 = torch.float64


def near(found: torch.Tensor, wanted: object, tolerance: float = 1e-12) -> bool:
    return torch.allclose(found, torch.as_tensor(wanted, dtype=found.dtype), rtol=0, atol=tolerance)


def points(n: int = 7, size: float = 0.3) -> torch.Tensor:
    return torch.randn(n, 3, dtype=F64, generator=torch.Generator().manual_seed(0)) * size


def crooked(n: int = 3, projection: str = "perspective") -> Camera:
    """Cameras with nothing round about them: rolled, with other focal lengths each way, off centre."""
    generator = torch.Generator().manual_seed(n)
    eye = torch.randn(n, 3, dtype=F64, generator=generator)
    eye = 3 * eye / eye.norm(dim=-1, keepdim=True)
    up = torch.randn(n, 3, dtype=F64, generator=generator)
    plain = Camera.look_at(eye, (0.1, 0.0, -0.1), up, size=(24, 36), dtype=F64)
    focal = 20 + 10 * torch.rand(n, 2, dtype=F64, generator=generator)
    principal = torch.tensor([18.0, 12.0], dtype=F64) + torch.rand(n, 2, dtype=F64, generator=generator)
    return Camera(plain.rotation, plain.position, focal, principal, (24, 36), projection)


BOTH = pytest.mark.parametrize("projection", ["perspective", "orthographic"])


@BOTH
def test_unproject_is_the_inverse_of_project(projection):
    camera = crooked(projection=projection)
    pixels, depth = camera.project(points())
    assert near(camera.unproject(pixels, depth), points().expand(3, 7, 3), 1e-12)


@BOTH
def test_every_ray_meets_its_pixel_centre_at_any_depth(projection):
    camera = crooked(projection=projection)
    origins, directions = camera.rays()
    assert near(directions.norm(dim=-1), torch.ones(3, 24, 36))
    rows, columns = torch.meshgrid(torch.arange(24) + 0.5, torch.arange(36) + 0.5, indexing="ij")
    wanted = torch.stack([columns, rows], -1).reshape(-1, 2).to(F64).expand(3, -1, 2)
    for far in (0.7, 5.0):
        assert near(camera.project((origins + far * directions).flatten(1, 2))[0], wanted, 1e-10)


def test_the_first_pixels_centre_lies_half_a_pixel_inside():
    """K with cx = width / 2 is a centred principal point only if pixel centres lie at 0.5: the four corner rays of a
    centred camera are mirror images of each other."""
    _, directions = Camera.orbit(0.0, size=(4, 6), dtype=F64).rays()
    assert near(directions[0, 0, 0], -directions[0, -1, 0])
    assert near(directions[0, 0, 2], -directions[-1, 0, 2])
    step = 2 * math.tan(math.radians(22.5)) / 4
    assert near(directions[0, 0] / directions[0, 0, 1], [-2.5 * step, 1.0, 1.5 * step])


def test_orthographic_pixels_are_lengths_of_the_world():
    camera = Camera.orbit(0.0, 0.0, distance=1.8, size=(100, 60), dtype=F64).orthographic(1.1)
    pixels, depth = camera.project(torch.tensor([[0.0, 0.3, 0.55], [0.0, -0.3, -0.55], [0.33, 0.0, 0.0]], dtype=F64))
    assert near(pixels, [[30, 0], [30, 100], [60, 50]])
    assert near(depth, [2.1, 1.5, 1.8])
    assert near(camera.rays()[1], torch.tensor([0.0, 1.0, 0.0]).expand(100, 60, 3))


@pytest.mark.parametrize("mine", ["perspective", "orthographic"])
@pytest.mark.parametrize("theirs", ["perspective", "orthographic"])
def test_a_point_lies_on_its_epipolar_line(mine, theirs):
    left, right = crooked(3, mine), crooked(4, theirs)[1:]
    f = left.fundamental(right)
    u, v = (torch.cat([c.project(points())[0], torch.ones(3, 7, 1, dtype=F64)], -1) for c in (left, right))
    lines = u @ f.mT
    distance = (lines * v).sum(-1).abs() / lines[..., :2].norm(dim=-1)
    assert distance.max() < 1e-9, "in pixels"
    assert (lines * v.roll(1, 1)).sum(-1).abs().max() > 1e-3, "and no other point's"
    assert near(f.flatten(1).norm(dim=-1), torch.ones(3))
    assert near(torch.linalg.det(f), torch.zeros(3), 1e-12)


@BOTH
def test_epipolar_lines_of_level_orthographic_rings_are_rows(projection):
    """Why row-wise attention is exact for Era3D's and MV-Adapter's rigs."""
    ring = Camera.ring(6, distance=1.8, size=32, dtype=F64)
    ring = ring.orthographic(1.1) if projection == "orthographic" else ring
    pixel = torch.tensor([5.5, 20.5, 1.0], dtype=F64)
    line = ring[0].fundamental(ring[1]) @ pixel
    slope = float((line[0] / line[1]).abs())
    assert (slope < 1e-12) == (projection == "orthographic")
    if projection == "orthographic":
        assert near(-line[2] / line[1], 20.5)


def test_cameras_with_one_centre_have_no_epipolar_lines():
    camera = crooked()
    with pytest.raises(RequestError, match="one centre"):
        camera.fundamental(camera)
    parallel = Camera.orbit(0.0, dtype=F64).orthographic(1.0)
    behind = parallel.moved(Similarity.scaled(1.0, (0.0, 1.0, 0.0), F64))
    with pytest.raises(RequestError, match="one centre"):
        parallel.fundamental(behind)


@BOTH
def test_a_crop_shows_the_same_at_shifted_pixels(projection):
    camera = crooked(projection=projection)
    window = camera.cropped(5, -2, (10, 20))
    assert window.size == (10, 20)
    assert near(window.project(points())[0], camera.project(points())[0] - torch.tensor([5.0, -2.0]))
    assert near(window.rays()[1][:, 4, 7], camera.rays()[1][:, 2, 12], 1e-12)


def test_opencv_and_opengl_differ_by_two_flipped_axes_and_both_come_back():
    camera = crooked()
    flip = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0], dtype=F64))
    assert torch.equal(camera.camera_to_world_opengl, camera.camera_to_world @ flip)
    for made in (
        Camera.from_opengl(camera.camera_to_world_opengl, camera.intrinsics, camera.size),
        Camera.from_opencv(camera.world_to_camera, camera.intrinsics, camera.size),
    ):
        assert near(made.camera_to_world, camera.camera_to_world, 1e-14)
        assert torch.equal(made.intrinsics, camera.intrinsics)
    front = Camera.orbit(0.0, 0.0, distance=2.0, dtype=F64)
    wanted = [[1, 0, 0, 0], [0, 0, -1, -2], [0, 1, 0, 0], [0, 0, 0, 1]]
    assert near(front.camera_to_world_opengl, wanted), "in front: x right, z of the camera towards -y, up is z"


def test_angles_come_back_also_at_the_poles():
    azimuth = torch.tensor([-179.0, -90.0, 0.0, 33.0, 180.0], dtype=F64)[:, None]
    elevation = torch.tensor([-90.0, -30.0, 0.0, 70.0, 90.0], dtype=F64)
    target = (0.3, -0.2, 0.1)
    found = Camera.orbit(azimuth, elevation, 2.5, target=target, dtype=F64).angles(target)
    for angle, wanted in zip(found, (azimuth, elevation, torch.tensor(2.5)), strict=True):
        assert near(angle, wanted.expand(5, 5), 1e-10)


def test_a_ring_goes_counter_clockwise_from_its_start():
    ring = Camera.ring(4, elevation=10.0, distance=2.0, start=30.0, dtype=F64)
    assert near(ring.angles()[0], [30, 120, -150, -60], 1e-10)
    right_to_left = torch.linalg.cross(ring[0].position, ring[1].position)
    assert right_to_left[2] > 0
    with pytest.raises(RequestError, match="at least one"):
        Camera.ring(0)


@BOTH
def test_moved_cameras_see_moved_points_where_they_saw_the_points(projection):
    camera = crooked(projection=projection)
    turn = Similarity.turned(40.0, F64)
    by = Similarity(turn.rotation, torch.tensor(2.5, dtype=F64), torch.tensor([0.1, -2.0, 0.7], dtype=F64))
    (before, depth), (after, far) = camera.project(points()), camera.moved(by).project(by.apply(points()))
    assert near(after, before, 1e-10)
    assert near(far, 2.5 * depth)
    assert near(by.inverse().apply(by.apply(points())), points())


@pytest.mark.parametrize("centre", ["focus", "mean", "first"])
@BOTH
def test_a_normalised_world_has_its_radius_and_comes_back(centre, projection):
    cameras = crooked(5, projection)
    moved, back = normalised(cameras, centre, radius=2.0)
    reach = moved.position.norm(dim=-1)
    assert near(reach[0] if centre == "first" else reach.max(), 2.0)
    if centre == "first":
        assert near(moved.rotation[0], torch.eye(3))
    if centre == "focus":
        assert near(back.apply(torch.zeros(1, 3, dtype=F64)), [[0.1, 0.0, -0.1]], 1e-10)
    else:
        assert near(moved.position.mean(0), torch.zeros(3))
    again = moved.moved(back)
    assert near(again.camera_to_world, cameras.camera_to_world, 1e-12)
    assert near(again.focal, cameras.focal, 1e-12)


def test_worlds_without_a_standard_are_refused():
    ring = Camera.ring(4, distance=2.0, dtype=F64)
    for cameras, centre, told in (
        (ring[:1], "mean", "stand at their own mean"),
        (ring[:1], "focus", "parallel"),
        (ring[0], "mean", r"cameras \[V\]"),
    ):
        with pytest.raises(RequestError, match=told):
            normalised(cameras, centre)
    with pytest.raises(RequestError, match="radius above 0"):
        normalised(ring, "mean", radius=0.0)
    with pytest.raises(UnknownNameError, match="nearest known: focus"):
        normalised(ring, "fokus")


BROKEN = {
    "nan": (lambda c: {"position": c.position * float("nan")}, "not finite"),
    "inf": (lambda c: {"focal": c.focal / 0}, "not finite"),
    "scaled": (lambda c: {"rotation": 1.01 * c.rotation}, "scaled or skewed"),
    "left-handed": (lambda c: {"rotation": c.rotation[..., [1, 0, 2]]}, "left-handed"),
    "mirrored": (lambda c: {"rotation": -c.rotation}, "left-handed"),
    "flat": (lambda c: {"focal": 0 * c.focal}, "above 0"),
    "fisheye": (lambda c: {"projection": "fisheye"}, "unknown projection"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_no_camera_is_refused(name):
    change, told = BROKEN[name]
    camera = crooked()
    parts = {part: getattr(camera, part) for part in ("rotation", "position", "focal", "principal", "size")}
    with pytest.raises(RequestError, match=told):
        Camera(**{**parts, **change(camera)})


def test_matrices_that_are_no_poses_are_refused():
    camera = crooked()
    for matrix in (camera.world_to_camera.mT, camera.world_to_camera[..., :3, :]):
        with pytest.raises(RequestError, match="last row"):
            Camera.from_opencv(matrix, camera.intrinsics, camera.size)
    skewed = camera.intrinsics.clone()
    skewed[:, 0, 1] = 0.5
    with pytest.raises(RequestError, match="skew"):
        Camera.from_opencv(camera.world_to_camera, skewed, camera.size)
    with pytest.raises(RequestError, match="distance is above 0"):
        Camera.orbit(0.0, distance=0.0)
    with pytest.raises(RequestError, match="spans a length above 0"):
        camera.orthographic(0.0)


def test_half_formats_are_cameras_too():
    assert crooked().to(torch.bfloat16).shape == crooked().to(torch.float16).shape == (3,)
