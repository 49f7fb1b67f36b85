"""Camera encoders: laws over the table, and the numbers that the models' own code gives."""

from __future__ import annotations

import math

import pytest
import torch

from safelight.core.camera import Camera
from safelight.core.similarity import Similarity
from safelight.errors import RequestError, UnknownNameError
from safelight.multiview.encode import (
    ENCODERS,
    canonical,
    directions,
    encoder,
    geometry,
    orthographic,
    plucker,
    polar_azimuth,
    pose16,
    stable_zero123,
    wonder3d,
    zero123,
)
from safelight.multiview.rig import rig

F64 = torch.float64


def near(found: torch.Tensor, wanted: object, tolerance: float = 1e-12) -> bool:
    return torch.allclose(found, torch.as_tensor(wanted, dtype=found.dtype), rtol=0, atol=tolerance)


def views() -> Camera:
    return Camera.orbit([10.0, 130.0, -70.0], [5.0, -20.0, 40.0], [2.0, 3.0, 2.5], size=(6, 8), dtype=F64)


def encoded(name: str, cameras: Camera) -> torch.Tensor:
    row = ENCODERS[name]
    if name == "orthographic":
        cameras = cameras.orthographic(1.0)
    if row.needs == "domain":
        cameras = rig("wonder3d6").cameras(dtype=F64)[cameras.angles()[0].argsort().argsort()]
    depth = torch.full((3, 6, 8), 2.0, dtype=F64)
    normals = torch.tensor([0.0, 0.6, -0.8], dtype=F64)[:, None, None].expand(3, 3, 6, 8)
    second = {"reference": (cameras[0],), "depth": (depth,), "surface": (depth, normals), "domain": ("normals",)}
    return row.function(cameras, *second.get(row.needs, ()))


@pytest.mark.parametrize("name", ENCODERS)
def test_every_encoder_gives_what_its_row_declares_view_by_view(name):
    row, cameras = ENCODERS[name], views()
    told = encoded(name, cameras)
    assert told.shape == ((3, row.channels, 6, 8) if row.maps else (3, row.channels))
    assert told.isfinite().all()
    assert len({tuple(view.flatten().tolist()) for view in told}) == 3, "different views are told differently"
    if not row.needs:
        assert torch.equal(encoded(name, cameras[torch.tensor([2, 0, 1])]), told[[2, 0, 1]]), "one view, one answer"


@pytest.mark.parametrize("name", ["zero123", "stable_zero123", "polar_azimuth"])
def test_relative_encoders_do_not_see_a_turn_of_the_world(name):
    assert near(encoded(name, views().moved(Similarity.turned(77.0, F64))), encoded(name, views()), 1e-12)


def test_pose16_is_mvdreams_matrix_row_after_row():
    front = Camera.orbit([0.0], [15.0], distance=3.0, dtype=F64)
    c, s = math.cos(math.radians(15)), math.sin(math.radians(15))
    assert near(pose16(front), [[1, 0, 0, 0, 0, s, -c, -c, 0, c, s, s, 0, 0, 0, 1]])
    assert near(pose16(front, normalise=False)[0, [3, 7, 11]], [0, -3 * c, 3 * s])


def test_zero123_goes_down_for_a_positive_polar_angle_and_counter_clockwise_for_a_positive_sine():
    reference = Camera.orbit(20.0, 10.0, 1.5, dtype=F64)
    told = zero123(Camera.orbit([50.0], [-20.0], 1.8, dtype=F64), reference)
    assert near(told, [[math.radians(30), math.sin(math.radians(30)), math.cos(math.radians(30)), 0.3]], 1e-12)


def test_stable_zero123_is_told_how_high_the_reference_stands_in_the_place_of_the_distance():
    reference, cameras = Camera.orbit(20.0, 10.0, 1.5, dtype=F64), Camera.orbit([50.0, 0], [-20.0, 5], 1.8, dtype=F64)
    told = stable_zero123(cameras, reference)
    assert near(told[:, :3], zero123(cameras, reference)[:, :3], 0.0)
    assert near(told[:, 3], [math.radians(80)] * 2, 1e-12)


