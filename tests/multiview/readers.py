"""Other programs' ways from a bundle's files to pixels, written from their documentation: none uses our cameras.

Each takes the folder and world points [N, 3], and gives for every view the picture's file and the pixels [N, 2].
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np

Seen = Iterator[tuple[str, np.ndarray]]


def nerfstudio(folder: Path, points: np.ndarray) -> Seen:
    """Camera to world; the camera looks along its -z, y is up; u to the right, v downwards, centres at 0.5."""
    told = json.loads((folder / "transforms.json").read_text())
    assert told["applied_transform"] == np.eye(4)[:3].tolist()
    for frame in told["frames"]:
        lens = {**told, **frame}
        pose = np.array(frame["transform_matrix"])
        x, y, z = np.linalg.solve(pose, np.c_[points, np.ones(len(points))].T)[:3]
        far = 1.0 if told["camera_model"] == "ORTHOPHOTO" else -z
        u, v = lens["cx"] + lens["fl_x"] * x / far, lens["cy"] - lens["fl_y"] * y / far
        yield frame["file_path"], np.stack([u, v], 1)


def nerf_synthetic(folder: Path, points: np.ndarray) -> Seen:
    """One angle for all, from which comes the focal length; the axis is in the middle; paths lack their ending."""
    told = json.loads((folder / "transforms_train.json").read_text())
    for frame in told["frames"]:
        from PIL import Image

        file = frame["file_path"] + ".png"
        with Image.open(folder / file) as picture:
            width, height = picture.size
            assert picture.mode == "RGBA"
        focal = 0.5 * width / math.tan(0.5 * told["camera_angle_x"])
        x, y, z = (np.linalg.inv(np.array(frame["transform_matrix"])) @ np.c_[points, np.ones(len(points))].T)[:3]
        yield file, np.stack([width / 2 + focal * x / -z, height / 2 - focal * y / -z], 1)


def facelift(folder: Path, points: np.ndarray) -> Seen:
    """World to camera; the camera looks along its z, y is down."""
    for frame in json.loads((folder / "opencv_cameras.json").read_text())["frames"]:
        seen = points @ np.array(frame["w2c"])[:3, :3].T + np.array(frame["w2c"])[:3, 3]
        u, v = (frame[f] * seen[:, k] / seen[:, 2] + frame[c] for k, (f, c) in enumerate((("fx", "cx"), ("fy", "cy"))))
        yield frame["file_path"], np.stack([u, v], 1)


def gsplat(folder: Path, points: np.ndarray) -> Seen:
    """``means_c = viewmat @ means``; pinhole divides by z before K, ortho does not."""
    told = np.load(folder / "cameras.npz")
    assert len(told["points"]) == len(told["colors"]) > 0
    for file, view, k in zip(told["files"], told["viewmats"], told["Ks"], strict=True):
        seen = (view @ np.c_[points, np.ones(len(points))].T)[:3]
        plane = np.stack([*seen[:2], np.ones(len(points))]) if told["camera_model"] == "ortho" else seen / seen[2]
        yield str(file), (k @ plane)[:2].T


def colmap(folder: Path, points: np.ndarray) -> Seen:
    """QW QX QY QZ TX TY TZ takes world to camera; every second line of images.txt belongs to matches."""
    model = folder / "sparse/0"
    rows = [line.split() for line in (model / "cameras.txt").read_text().splitlines() if line[0] != "#"]
    lenses = {row[0]: tuple(map(float, row[4:])) for row in rows}
    assert all(row[1] == "PINHOLE" for row in rows)
    lines = [line for line in (model / "images.txt").read_text().splitlines() if not line.startswith("#")]
    assert all(not line for line in lines[1::2])
    assert [line for line in (model / "points3D.txt").read_text().splitlines() if line[0] != "#"]
    for line in lines[::2]:
        _, *pose, camera, name = line.split()
        w, *axis = map(float, pose[:4])
        # v + 2 q x (q x v + w v): a turn by a unit quaternion
        q = np.array(axis)
        turned = points + 2 * np.cross(q, np.cross(q, points) + w * points)
        seen = turned + np.array(list(map(float, pose[4:])))
        fx, fy, cx, cy = lenses[camera]
        yield f"images/{name}", np.stack([fx * seen[:, 0] / seen[:, 2] + cx, fy * seen[:, 1] / seen[:, 2] + cy], 1)


READERS = {
    "nerfstudio": nerfstudio,
    "colmap": colmap,
    "gsplat": gsplat,
    "nerf-synthetic": nerf_synthetic,
    "facelift": facelift,
}
