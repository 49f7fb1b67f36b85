"""Exact views of figurines from rigs: pictures, depth and cameras belong together, across views and through files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from safelight.core.camera import Camera
from safelight.errors import RequestError, UnknownNameError
from safelight.figurines.person import visible
from safelight.multiview.export.table import FORMATS, load, save
from safelight.multiview.figurine import HEAD, described, fitted, gathered, views
from safelight.multiview.rig import rig, rigs

F64 = torch.float64


def bundle(name: str = "facelift6", size: int = 40, count: int = 3):
    person = described("a person with a red hat and a blue shirt")
    cameras = fitted(rig(name).cameras(size))[:count]
    return gathered(person, cameras, list(views(person, cameras)))


@pytest.mark.parametrize("name", rigs())
def test_a_fitted_rig_shows_what_a_portrait_does_from_the_same_angles(name):
    plain = rig(name).cameras(64, F64)
    cameras = fitted(plain)
    target = torch.tensor([0.0, 0.0, -0.04], dtype=F64)
    for found, wanted in zip(cameras.angles(target)[:2], plain.angles()[:2], strict=True):
        assert torch.allclose(found, wanted, atol=1e-6)
    span = torch.stack([target + torch.tensor([0.0, 0, z], dtype=F64) for z in (-1.7, 1.7)])
    around = [view for view, elevation in enumerate(rig(name).elevations) if elevation == 0]
    if rig(name).elevations[0] == 0:  # the first view decides how large a person is
        level = cameras[around].project(span)[0][..., 1]
        assert (level[:, 0] - level[:, 1] - 64).abs().max() < 0.1
    assert cameras.angles(target)[2].min() > HEAD


@pytest.mark.parametrize("name", ["facelift6", "mvadapter6", "zero123pp-1.2"])
def test_surfaces_agree_between_views_through_their_files(name, tmp_path: Path):
    """What view 0 sees, view 1 sees at the pixel and depth that the cameras of the file say, unless it is hidden."""
    save(bundle(name, 64, 2), tmp_path / "set", "gsplat")
    cameras = load(tmp_path / "set").cameras
    depths = [np.asarray(Image.open(tmp_path / f"set/depth/00{k}.png")) / 1000 for k in range(2)]
    rows, columns = np.nonzero(depths[0])
    pixels = torch.from_numpy(np.stack([columns, rows], 1) + 0.5)
    points = cameras[0].unproject(pixels, torch.from_numpy(depths[0][rows, columns]))
    there, depth = cameras[1].project(points)
    column, row = there.floor().long().T.clamp(0, 63).numpy()
    seen = depths[1][row, column]
    inside = ((there >= 0) & (there < 64)).all(1).numpy() & (seen > 0)
    gap = depth.numpy()[inside] - seen[inside]
    assert inside.mean() > 0.8
    shown = np.abs(gap) < 0.15
    assert shown.mean() > 0.2 and np.median(np.abs(gap[shown])) < 0.04
    assert (gap > -0.15).mean() > 0.97, "nothing is in front of what is seen"


def test_the_left_of_the_person_is_seen_at_azimuth_90():
    """The nose points to the picture's left there: the camera stands at +x, the person's left, with -y to its left."""
    one = bundle("facelift6", 48, 3)
    assert one.mattes is not None and one.depth is not None
    face = one.mattes[2][20:30]
    nearest_front = np.nonzero(face.any(0))[0]
    middle = one.cameras[2].project(torch.zeros(1, 3))[0][0, 0].item()
    assert middle - nearest_front[0] > nearest_front[-1] - middle, "the nose sticks out to the left"


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_takes_a_figurine(name, tmp_path: Path):
    given = bundle(size=24)
    save(given, tmp_path / "set", name)
    with Image.open(tmp_path / "set" / ("train" if name == "nerf-synthetic" else "images") / "002.png") as picture:
        assert picture.mode == "RGBA"
        assert np.array_equal(np.asarray(picture), given.layers()["images"][2])
    assert {path.name for path in (tmp_path / "set").iterdir()} >= {"masks", "normals", "depth", "README.md"}


def test_a_described_person_has_all_that_is_said_whatever_the_seed():
    for seed in range(8):
        person = described("a person with green hair and a red hat", seed)
        seen = visible(person)
        assert (seen["hair_color"], seen["hat_color"]) == ("green", "red")
    assert described("", 1) != described("", 2)
    assert described("", 1) == described("", 1)
    with pytest.raises(RequestError, match="nobody can be seen"):
        described("a bald person with a red hat, blue eyes and sunglasses")


def test_cameras_inside_the_head_and_strange_layers_are_refused():
    person = described("")
    near = Camera.orbit([0.0, 90.0], distance=[8.0, 1.5], size=16)
    with pytest.raises(RequestError, match="view 1 stands inside the head"):
        next(views(person, near))
    with pytest.raises(UnknownNameError, match="nearest known: depth"):
        next(views(person, near, ["dept"]))
