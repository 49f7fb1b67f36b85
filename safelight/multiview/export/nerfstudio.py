"""``transforms.json`` as nerfstudio and Instant-NGP read it: camera-to-world matrices with OpenGL axes.

Facts: docs.nerf.studio, "Data conventions". Masks are written but not named in the file: nerfstudio leaves masked
pixels out of training, while transparency tells it that nothing is there. NeRF's own ``camera_angle_x`` is read, too.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from safelight.core.camera import Camera
from safelight.errors import ConfigError, ImageError
from safelight.multiview.bundle import Bundle
from safelight.multiview.export.found import Found, built, lens, number, pose, sized, text, unknown
from safelight.weights.folder import read_json

FILE: Final = "transforms.json"
MODELS: Final = {"perspective": "OPENCV", "orthographic": "ORTHOPHOTO"}
PINHOLES: Final = ("OPENCV", "PINHOLE", "SIMPLE_PINHOLE")
LENS: Final = ("fl_x", "fl_y", "cx", "cy", "w", "h")
BENT: Final = ("k1", "k2", "k3", "k4", "k5", "k6", "p1", "p2")
ANGLES: Final = ("camera_angle_x", "camera_angle_y")
# What does not change where a camera stands or which ray belongs to a pixel.
PASSED: Final = (
    "applied_transform", "applied_scale", "orientation_override", "ply_file_path", "integer_depth_scale",
    "aabb_scale", "scale", "offset", "background", "train_filenames", "val_filenames", "test_filenames",
)  # fmt: skip
PASSED_FRAME: Final = (
    "mask_path", "depth_file_path", "normal_file_path", "sharpness", "colmap_im_id", "rotation", "time",
)  # fmt: skip


def write(bundle: Bundle, folder: Path) -> None:
    """Write the views into an empty folder."""
    bundle.write_layers(folder)
    cameras = bundle.exact()
    lenses = [_lens(cameras, view) for view in range(cameras.shape[0])]
    shared = all(one == lenses[0] for one in lenses)
    paths = {"depth": "depth_file_path", "normals": "normal_file_path"}
    frames = []
    for view, name in enumerate(bundle.names()):
        frame: dict[str, Any] = {"file_path": f"images/{name}.png"}
        frame |= {word: f"{layer}/{name}.png" for layer, word in paths.items() if layer in bundle.layers()}
        frame |= {"transform_matrix": cameras.camera_to_world_opengl[view].tolist()}
        frames.append(frame if shared else {**frame, **lenses[view]})
    told = {
        "camera_model": MODELS[cameras.projection],
        **(lenses[0] if shared else {}),
        "applied_transform": torch.eye(4)[:3].tolist(),
        "orientation_override": "none",
        "ply_file_path": "points.ply",
        **({} if bundle.background is None else {"background": list(bundle.background)}),
        "frames": frames,
    }
    (folder / FILE).write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    _write_ply(folder / "points.ply", *bundle.cloud())


def _lens(cameras: Camera, view: int) -> dict[str, float]:
    height, width = cameras.size
    (fx, fy), (cx, cy) = cameras.focal[view].tolist(), cameras.principal[view].tolist()
    flat = dict.fromkeys(("k1", "k2", "p1", "p2"), 0.0)
    return {"w": width, "h": height, "fl_x": fx, "fl_y": fy, "cx": cx, "cy": cy, **flat}


def _write_ply(path: Path, points: np.ndarray, colors: np.ndarray) -> None:
    """A cloud of points as text."""
    head = ["ply", "format ascii 1.0", f"element vertex {len(points)}"]
    head += [f"property float {axis}" for axis in "xyz"] + [f"property uchar {c}" for c in ("red", "green", "blue")]
    rows = [
        f"{x:.6f} {y:.6f} {z:.6f} {r} {g} {b}"
        for (x, y, z), (r, g, b) in zip(points.tolist(), colors.tolist(), strict=True)
    ]
    path.write_text("\n".join([*head, "end_header", *rows]) + "\n", encoding="ascii")


def read(path: Path) -> Found:
    """The cameras of a ``transforms*.json``.

    Raises:
        ConfigError: it is no such file, has keys that are not read, a lens that bends, pictures of several sizes, or a
            pose that is none. WeightsError: it cannot be read.
    """
    told, where = read_json(path), str(path)
    unknown(where, told, ("frames", "camera_model", *LENS, *BENT, *ANGLES, *PASSED))
    frames = told.get("frames")
    if not isinstance(frames, list) or not frames or not all(isinstance(frame, dict) for frame in frames):
        raise ConfigError(f"{where}: frames must be a list of at least one view")
    sizes, matrices, lenses, files = [], [], [], []
    for index, frame in enumerate(frames):
        here = f"{where}: frame {index}"
        unknown(here, frame, ("file_path", "transform_matrix", *LENS, *BENT, *PASSED_FRAME))
        row = {**{key: told[key] for key in (*LENS, *BENT, *ANGLES) if key in told}, **frame}
        files.append(text(here, frame, "file_path"))
        size = _size(here, row, path.parent / files[-1])
        sizes.append(size)
        lenses.append(_intrinsics(here, row, size))
        matrices.append(pose(here, frame, "transform_matrix"))
    projection = _projection(where, told)
    size = sized(where, sizes)
    made = torch.stack(matrices), torch.stack(lenses)
    return built(path, tuple(files), lambda: Camera.from_opengl(*made, size, projection))


def _projection(where: str, told: Mapping[str, Any]) -> Any:
    model = told.get("camera_model", "OPENCV")
    if model == "ORTHOPHOTO":
        return "orthographic"
    if model not in PINHOLES:
        known = ", ".join((*PINHOLES, "ORTHOPHOTO"))
        raise ConfigError(f"{where}: camera_model {str(model)[:40]!r} is not read; {known} are. Undistort the pictures")
    return "perspective"


def _size(where: str, row: Mapping[str, Any], picture: Path) -> tuple[float, float]:
    """(height, width): told, or those of the picture, whose ending NeRF's own files leave out."""
    if "w" in row and "h" in row:
        return number(where, row, "h"), number(where, row, "w")
    place = picture if picture.suffix else picture.with_name(f"{picture.name}.png")
    try:
        with Image.open(place) as opened:
            return opened.height, opened.width
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise ImageError(f"{where} has no w and h, and its picture {place} cannot be read ({error})") from None


def _intrinsics(where: str, row: Mapping[str, Any], size: tuple[float, float]) -> Tensor:
    """K, from focal lengths or from NeRF's angle."""
    height, width = size
    for key in BENT:
        if key in row and number(where, row, key) != 0:
            raise ConfigError(f"{where}: {key} bends the picture; undistort it first")
    if "fl_x" in row:
        fx = number(where, row, "fl_x")
    elif "camera_angle_x" in row:
        fx = width / (2 * math.tan(number(where, row, "camera_angle_x") / 2))
    else:
        raise ConfigError(f"{where} says neither fl_x nor camera_angle_x")
    fy = number(where, row, "fl_y") if "fl_y" in row else fx
    cx = number(where, row, "cx") if "cx" in row else width / 2
    cy = number(where, row, "cy") if "cy" in row else height / 2
    return lens(fx, fy, cx, cy)
