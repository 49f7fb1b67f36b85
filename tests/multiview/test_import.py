"""Cameras from other programs' files: what is understood, and what is refused in one line that names the place."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from safelight.core.camera import Camera
from safelight.errors import ConfigError, FileError, ImageError
from safelight.multiview.bundle import Bundle
from safelight.multiview.export.table import FORMATS, load, save

F64 = torch.float64
COLMAP = """# a comment
7 OPENCV 16 12 20 21 8.5 6.5 0 0 0 0
9 SIMPLE_RADIAL 16 12 20 8 6 0
"""
IMAGES = """# another
2 1 0 0 0 0 0 3 7 b c.png
1 2 3 4 5
1 0.5 0.5 0.5 0.5 0 0 3 9 a.png

"""


def ring() -> Camera:
    return Camera.ring(3, 10.0, 2.0, size=(12, 16), dtype=F64)


def written(folder: Path, name: str) -> Path:
    """Where the cameras of a sound bundle stand."""
    save(Bundle(ring()), folder / "set", name)
    return folder / "set" / FORMATS[name].file


Change = Callable[[dict[str, Any]], object]
JSON: dict[str, tuple[str, Change, str]] = {
    "no frames": ("nerfstudio", lambda t: t.update(frames=[]), "at least one view"),
    "frames of words": ("facelift", lambda t: t.update(frames=["x"]), "at least one view"),
    "a strange key": ("nerfstudio", lambda t: t.update(zoom=2), "keys that are not read: zoom"),
    "a strange key of a frame": ("facelift", lambda t: t["frames"][1].update(zoom=2), "frame 1 has keys"),
    "a bent lens": ("nerfstudio", lambda t: t.update(k1=0.1), "k1 bends the picture"),
    "a fisheye": ("nerfstudio", lambda t: t.update(camera_model="OPENCV_FISHEYE"), "'OPENCV_FISHEYE' is not read"),
    "no lens": ("nerfstudio", lambda t: t.pop("fl_x"), "neither fl_x nor camera_angle_x"),
    "a short matrix": ("nerfstudio", lambda t: t["frames"][2]["transform_matrix"].pop(), "frame 2: transform_matrix"),
    "a word in a matrix": ("facelift", lambda t: t["frames"][0]["w2c"][0].__setitem__(0, "x"), "must be a number"),
    "not a number": ("facelift", lambda t: t["frames"][0].update(fx=float("nan")), "fx must be a number"),
    "a truth": ("facelift", lambda t: t["frames"][0].update(w=True), "w must be a number"),
    "two sizes": ("facelift", lambda t: t["frames"][0].update(w=17), "16x12, 17x12"),
    "half a pixel": ("nerfstudio", lambda t: t.update(w=16.5), "cannot be"),
    "no name": ("nerfstudio", lambda t: t["frames"][0].update(file_path=""), "file_path must be a text"),
    "a transposed pose": (
        "facelift",
        lambda t: [f.update(w2c=np.array(f["w2c"]).T.tolist()) for f in t["frames"]],
        "transposed",
    ),
    "a scaled pose": (
        "nerfstudio",
        lambda t: t["frames"][0].update(transform_matrix=np.diag([2.0, 2, 2, 1]).tolist()),
        "scaled or skewed",
    ),
    "a mirrored pose": (
        "nerfstudio",
        lambda t: t["frames"][0].update(transform_matrix=np.diag([-1.0, 1, 1, 1]).tolist()),
        "left-handed",
    ),
}


@pytest.mark.parametrize("case", JSON)
def test_a_broken_table_is_refused_with_its_place(case, tmp_path: Path):
    name, change, words = JSON[case]
    file = written(tmp_path, name)
    told = json.loads(file.read_text())
    change(told)
    file.write_text(json.dumps(told))
    with pytest.raises(ConfigError, match=words) as error:
        load(file)
    assert file.name in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["nerfstudio", "facelift"])
@pytest.mark.parametrize("text", ["", "[1]", "{", '{"frames": 3}', '{"frames": null}'])
def test_what_is_no_table_is_refused(name, text, tmp_path: Path):
    file = written(tmp_path, name)
    file.write_text(text)
    with pytest.raises(ConfigError):
        FORMATS[name].read(file)


def test_nerfs_own_files_tell_one_angle_and_leave_the_rest_to_the_pictures(tmp_path: Path):
    angle = 0.6911112070083618
    pose = ring().camera_to_world_opengl[0].tolist()
    frame = {"file_path": "./train/r_0", "rotation": 0.0125, "transform_matrix": pose}
    file = tmp_path / "transforms_train.json"
    file.write_text(json.dumps({"camera_angle_x": angle, "frames": [frame]}))
    with pytest.raises(ImageError, match="no w and h"):
        load(file)
    (tmp_path / "train").mkdir()
    Image.new("RGB", (800, 600)).save(tmp_path / "train/r_0.png")
    found = load(tmp_path).cameras
    assert found.size == (600, 800)
    assert torch.allclose(found.focal, torch.full((1, 2), 400 / math.tan(angle / 2), dtype=F64))
    assert found.principal.tolist() == [[400, 300]]


def test_colmaps_ids_models_and_spaces_are_understood(tmp_path: Path):
    (tmp_path / "cameras.txt").write_text(COLMAP)
    (tmp_path / "images.txt").write_text(IMAGES)
    found = load(tmp_path)
    assert found.files == ("a.png", "b c.png"), "in the order of their ids"
    assert found.cameras.focal.tolist() == [[20, 20], [20, 21]]
    assert found.cameras.principal.tolist() == [[8, 6], [8.5, 6.5]]
    assert torch.allclose(found.cameras.position[0], torch.tensor([0.0, -3, 0], dtype=F64)), "-R^T t: R takes y to z"
    assert torch.equal(found.cameras.position[1], torch.tensor([0.0, 0, -3], dtype=F64))


LINES = {
    ("cameras", "9 SIMPLE_RADIAL 16 12 20 8 6 0", "9 SIMPLE_RADIAL 16 12 20 8 6 0.1"): "bends the picture",
    ("cameras", "SIMPLE_RADIAL", "FISHEYE"): "'FISHEYE' is not read",
    ("cameras", "20 8 6 0", "20 8 6"): "has 4 parameters, not 3",
    ("cameras", "9 SIMPLE_RADIAL 16", "9 SIMPLE_RADIAL 32"): "one size",
    ("cameras", "20 21", "20 x"): "could not convert",
    ("cameras", "20 21", "20 inf"): "not finite",
    ("cameras", "9 SIMPLE", "8 SIMPLE"): "camera 9, which is not in cameras.txt",
    ("images", "2 1 0 0 0", "2 0 0 0 0"): "quaternion of zeros",
    ("images", " 9 a.png", " a.png"): "an id, 7 numbers",
    ("images", IMAGES, "# none\n"): "names no images",
}


@pytest.mark.parametrize("case", LINES)
def test_a_broken_line_of_colmap_is_refused_with_its_place(case, tmp_path: Path):
    file, old, new = case
    for name, text in (("cameras", COLMAP), ("images", IMAGES)):
        assert name != file or old in text
        (tmp_path / f"{name}.txt").write_text(text.replace(old, new, 1) if name == file else text)
    with pytest.raises(ConfigError, match=LINES[case]):
        load(tmp_path)


def test_a_binary_model_is_refused_with_the_way_out(tmp_path: Path):
    (tmp_path / "sparse/0").mkdir(parents=True)
    (tmp_path / "sparse/0/cameras.bin").write_bytes(b"\0")
    with pytest.raises(ConfigError, match="model_converter"):
        load(tmp_path)


ARRAYS: dict[str, tuple[dict[str, Any], str]] = {
    "other poses": ({"viewmats": np.eye(4)}, "do not belong together"),
    "words": ({"Ks": np.full((3, 3, 3), "x")}, "are numbers"),
    "a strange key": ({"zoom": np.ones(1)}, "keys that are not read"),
    "a fisheye": ({"camera_model": np.str_("fisheye")}, "'fisheye' is not read"),
    "a skew": ({"Ks": np.ones((3, 3, 3))}, "skew"),
    "not a number": ({"viewmats": np.full((3, 4, 4), np.nan)}, "last row"),
    "pickles": ({"files": np.array([{}, {}, {}])}, "cannot be read"),
}


@pytest.mark.parametrize("case", ARRAYS)
def test_broken_arrays_are_refused(case, tmp_path: Path):
    file = written(tmp_path, "gsplat")
    change, words = ARRAYS[case]
    with np.load(file) as opened:
        told = {**opened, **change}
    np.savez(file, **told)
    with pytest.raises(ConfigError, match=words):
        load(file)


def test_arrays_that_are_cut_off_or_incomplete_are_refused(tmp_path: Path):
    file = written(tmp_path, "gsplat")
    data = file.read_bytes()
    for cut in (b"", b"x", data[: len(data) // 2]):
        file.write_bytes(cut)
        with pytest.raises(ConfigError, match="cannot be read"):
            load(file)
    np.savez(file, viewmats=np.eye(4))
    with pytest.raises(ConfigError, match="lacks Ks"):
        load(file)


def test_a_folder_must_hold_one_kind_of_cameras(tmp_path: Path):
    with pytest.raises(FileError, match="no such file or folder"):
        load(tmp_path / "nothing")
    with pytest.raises(FileError, match="holds no cameras"):
        load(tmp_path)
    folder = written(tmp_path, "nerfstudio").parent
    (folder / "opencv_cameras.json").write_text("{}")
    with pytest.raises(ConfigError, match="nerfstudio and facelift; name the file"):
        load(folder)
