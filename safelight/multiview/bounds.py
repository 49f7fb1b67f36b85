"""What views must be before anything is drawn or written with them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from safelight.core.camera import Camera
from safelight.errors import RequestError

MOST_VIEWS: Final = 64
NEAREST: Final = 0.5
"""The radius of the ball that rigs are made around: a camera that is nearer stands inside what it is to see."""


def checked(cameras: Camera, nearest: float = NEAREST, target: Sequence[float] = (0.0, 0.0, 0.0)) -> Camera:
    """The cameras as they are, if they can be the views of one thing.

    Args:
        cameras: [V], 1 to 64.
        nearest: the radius of a ball around ``target`` that cameras stand outside of; 0 = anywhere.

    Raises:
        RequestError: no batch, none or too many views, or a camera inside the ball.
    """
    if len(cameras.shape) != 1:
        raise RequestError(f"views are cameras [V], with one leading dimension, not {tuple(cameras.shape)}")
    if not 1 <= cameras.shape[0] <= MOST_VIEWS:
        raise RequestError(f"there are 1 to {MOST_VIEWS} views, not {cameras.shape[0]}")
    distances = cameras.angles(target)[2].tolist()
    for view, distance in enumerate(distances):
        if distance < nearest:
            raise RequestError(f"view {view} stands inside the head: at a distance of {distance:g}, below {nearest:g}")
    return cameras
