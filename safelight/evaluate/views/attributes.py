"""What the exact checker sees in views, and whether it is the person.

The checker reads a picture from any camera at the distance and field of view of portraits, of 64, 128 or a multiple of
128 pixels a side. It reads each view alone and is never told who it is. Only what a view shows is counted
(`figurines.checker.telling`): no eyes from behind.

Axis legend: N people, V views, H W pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from hashlib import blake2b

import numpy as np

from safelight.core.camera import Camera
from safelight.errors import RequestError
from safelight.evaluate.figurines.pictures import Tell, compare, pool
from safelight.evaluate.views.truth import cameras as orbit
from safelight.figurines.checker import read, telling
from safelight.figurines.person import Person
from safelight.figurines.render import PORTRAIT
from safelight.figurines.scores import Scores

Seen = Sequence[Mapping[str, str]]
"""Attribute -> value, a view each."""


def places(views: Camera) -> list[tuple[float, float]]:
    """Azimuth and elevation, in degrees, of cameras [V] that the checker can read from.

    Raises:
        RequestError: cameras that are not at the distance and field of view of portraits.
    """
    azimuths, elevations, _ = views.angles(PORTRAIT["target"])
    found = [(round(float(a), 3), round(float(e), 3)) for a, e in zip(azimuths, elevations, strict=True)]
    wanted = orbit(found, views.size[0])
    same = views.projection == "perspective" and views.size[0] == views.size[1]
    parts = ("rotation", "position", "focal", "principal")
    if not same or any(not np.allclose(getattr(views, p), getattr(wanted, p), atol=1e-2) for p in parts):
        raise RequestError("the checker reads views from cameras like a portrait's, moved around the figure, no others")
    return found


Known = dict[tuple[int, bytes], dict[str, str]]
"""What was read already: the number of the view and its picture's digest -> attribute -> value."""


def seen(
    drawn: np.ndarray, views: Camera, workers: int, tell: Tell, known: Known | None = None
) -> list[list[dict[str, str]]]:
    """Read views uint8 [N, V, H, W, 3]: attribute -> value for every person and view. A picture that comes again in
    the same view (grey ones, means, people in another order) is read once.

    Args:
        known: of the same cameras; what is read is added.

    Raises:
        RequestError: cameras that the checker cannot read from. ImageError: pictures of another size.
    """
    known = {} if known is None else known
    found: list[list[dict[str, str]]] = [[] for _ in drawn]
    with pool(workers) as executor:
        for view, (azimuth, elevation) in enumerate(places(views)):  # all of one place together: see `read`
            reader = partial(read, azimuth=azimuth, elevation=elevation)
            keys = [(view, blake2b(picture.tobytes(), digest_size=16).digest()) for picture in drawn[:, view]]
            new = {key: picture for key, picture in zip(keys, drawn[:, view], strict=True) if key not in known}
            rows = executor.map(reader, new.values(), chunksize=8) if executor else map(reader, new.values())
            known.update(zip(new, rows, strict=True))
            for person, key in enumerate(keys):
                found[person].append(known[key])
            tell("views read", (view + 1) * len(drawn), drawn.shape[0] * drawn.shape[1])
    return found


def stated(people: Sequence[Person], views: Camera) -> list[list[dict[str, str]]]:
    """What every view [V] shows of every person: attribute -> value, for every person and view."""
    found: list[list[dict[str, str]]] = [[] for _ in people]
    for azimuth, elevation in places(views):
        for one, person in enumerate(people):
            found[one].append(telling(asdict(person), azimuth, elevation))
    return found


def scores(found: Sequence[Seen], said: Sequence[Seen]) -> Scores:
    """Count what was seen of what is shown, all views of all people; a "figure" is one view."""
    return compare([view for row in found for view in row], [view for row in said for view in row])
