"""Normals as pictures: those that a network has drawn, turned into the axes of each view's own camera; and whether
those that one is to be shown are in these axes.

Axes: V views, H W pixels, last axis x y z. Wonder3D and Era3D tell normals in the axes of the first camera, as the code
says that makes surfaces of them (issue 99 of the one, ``instant-nsr-pl/datasets/ortho.py`` of both).
"""

from __future__ import annotations

from typing import Final

import numpy as np

from safelight.core.camera import Camera

UPRIGHT = np.array([1.0, -1.0, -1.0], np.float32)
"""From axes x right, y up, z towards the viewer to OpenCV's, and back."""


def own_axes(pictures: np.ndarray, cameras: Camera) -> np.ndarray:
    """Unit normals float32 [V, H, W, 3] in each camera's OpenCV axes.

    Where a network draws no thing, what it says is turned, too; it knows no background.

    Args:
        pictures: uint8 [V, H, W, 3], 127.5 (n + 1) in the axes of the first camera: x right, y up, z towards it.
        cameras: [V].
    """
    told = (pictures.astype(np.float32) / 127.5 - 1.0) * UPRIGHT
    length = np.linalg.norm(told, axis=-1, keepdims=True)
    turn = (cameras.rotation.mT @ cameras.rotation[0]).to("cpu").numpy()
    return np.einsum("vij,vhwj->vhwi", turn, told / np.maximum(length, 1e-6)).astype(np.float32)


AXES: Final = "each view's own camera: x right, y up, z towards it, as colours 127.5 (n + 1) before a plain ground"
"""How normals are to be given."""
_GROUND, _LENGTH, _BACK, _SHARE = 0.2, 0.3, -0.25, 0.9


def misread(picture: np.ndarray) -> str:
    """Why a picture cannot be normals in the axes `AXES`; "" if it can.

    What a camera sees faces it. In the axes of a world, or with z the other way, a good part would look away.

    Args:
        picture: uint8 [H, W, 3]; one colour all over shows nothing and is never wrong.
    """
    colours = picture.reshape(-1, 3).astype(np.float32) / 127.5 - 1.0
    edge = np.concatenate([picture[0], picture[-1], picture[:, 0], picture[:, -1]])
    ground = np.median(edge, axis=0) / 127.5 - 1.0
    seen = colours[np.abs(colours - ground).max(-1) > _GROUND]
    if not len(seen):
        return ""
    unit = np.abs(np.linalg.norm(seen, axis=-1) - 1.0) < _LENGTH
    if unit.mean() < _SHARE:
        return f"{1 - unit.mean():.0%} of what it shows are no directions, whose length is 1"
    away = (seen[unit][:, 2] < _BACK).mean()
    return f"{away:.0%} of what it shows look away from the camera" if away > 1 - _SHARE else ""
