"""What a perfect model would draw: held-out people from known cameras, with all that is exactly known of every pixel.

Axis legend: V views, H W pixels, last axis red green blue or x y z.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from safelight.core.camera import Camera
from safelight.errors import RequestError
from safelight.figurines.person import Person, random_people
from safelight.figurines.render import PORTRAIT, portrait, render
from safelight.figurines.splits import SEEDS
from safelight.multiview.bounds import checked
from safelight.multiview.figurine import HEAD

SPLIT: Final = "unseen"
"""The people of the trial: each shows two values together that no training portrait does (`figurines.splits`)."""
PLACES: Final = tuple((22.5 + 45.0 * k, (0.0, 20.0)[k % 2]) for k in range(8))
"""(azimuth, elevation) of the trial's eight cameras: all around, none of them the portrait's, at two heights."""
BETWEEN: Final = tuple((45.0 * k, 10.0) for k in range(8))
"""Eight more, in the gaps between those, for what is made of the views."""


@dataclass(frozen=True, eq=False)
class Truth:
    """One person as seen from V cameras.

    Attributes:
        person: who.
        cameras: [V].
        reference: uint8 [H, W, 3], the portrait that a model is given.
        pictures: uint8 [V, H, W, 3].
        mattes: float32 [V, H, W], 0 = background, 1 = figure.
        depth: float32 [V, H, W] along the optical axis at the pixels' centres; inf on the background.
        normals: float32 [V, H, W, 3] in the world, unit; zero on the background.
        labels: uint8 [V, H, W], places in ``figurines.shapes.LABELS``.
        coarse: like ``normals``, of the head without hair, ears, hat and glasses; what a model may be told.
    """

    person: Person
    cameras: Camera
    reference: np.ndarray
    pictures: np.ndarray
    mattes: np.ndarray
    depth: np.ndarray
    normals: np.ndarray
    labels: np.ndarray
    coarse: np.ndarray


def people(count: int, split: str = SPLIT) -> list[Person]:
    """The first ``count`` people of a split; a longer list begins like a shorter one.

    Raises:
        RequestError: a count below 1. UnknownNameError: an unknown split.
    """
    if count < 1:
        raise RequestError(f"a trial needs at least one person, not {count}")
    rng = np.random.default_rng(SEEDS.get(split, 0))
    found: list[Person] = []
    while len(found) < count:
        found += random_people(rng, 128, split)
    return found[:count]


def cameras(places: Sequence[tuple[float, float]] = PLACES, size: int = 64) -> Camera:
    """Cameras [V] at (azimuth, elevation) in degrees, at the distance and field of view of portraits."""
    azimuths, elevations = (list(angles) for angles in zip(*places, strict=True))
    distance, fov, target = (PORTRAIT[name] for name in ("distance", "fov", "target"))
    return Camera.orbit(azimuths, elevations, distance=distance, fov=fov, size=size, target=target)


def truth(person: Person, views: Camera) -> Truth:
    """Draw a person and all that is known of them.

    Raises:
        RequestError: cameras [V] that are none, more than 64, or inside the head.
    """
    checked(views, HEAD, PORTRAIT["target"])
    seen: list[dict[str, Any]] = []
    for view in range(views.shape[0]):
        drawn = render(person, views[view], buffers=("rgb", "mask", "normals", "depth", "labels"))
        coarse = render(person, views[view], buffers=("normals",), coarse=True).normals_world
        seen.append(
            {
                "pictures": drawn.rgb,
                "mattes": drawn.mask,
                "depth": drawn.depth,
                "normals": drawn.normals_world,
                "labels": drawn.labels,
                "coarse": coarse,
            }
        )
    maps = {name: np.stack([one[name] for one in seen]) for name in seen[0]}
    return Truth(person, views, portrait(person, views.size[0]), **maps)


def truths(count: int, views: Camera, split: str = SPLIT) -> Iterator[Truth]:
    """The first ``count`` people of a split, one after the other."""
    for person in people(count, split):
        yield truth(person, views)


def fitting(drawn: np.ndarray, true: Truth) -> np.ndarray:
    """The views as they are, if they can be held against the truth.

    Raises:
        RequestError: not uint8 [V, H, W, 3] for the truth's cameras.
    """
    if drawn.dtype != np.uint8 or drawn.shape != true.pictures.shape:
        wanted = f"uint8 {list(true.pictures.shape)}"
        raise RequestError(f"views of these cameras are {wanted}, not {drawn.dtype} {list(drawn.shape)}")
    return drawn
