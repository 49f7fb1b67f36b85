"""Bundles in every format: read as their readers read them, and back again; and what a format cannot tell."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pycolmap
import pytest
import torch
from PIL import Image

from safelight.core.camera import Camera
from safelight.errors import ExistsError, FileError, RequestError, UnknownNameError
from safelight.multiview.bundle import Bundle
from safelight.multiview.export.colmap import quaternion, rotation
from safelight.multiview.export.table import FORMATS, load, save
from safelight.multiview.rig import rig
from tests.multiview.readers import READERS

F64 = torch.float64
POINTS = np.random.default_rng(0).normal(size=(9, 3)) * 0.3


def near(found: torch.Tensor, wanted: torch.Tensor, tolerance: float) -> bool:
    return torch.allclose(found, wanted, rtol=0, atol=tolerance)


def views(lens: str = "one") -> Camera:
    """Three views of no symmetry, rolled; ``one`` lens for all, ``each`` its own, or ``parallel`` rays."""
    eye = torch.tensor([[1.0, -2.0, 0.5], [-2.5, 0.3, -0.4], [0.2, 1.9, 1.5]], dtype=F64)
    up = torch.tensor([[0.1, 0.2, 1.0], [0.0, -0.4, 1.0], [-0.6, 0.0, 1.0]], dtype=F64)
    cameras = Camera.look_at(eye, (0.05, 0.0, 0.1), up, fov=50.0, size=(12, 16), dtype=F64)
    if lens == "each":
        focal = torch.tensor([[11.0, 12.0], [13.0, 14.0], [15.0, 16.0]], dtype=F64)
        return replace(cameras, focal=focal, principal=focal - 5.0)
    return cameras.orthographic(2.5) if lens == "parallel" else cameras


def bundle(cameras: Camera) -> Bundle:
    rng = np.random.default_rng(1)
    maps = (*cameras.shape, *cameras.size)
    normals = rng.normal(size=(*maps, 3))
    depth = (1 + rng.random(maps)).astype(np.float32)
    depth[:, :3] = np.inf
    return Bundle(
        cameras,
        rng.integers(0, 256, (*maps, 3), np.uint8),
        rng.random(maps, np.float32),
        (normals / np.linalg.norm(normals, axis=-1, keepdims=True)).astype(np.float32),
        depth,
        (0.25, 0.5, 0.75),
    )


ABLE = [
    (name, lens)
    for name in FORMATS
    for lens in ("one", "each", "parallel")
    if lens == "one" or (name, lens) in (
        ("nerfstudio", "each"), ("colmap", "each"), ("gsplat", "each"), ("facelift", "each"),
        ("nerfstudio", "parallel"), ("gsplat", "parallel"),
    )
]  # fmt: skip


def test_every_format_has_a_reader_of_its_own():
    assert set(READERS) == set(FORMATS)


@pytest.mark.parametrize(("name", "lens"), ABLE)
def test_a_reader_sees_points_where_the_cameras_do(name, lens, tmp_path: Path):
    cameras = views(lens)
    save(bundle(cameras), tmp_path / "set", name)
    wanted = cameras.project(torch.from_numpy(POINTS))[0].numpy()
    seen = list(READERS[name](tmp_path / "set", POINTS))
    assert len(seen) == 3
    for view, (file, pixels) in enumerate(seen):
        with Image.open(tmp_path / "set" / file) as picture:
            assert (picture.size, picture.mode) == ((16, 12), "RGBA")
        assert np.abs(pixels - wanted[view]).max() < 1e-9


@pytest.mark.parametrize("lens", ["one", "each"])
def test_colmap_itself_sees_points_where_the_cameras_do(lens, tmp_path: Path):
    cameras = views(lens)
    save(bundle(cameras), tmp_path / "set", "colmap")
    wanted = cameras.project(torch.from_numpy(POINTS))[0].numpy()
    scene = pycolmap.Reconstruction(tmp_path / "set/sparse/0")
    assert (scene.num_images(), scene.num_points3D() > 0) == (3, True)
    for view, image in enumerate(sorted(scene.images.values(), key=lambda one: one.name)):
        assert (tmp_path / "set/images" / image.name).is_file()
        pixels = np.stack([image.project_point(point) for point in POINTS])
        assert np.abs(pixels - wanted[view]).max() < 1e-9


def test_pictures_without_mattes_are_opaque_where_a_reader_looks_for_transparency(tmp_path: Path):
    whole = replace(bundle(views()), mattes=None)
    save(whole, tmp_path / "set", "nerf-synthetic")
    for view, (file, _) in enumerate(READERS["nerf-synthetic"](tmp_path / "set", POINTS)):
        with Image.open(tmp_path / "set" / file) as picture:
            assert np.array_equal(np.asarray(picture)[..., :3], whole.pictures[view])
            assert (np.asarray(picture)[..., 3] == 255).all()


@pytest.mark.parametrize(("name", "lens"), ABLE)
def test_cameras_come_back(name, lens, tmp_path: Path):
    cameras = views(lens)
    save(bundle(cameras), tmp_path / "set", name)
    found = load(tmp_path / "set")
    assert len(found.files) == 3
    assert (found.cameras.size, found.cameras.projection) == (cameras.size, cameras.projection)
    bound = 0 if name == "nerfstudio" else 1e-14
    assert near(found.cameras.camera_to_world, cameras.camera_to_world, bound)
    assert near(found.cameras.intrinsics, cameras.intrinsics, 1e-13 if name == "nerf-synthetic" else 0)
    again = tmp_path / "again"
    save(Bundle(found.cameras), again, name if name != "nerf-synthetic" else "nerfstudio")
    assert near(load(again).cameras.camera_to_world, cameras.camera_to_world, 1e-13)


@pytest.mark.parametrize("name", FORMATS)
def test_float32_cameras_come_back_to_their_last_digits(name, tmp_path: Path):
    cameras = rig("facelift6").cameras(64)
    save(Bundle(cameras), tmp_path / "set", name)
    found = load(tmp_path / "set" / FORMATS[name].file).cameras if name != "nerf-synthetic" else None
    if found is not None:
        assert near(found.camera_to_world.to(torch.float32), cameras.camera_to_world, 3e-7)
        assert torch.equal(found.intrinsics.to(torch.float32), cameras.intrinsics)


REFUSED = {
    ("colmap", "parallel"): "no orthographic camera",
    ("facelift", "parallel"): "pinhole",
    ("nerf-synthetic", "parallel"): "field of view",
    ("nerf-synthetic", "each"): "one focal length",
}


@pytest.mark.parametrize(("name", "lens"), REFUSED)
def test_cameras_that_a_format_cannot_tell_are_refused_with_the_reason(name, lens, tmp_path: Path):
    with pytest.raises(RequestError, match=REFUSED[name, lens]):
        save(bundle(views(lens)), tmp_path / "set", name)
    assert list(tmp_path.iterdir()) == []


def test_every_case_is_written_or_refused():
    assert {*ABLE, *REFUSED} == {(name, lens) for name in FORMATS for lens in ("one", "each", "parallel")}


def test_an_axis_beside_the_middle_is_refused_where_it_cannot_be_told(tmp_path: Path):
    with pytest.raises(RequestError, match="in the middle"):
        save(bundle(views().cropped(1, 0, (12, 16))), tmp_path / "set", "nerf-synthetic")


def test_layers_hold_what_the_readme_says(tmp_path: Path):
    given = bundle(views())
    save(given, tmp_path / "set", "nerfstudio")
    assert given.pictures is not None and given.mattes is not None and given.depth is not None

    def layer(name: str) -> np.ndarray:
        return np.stack([np.asarray(Image.open(tmp_path / "set" / name / f"00{k}.png")) for k in range(3)])

    depth = layer("depth")
    assert depth.dtype == np.uint16
    there = np.isfinite(given.depth)
    assert np.abs(depth[there] / 1000 - given.depth[there]).max() <= 0.0005 + 1e-6
    assert not depth[~there].any()
    assert np.abs(layer("masks") / 255 - given.mattes).max() <= 0.5 / 255 + 1e-6
    normals = layer("normals") / 127.5 - 1
    assert given.normals is not None
    assert np.abs(normals * [1, -1, -1] - given.normals).max() < 0.01
    told = json.loads((tmp_path / "set/transforms.json").read_text())
    assert told["frames"][2]["depth_file_path"] == "depth/002.png"
    assert "mask_path" not in told["frames"][2], "a masked pixel is left out of training, a transparent one is empty"
    words = (tmp_path / "set/README.md").read_text()
    assert "0.25, 0.5, 0.75" in words and "camera to world, OpenGL" in words


def test_a_cut_out_over_its_background_is_the_picture():
    figure, behind = np.array([200.0, 40.0, 90.0]), np.array([0.25, 0.5, 0.75])
    share = np.linspace(0, 1, 12 * 16, dtype=np.float32).reshape(1, 12, 16)
    mixed = share[..., None] * figure + (1 - share[..., None]) * behind * 255
    given = Bundle(views()[:1], np.rint(mixed).astype(np.uint8), share, background=(0.25, 0.5, 0.75))
    cut = given.layers()["images"].astype(np.float64)
    alpha = cut[..., 3:] / 255
    assert np.abs(alpha * cut[..., :3] + (1 - alpha) * behind * 255 - mixed).max() < 2
    assert np.abs(cut[share > 0.2][:, :3] - figure).max() < 5, "no background is left on the outline"


def test_points_lie_on_the_surface_where_depth_is_known():
    cameras = Camera.ring(4, distance=3.0, fov=40.0, size=32, dtype=F64)
    origins, rays = cameras.rays()
    half = (origins * rays).sum(-1)
    inner = half**2 - (origins**2).sum(-1) + 0.49
    along = torch.where(inner > 0, -half - inner.clamp(min=0).sqrt(), torch.inf)
    depth = along * (rays * cameras.forward[:, None, None]).sum(-1)
    points, colors = Bundle(cameras, depth=depth.numpy().astype(np.float32)).cloud()
    assert 500 < len(points) == len(colors) <= 4096
    assert np.abs(np.linalg.norm(points, axis=1) - 0.7).max() < 1e-6


def test_points_fill_what_all_mattes_cover_and_else_a_ball():
    cameras = Camera.ring(4, distance=3.0, fov=40.0, size=32, dtype=F64)
    mattes = np.zeros((4, 32, 32), np.float32)
    mattes[:, 16:] = 1
    points, _ = Bundle(cameras, mattes=mattes).cloud()
    assert 100 < len(points) < 4096
    assert points[:, 2].max() < 0.01, "the upper half was carved away"
    ball, _ = Bundle(cameras).cloud()
    assert len(ball) == 4096 and np.linalg.norm(ball, axis=1).max() <= 3 * np.tan(np.radians(20)) + 1e-9
    assert np.array_equal(ball, Bundle(cameras).cloud()[0])


@pytest.mark.parametrize("axis", range(4))
def test_quaternions_are_safe_whichever_part_is_largest(axis):
    turned = [0.02, 0.02, 0.02, 0.02]
    turned[axis] = 1.0
    found = quaternion(rotation(turned))
    assert near(rotation(found), rotation(turned), 1e-15)
    assert found[0] >= 0


def test_folders_appear_whole_and_never_over_others(tmp_path: Path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set/precious").write_text("x")
    with pytest.raises(ExistsError, match="is not empty"):
        save(bundle(views()), tmp_path / "set", "gsplat")
    with pytest.raises(UnknownNameError, match="nearest known: nerfstudio"):
        save(bundle(views()), tmp_path / "new", "nerf-studio")
    with pytest.raises(FileError, match="cannot write"):
        save(bundle(views()), Path("/proc/self/set"), "gsplat")
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_bundles_whose_parts_do_not_belong_together_are_refused():
    cameras = views()
    for parts, told in (
        ({"pictures": np.zeros((3, 12, 15, 3), np.uint8)}, "pictures of these cameras"),
        ({"pictures": np.zeros((3, 12, 16, 3), np.float32)}, "uint8"),
        ({"mattes": np.full((3, 12, 16), 2, np.float32)}, "shares"),
        ({"mattes": np.full((3, 12, 16), np.nan, np.float32)}, "shares"),
        ({"depth": np.zeros((2, 12, 16), np.float32)}, "depth of these"),
    ):
        with pytest.raises(RequestError, match=told):
            Bundle(cameras, **parts)
    for count in (0, 65):
        with pytest.raises(RequestError, match=f"1 to 64 views, not {count}"):
            Bundle(Camera.ring(65)[:count])
