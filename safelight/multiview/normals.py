"""Normals that a network has drawn, turned into the axes of each view's own camera.

Axes: V views, H W pixels, last axis x y z. Wonder3D and Era3D tell normals in the axes of the first camera, as the code
says that makes surfaces of them (issue 99 of the one, ``instant-nsr-pl/datasets/ortho.py`` of both).
"""

from __future__ import annotations

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
