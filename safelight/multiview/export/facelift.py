"""``opencv_cameras.json`` as GS-LRM and FaceLift read it: world to camera, OpenCV axes, a lens for every view.

Facts: github.com/weijielyu/FaceLift, data_sample/gslrm.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

import torch

from safelight.core.camera import Camera
from safelight.errors import ConfigError, RequestError
from safelight.multiview.bundle import Bundle
from safelight.multiview.export.found import Found, built, lens, number, pose, sized, text, unknown
from safelight.weights.folder import read_json

FILE: Final = "opencv_cameras.json"
KEYS: Final = ("w", "h", "fx", "fy", "cx", "cy", "w2c", "file_path")


def check(cameras: Camera) -> None:
    """RequestError for orthographic cameras."""
    if cameras.projection != "perspective":
        raise RequestError("GS-LRM casts the rays of pinhole cameras; orthographic ones have no place in its file")


def write(bundle: Bundle, folder: Path) -> None:
    """Write the views into an empty folder."""
    cameras = bundle.exact()
    bundle.write_layers(folder)
    height, width = cameras.size
    poses, focal, principal = (p.tolist() for p in (cameras.world_to_camera, cameras.focal, cameras.principal))
    frames = [
        {"w": width, "h": height, "fx": fx, "fy": fy, "cx": cx, "cy": cy, "w2c": w2c, "file_path": f"images/{name}.png"}
        for name, w2c, (fx, fy), (cx, cy) in zip(bundle.names(), poses, focal, principal, strict=True)
    ]
    (folder / FILE).write_text(json.dumps({"frames": frames}, indent=1) + "\n", encoding="utf-8")


def read(path: Path) -> Found:
    """The cameras of an ``opencv_cameras.json``.

    Raises:
        ConfigError: it is no such file, has keys that are not read, pictures of several sizes, or a pose that is none.
        WeightsError: it cannot be read.
    """
    told, where = read_json(path), str(path)
    unknown(where, told, ("frames", "scene_name"))
    frames = told.get("frames")
    if not isinstance(frames, list) or not frames or not all(isinstance(frame, dict) for frame in frames):
        raise ConfigError(f"{where}: frames must be a list of at least one view")
    for index, frame in enumerate(frames):
        unknown(f"{where}: frame {index}", frame, KEYS)
    rows = [(f"{where}: frame {index}", frame) for index, frame in enumerate(frames)]
    size = sized(where, [(number(here, row, "h"), number(here, row, "w")) for here, row in rows])
    poses = torch.stack([pose(here, row, "w2c") for here, row in rows])
    lenses = torch.stack([lens(*(number(here, row, key) for key in ("fx", "fy", "cx", "cy"))) for here, row in rows])
    files = tuple(text(here, row, "file_path") for here, row in rows)
    return built(path, files, lambda: Camera.from_opencv(poses, lenses, size))
