"""One pose in the ways that other programs write it.

Axis legend: V views. A camera-to-world matrix has the camera's axes as its columns and its position as the last; a
world-to-camera matrix is its inverse.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from safelight.core.camera import Camera
from safelight.errors import UnknownNameError
from safelight.multiview.export.colmap import quaternion


class Convention(NamedTuple):
    """How poses are told: rows of numbers for every view [V], what they are, and who has them so."""

    poses: Callable[[Camera], list[list[list[float]]]]
    what: str
    who: str


def _colmap(cameras: Camera) -> list[list[list[float]]]:
    """QW QX QY QZ TX TY TZ."""
    return [[[*quaternion(pose[:3, :3]), *pose[:3, 3].tolist()]] for pose in cameras.world_to_camera]


CONVENTIONS: Final[dict[str, Convention]] = {
    "opencv-c2w": Convention(
        lambda cameras: cameras.camera_to_world.tolist(),
        "camera to world; x right, y down, z forward",
        "safelight, SEVA",
    ),
    "opencv-w2c": Convention(
        lambda cameras: cameras.world_to_camera.tolist(),
        "world to camera; x right, y down, z forward",
        "gsplat, GS-LRM",
    ),
    "opengl-c2w": Convention(
        lambda cameras: cameras.camera_to_world_opengl.tolist(),
        "camera to world; x right, y up, z backward",
        "nerfstudio, Blender, NeRF, MVDream",
    ),
    "colmap": Convention(
        _colmap, "world to camera as QW QX QY QZ TX TY TZ; x right, y down, z forward", "COLMAP, 3DGS"
    ),
}


def convention(name: str) -> Convention:
    """The convention of that name; UnknownNameError names the nearest."""
    if name not in CONVENTIONS:
        raise UnknownNameError("convention", name, CONVENTIONS)
    return CONVENTIONS[name]
