"""``transforms_train.json`` as NeRF's Blender scenes have it: one field of view for all, camera to world, OpenGL axes.

Facts: github.com/bmild/nerf, ``load_blender.py``. File paths come without an ending. With few views none is held out:
the three lists of a scene (train, val, test) name all of them.
"""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np

from safelight.core.camera import Camera
from safelight.errors import RequestError
from safelight.multiview.bundle import Bundle, same
from safelight.multiview.export.found import Found
from safelight.multiview.export.nerfstudio import read as read_transforms

FILE: Final = "transforms_train.json"
LISTS: Final = ("train", "val", "test")


def check(cameras: Camera) -> None:
    """RequestError for orthographic cameras, or lenses that one angle cannot tell: of different focal lengths, or whose
    axis does not meet the middle of the picture."""
    height, width = cameras.size
    if cameras.projection != "perspective":
        raise RequestError("nerf-synthetic tells a field of view, which parallel rays do not have; use nerfstudio")
    if not same(cameras.focal.flatten().tolist()):
        raise RequestError("nerf-synthetic has one focal length for all views and both axes; use nerfstudio or colmap")
    x, y = cameras.principal.unbind(-1)
    if not same([width / 2, *x.tolist()]) or not same([height / 2, *y.tolist()]):
        raise RequestError("nerf-synthetic takes the optical axis to be in the middle; use nerfstudio or colmap")


def write(bundle: Bundle, folder: Path) -> None:
    """Write the views into an empty folder."""
    cameras = bundle.exact()
    height, width = cameras.size
    if bundle.pictures is not None and bundle.mattes is None:  # NeRF takes a picture's last channel for transparency
        bundle = replace(bundle, mattes=np.ones((*cameras.shape, *cameras.size), np.float32))
    bundle.write_layers(folder, images="train")
    frames = [
        {"file_path": f"./train/{name}", "transform_matrix": matrix}
        for name, matrix in zip(bundle.names(), cameras.camera_to_world_opengl.tolist(), strict=True)
    ]
    told = {"camera_angle_x": 2 * math.atan(width / (2 * float(cameras.focal[0, 0]))), "w": width, "h": height}
    for name in LISTS:
        place = folder / f"transforms_{name}.json"
        place.write_text(json.dumps({**told, "frames": frames}, indent=1) + "\n", encoding="utf-8")


def read(path: Path) -> Found:
    """The cameras of such a file; the same as nerfstudio's reader."""
    return read_transforms(path)
