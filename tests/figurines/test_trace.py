"""Ray casting against independent answers: closed forms in float64 and marching along rays."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from safelight.core.camera import Camera
from safelight.figurines.shapes import Shape, ball, beam, box, frustum
from safelight.figurines.trace import View, normals, trace

RED = (1.0, 0.0, 0.0)
SHAPES = {
    "ball": ball((0.1, -0.2, 0.05), (0.5, 0.3, 0.7), RED, "skin"),
    "cylinder": frustum((0.1, 0.1, -0.4), (0.2, 0.0, 0.5), (0.4, 0.3), RED, "hat"),
    "cone": frustum((0.0, 0.1, -0.5), (0.1, 0.0, 0.6), (0.5, 0.5), RED, "hat", taper=-1.0),
    "flare": frustum((0.0, 0.0, -0.3), (0.0, 0.0, 0.4), (0.3, 0.4), RED, "hat", taper=0.6),
    "box": box((0.1, 0.0, -0.1), (0.3, 0.2, 0.5), RED, "glasses"),
    "beam": beam((-0.4, -0.3, 0.2), (0.5, 0.4, -0.3), (0.1, 0.2), RED, "glasses"),
}
VIEWS = [(0.0, 0.0), (35.0, 20.0), (120.0, -40.0), (-75.0, 85.0), (10.0, 90.0)]


def camera(azimuth: float, elevation: float, size: int = 40) -> Camera:
    return Camera.orbit(azimuth, elevation, distance=4.0, fov=26.0, size=size)


def inside(shape: Shape, points: np.ndarray, grow: float = 0.0) -> np.ndarray:
    """Whether points [..., 3] lie in a solid, from its definition; ``grow`` in units of its own frame."""
    x, y, z = np.moveaxis((points - np.array(shape.center)) @ np.linalg.inv(shape.axes).T, -1, 0)
    if shape.kind == "ball":
        return x**2 + y**2 + z**2 <= (1 + grow) ** 2
    if shape.kind == "box":
        return np.maximum(np.maximum(abs(x), abs(y)), abs(z)) <= 1 + grow
    return (np.hypot(x, y) <= 1 + shape.taper * z + grow) & (z >= -grow) & (z <= 1 + grow)


def test_a_balls_depth_is_the_quadratic_formula():
    shape, view = ball((0.2, 0.1, -0.3), (0.6, 0.6, 0.6), RED, "skin"), camera(25.0, 15.0).to(torch.float64)
    origin, direction = (t.numpy() for t in view.rays())
    reach = origin - np.array(shape.center)
    half = (reach * direction).sum(-1)
    inner = half**2 - (reach**2).sum(-1) + 0.36
    along = -half - np.sqrt(np.maximum(inner, 0))
    wanted = np.where(inner >= 0, along * (direction @ view.rotation[:, 2].numpy()), np.inf)
    found = trace([shape], View.of(view)).depth
    assert np.array_equal(np.isfinite(found), inner >= 0)
    hit = inner > 1e-3
    assert np.abs(found[hit] - wanted[hit]).max() < 2e-5


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("angles", VIEWS)
@pytest.mark.parametrize("parallel", [False, True])
def test_every_solid_is_met_where_marching_along_the_ray_meets_it(name, angles, parallel):
    shape, view = SHAPES[name], camera(*angles)
    view = view.orthographic(1.9) if parallel else view
    found = trace([shape], View.of(view)).depth
    origin, direction = (t.double().numpy() for t in view.rays())
    direction = direction / (direction @ view.rotation[:, 2].double().numpy())[..., None]
    steps = np.linspace(2.5, 5.5, 600)
    points = origin[..., None, :] + steps[:, None] * direction[..., None, :]
    within, grown = inside(shape, points, -0.02), inside(shape, points, 0.02)
    assert np.isfinite(found[within.any(-1)]).all()
    assert not np.isfinite(found[~grown.any(-1)]).any()
    clear = within.any(-1)
    first = steps[within.argmax(-1)]
    earliest = steps[grown.argmax(-1)]
    assert (found[clear] <= first[clear] + 0.01).all()
    assert (found[clear] >= earliest[clear] - 0.01).all()


@pytest.mark.parametrize("name", SHAPES)
def test_normals_point_out_of_the_solid(name):
    shape, view = SHAPES[name], View.of(camera(35.0, 20.0))
    seen = trace([shape], view)
    rows, columns = np.nonzero(seen.shape == 0)
    points = view.points(rows, columns, seen.depth[rows, columns])
    normal = normals(shape, points)
    assert np.allclose((normal**2).sum(1), 1, atol=1e-5)
    toward = view.position - points
    assert ((normal * toward).sum(1) > -1e-3).all()
    smooth = (normal * toward / np.linalg.norm(toward, axis=1, keepdims=True)).sum(1) > 0.3
    assert inside(shape, (points - 0.02 * normal)[smooth], 0.01).mean() > 0.97
    assert not inside(shape, (points + 0.02 * normal)[smooth], -0.01).any()


def test_a_cylinder_seen_along_its_axis_is_its_disc():
    upright = frustum((0.1, 0.0, -0.4), (0.1, 0.0, 0.5), (0.4, 0.4), RED, "hat")
    above = Camera.orbit(0.0, 90.0, distance=4.0, size=41, dtype=torch.float64).orthographic(1.6)
    depth = trace([upright], View.of(above)).depth
    rows, columns = np.mgrid[:41, :41]
    disc = np.hypot((columns - 20) * 1.6 / 41 - 0.1, (rows - 20) * 1.6 / 41)
    clear = abs(disc - 0.4) > 1e-3
    assert np.array_equal(np.isfinite(depth)[clear], (disc < 0.4)[clear])
    assert np.allclose(depth[np.isfinite(depth)], 3.5, atol=1e-5)


def test_a_far_narrow_camera_comes_to_parallel_rays():
    for shape in SHAPES.values():
        far = Camera.orbit(35.0, 20.0, distance=4000.0, fov=2 * math.degrees(math.atan(0.95 / 4000)), size=40)
        flat = far.orthographic(1.9)
        narrow, parallel = (trace([shape], View.of(c.to(torch.float64))).depth for c in (far, flat))
        both = np.isfinite(narrow) & np.isfinite(parallel)
        assert (np.isfinite(narrow) != np.isfinite(parallel)).mean() < 0.01
        assert np.median(np.abs(narrow[both] - parallel[both])) < 2e-3


def test_where_a_solid_is_cut_its_far_side_shows_from_within():
    bowl = ball((0, 0, 0), (0.5, 0.5, 0.5), RED, "hair", keep=lambda p: p[:, 1] > 0)
    depth = trace([bowl], View.of(camera(0.0, 0.0, 41))).depth
    assert abs(depth[20, 20] - 4.5) < 1e-5


def test_a_camera_inside_a_solid_sees_its_wall():
    around = ball((0, 0, 0), (0.5, 0.5, 0.5), RED, "skin")
    depth = trace([around], View.of(Camera.orbit(0.0, distance=0.1, fov=60.0, size=21))).depth
    assert np.isfinite(depth).all()
    assert abs(depth[10, 10] - 0.6) < 1e-5


def test_nothing_behind_the_camera_is_seen():
    behind = ball((0, -9.0, 0), (0.5, 0.5, 0.5), RED, "skin")
    assert (trace([behind], View.of(camera(0.0, 0.0))).shape == -1).all()
