"""Which world cameras are told in: pictures fix neither its origin, nor its axes, nor its unit.

Axis legend: V cameras, last axis x y z. The freedom is the gauge of Triggs et al., *Bundle Adjustment*, 2000, sec. 9.
"""

from __future__ import annotations

from typing import Literal

import torch

from safelight.core.camera import Camera
from safelight.core.similarity import Similarity
from safelight.errors import RequestError, UnknownNameError

CENTRES = ("focus", "mean", "first")


def normalised(
    cameras: Camera, centre: Literal["focus", "mean", "first"] = "focus", radius: float = 1.0
) -> tuple[Camera, Similarity]:
    """The same cameras in a world of a standard origin and unit.

    Args:
        cameras: [V].
        centre: ``focus`` = the point nearest to all optical axes goes to the origin and axes stay; ``mean`` = the mean
            of the positions does; ``first`` = the world turns to the first camera's axes as well, with the mean of the
            positions at the origin, as SEVA has it (with a radius of 2).
        radius: the distance from the origin, above 0, of the farthest camera; with ``first``, of the first camera.

    Returns:
        The cameras, and the way back: ``moved.moved(back)`` are the given ones, ``back.apply`` takes points.

    Raises:
        UnknownNameError: another centre. RequestError: no batch of cameras, a radius that is not above 0, cameras that
        all stand at the centre, or parallel axes, which have no focus.
    """
    if centre not in CENTRES:
        raise UnknownNameError("centre", centre, CENTRES)
    if len(cameras.shape) != 1 or not cameras.shape[0] or not 0 < radius < float("inf"):
        raise RequestError("normalised takes cameras [V] and a radius above 0")
    place = _focus(cameras) if centre == "focus" else cameras.position.mean(0)
    turned = cameras.rotation[0].mT if centre == "first" else torch.eye(3).to(cameras.position)
    reach = (cameras.position - place).norm(dim=-1)
    length = reach[0] if centre == "first" else reach.max()
    if not bool(length > 1e-6 * cameras.position.norm(dim=-1).max()):
        raise RequestError(f"cameras that stand at their own {centre} have no distance to make {radius:g}")
    scale = radius / length
    there = Similarity(turned, scale, -scale * (turned @ place))
    return cameras.moved(there), there.inverse()


def _focus(cameras: Camera) -> torch.Tensor:
    """[3], the point with the least sum of squared distances to the optical axes."""
    along = cameras.forward
    across = torch.eye(3).to(along) - along[:, :, None] * along[:, None, :]
    matrix, pulled = across.sum(0), (across @ cameras.position[..., None]).sum(0)[..., 0]
    if bool(torch.linalg.eigvalsh(matrix)[0] < 1e-6 * cameras.shape[0]):
        raise RequestError("parallel optical axes have no focus; normalise about the mean of the positions")
    found: torch.Tensor = torch.linalg.solve(matrix, pulled)
    return found
