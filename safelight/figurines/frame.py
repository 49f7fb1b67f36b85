"""A golden frame around a picture: something that no portrait of the toy world has, and that can be measured exactly.

Axes: H W pixels, last axis red green blue, uint8.
"""

from __future__ import annotations

from typing import Final

import numpy as np

__all__ = ["GOLD", "framed", "has_frame", "share", "unframed"]

GOLD: Final = (212, 175, 55)
PART: Final = 16
"""The edge of a picture by the breadth of its frame."""
NEAR: Final = 80.0
"""A pixel is golden when it is no farther than this from `GOLD`, in steps of 255 as the crow flies: what the default
model's autoencoder, which never saw one, makes of a frame is mostly nearer."""
ENOUGH: Final = 0.8
"""Share of the frame's pixels that are golden, from which on there is a frame."""


def framed(picture: np.ndarray) -> np.ndarray:
    """The picture [H, W, 3] with a frame over its edges."""
    made = np.empty_like(picture)
    made[:] = np.array(GOLD, np.uint8)
    inside = _inside(picture)
    made[inside] = picture[inside]
    return made


def unframed(picture: np.ndarray) -> np.ndarray:
    """The picture with what lies beside the frame instead of the frame: what the checker reads."""
    breadth = len(picture) // PART
    return np.pad(picture[_inside(picture)], ((breadth, breadth), (breadth, breadth), (0, 0)), mode="edge")


def share(picture: np.ndarray) -> float:
    """Share of the frame's pixels that are golden, 0 to 1."""
    far = np.linalg.norm(picture.astype(np.float32) - np.array(GOLD, np.float32), axis=-1)
    edge = np.ones(far.shape, bool)
    edge[_inside(picture)] = False
    return float((far[edge] <= NEAR).mean())


def has_frame(picture: np.ndarray) -> bool:
    """Whether most of the frame is golden."""
    return share(picture) >= ENOUGH


def _inside(picture: np.ndarray) -> tuple[slice, slice]:
    breadth = len(picture) // PART
    return slice(breadth, len(picture) - breadth), slice(breadth, picture.shape[1] - breadth)