# Where the cameras of the released code stand in its own world, which leans: view by view, in the order of its rig.
LEANING = [
    [-0.850077, -0.459099, 0.258064], [-0.228692, -0.848619, 0.477018], [0.526658, -0.741030, 0.416541],
    [0.850077, 0.459099, -0.258064], [-0.526658, 0.741029, -0.416541], [-0.973499, 0.199355, -0.112060],
]  # fmt: skip


def test_wonder3ds_labels_are_angles_of_a_world_that_leans_in_half_precision() -> None:
    cameras = rig("wonder3d6").cameras(dtype=F64)
    normals, colours = wonder3d(cameras, "normals"), wonder3d(cameras, "colours")
    told = torch.atan2(normals[:, :5], normals[:, 5:])
    x, y, z = torch.tensor(LEANING, dtype=F64).unbind(-1)
    down, turn = torch.acos(z), torch.atan2(y, x)
    assert near(told[:, 1], down - down[0], 2e-3)
    assert near(torch.remainder(told[:, 2] - (turn - turn[0]) + 1, 2 * math.pi), [1.0] * 6, 2e-3)
    assert near(told[:, 0], [0.0] * 6) and near(told[:, 3:], [[1.0, 0.0]] * 6)
    assert near(torch.atan2(colours[:, :5], colours[:, 5:])[:, 3:], [[0.0, 1.0]] * 6)
    assert torch.equal(normals[:, [0, 1, 2, 5, 6, 7]], colours[:, [0, 1, 2, 5, 6, 7]])
    assert torch.equal(wonder3d(cameras[[5, 2]], "normals"), normals[[5, 2]])


@pytest.mark.parametrize(("azimuth", "elevation"), [(30.0, 0.0), (135.0, 0.0), (45.0, 5.0), (45.01, 0.0)])
def test_wonder3d_has_no_label_for_other_cameras(azimuth: float, elevation: float) -> None:
    with pytest.raises(RequestError, match="none at azimuth"):
        wonder3d(Camera.orbit([azimuth], [elevation], 1.3, dtype=F64), "normals")
    with pytest.raises(UnknownNameError, match="colours"):
        wonder3d(rig("wonder3d6").cameras(), "colors")


def test_sv3ds_azimuth_counts_from_the_last_view():
    cameras = rig("sv3d21").cameras(8, F64)
    told = polar_azimuth(cameras, cameras[-1])
    assert near(told[:, 0], [math.radians(80)] * 21, 1e-9)
    assert near(told[:, 1], [(k + 1) % 21 * 2 * math.pi / 21 for k in range(21)], 1e-9)


def test_plucker_coordinates_hold_the_ray_in_either_order():
    cameras = views()
    told = plucker(cameras)
    d, m = told[:, :3], told[:, 3:]
    origins, rays = (part.movedim(-1, 1) for part in cameras.rays())
    assert near(d, rays)
    assert near((d * m).sum(1), torch.zeros(3, 6, 8))
    foot = torch.linalg.cross(d, m, dim=1)  # the ray's point nearest to the origin
    along = ((origins - foot) * d).sum(1, keepdim=True) * d
    assert near(origins - foot, along, 1e-12)
    assert torch.equal(plucker(cameras, "moment-direction"), torch.cat([m, d], 1))


def test_frames_are_those_of_the_first_and_last_camera():
    cameras = views()
    middle = directions(cameras, "first")[0]
    axis = Camera.orbit(0.0, size=(6, 8), dtype=F64).relative_to(Camera.orbit(0.0, dtype=F64)).rays()[1]
    assert near(middle.movedim(0, -1), axis, 1e-12)
    assert near(plucker(cameras, frame="first")[0, 3:], torch.zeros(3, 6, 8)), "the first camera is the origin"
    assert near(plucker(cameras, frame="last")[-1, 3:], torch.zeros(3, 6, 8))
    assert not near(plucker(cameras, frame="last")[0, 3:], torch.zeros(3, 6, 8), 1e-3)


def test_rays_through_the_corner_are_half_a_pixel_off():
    wide = Camera.orbit([0.0], fov=60.0, size=(6, 8), dtype=F64)
    corner, centre = directions(wide, centre=0.0), directions(wide)
    assert near(corner[0, :, 3, 4], [0, 1, 0]), "the corner of pixel (3, 4) is the principal point"
    assert not near(centre[0, :, 3, 4], [0, 1, 0], 1e-3)


def test_mvadapters_map_is_constant_direction_and_position():
    told = orthographic(rig("mvadapter6").cameras(16, F64))
    assert near(told[0, :, 3, 5], [0.5, 1, 0.5, 0.5, 0, 0.5], 1e-9), "looks along +y from -y"
    assert near(orthographic(rig("mvadapter6").cameras(4, F64), shifted=False)[2, :, 0, 0], [-1, 0, 0, 1, 0, 0], 1e-9)
    assert torch.equal(told, told[..., :1, :1].expand_as(told))
    with pytest.raises(RequestError, match="plucker"):
        orthographic(views())


def test_a_place_has_one_canonical_colour_in_every_view():
    cameras = views()
    point = torch.tensor([[0.2, -0.1, 0.3]], dtype=F64)
    pixels, depth = cameras.project(point)
    # a camera whose one pixel is centred on the point
    shifted = Camera(cameras.rotation, cameras.position, cameras.focal, cameras.principal - pixels[:, 0] + 0.5, (1, 1))
    told = canonical(shifted, depth[:, :, None], middle=(0.0, 0.0, 0.1), radius=2.0)
    assert near(told[..., 0, 0], torch.tensor([[0.1, -0.05, 0.1]], dtype=F64).expand(3, 3), 1e-12)
    empty = canonical(shifted, torch.full((3, 1, 1), torch.inf, dtype=F64))
    assert torch.equal(empty, torch.zeros(3, 3, 1, 1, dtype=F64))
    with pytest.raises(RequestError, match="depth of shape"):
        canonical(cameras, depth)


def test_unknown_names_are_refused():
    with pytest.raises(UnknownNameError, match="nearest known: plucker"):
        encoder("plücker")
    with pytest.raises(UnknownNameError, match="unknown order"):
        plucker(views(), "md")
    with pytest.raises(UnknownNameError, match="unknown frame"):
        directions(views(), "front")
    assert encoder("pose16").function is pose16


def test_geometry_is_place_and_normal_in_the_world_around_grey():
    """What the public scripts render: position + 0.5 and normal / 2 + 0.5 of a mesh within [-0.5, 0.5]."""
    cameras = rig("mvadapter6-faces").cameras(11, F64)
    depth = torch.full((6, 11, 11), 1.8, dtype=F64)  # a plane through the middle of the world, across the line of sight
    depth[:, :, :2] = math.inf
    facing = torch.tensor([0.0, 0.0, -1.0], dtype=F64)[:, None, None].expand(6, 3, 11, 11)
    told = geometry(cameras, depth, facing)
    assert torch.equal(told[..., :2], torch.full((6, 6, 11, 2), 0.5, dtype=F64))
    assert near(told[:, :3, 5, 5], torch.full((6, 3), 0.5), 1e-9), "the middle of the cube"
    out = [[0.5, 0, 0.5], [1, 0.5, 0.5], [0.5, 1, 0.5], [0, 0.5, 0.5], [0.5, 0.5, 1], [0.5, 0.5, 0]]
    assert near(told[:, 3:, 5, 5], out, 1e-3), "front -y, right +x, back +y, left -x, above +z, below -z"
    # The front's picture grows to the right with x and down with -z; a pixel is 0.1 wide.
    assert near(told[0, :3, 5, 7], [0.7, 0.5, 0.5], 1e-9) and near(told[0, :3, 8, 5], [0.5, 0.5, 0.2], 1e-9)
    # The faces over the top share columns with the back: x falls to the right, mirrored to the front.
    for face in (2, 4, 5):
        assert near(told[face, 0, 5, 7], 0.3, 1e-6)
    assert told.min() >= 0 and told.max() <= 1
    with pytest.raises(RequestError, match="normals of shape"):
        geometry(cameras, depth, facing[:, :, :4])
