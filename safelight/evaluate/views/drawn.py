"""Views of the trial's people as a model draws them.

Axes: N people, V views, H W pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import repeat
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image

from safelight.core.camera import Camera
from safelight.evaluate.figurines.pictures import Tell, pool
from safelight.evaluate.views.truth import Truth
from safelight.figurines.dataset import normal_map
from safelight.figurines.render import portrait_camera, render
from safelight.figurines.sheet import sheet
from safelight.generate.views import ViewRequest, draw
from safelight.multiview.model import ViewModel, load
from safelight.runtime.device import pick

PART: Final = 4
"""People that a process draws before it says so."""
ALONE: Final = 1
FEW: Final = 4
"""The most views that the default plan of training has in a set."""


@dataclass(frozen=True)
class Settings:
    """How views are drawn: as in `ViewRequest`; ``seed`` is of the first person, the next has one more.

    ``at_once``: at most so many views of a person are drawn together and read each other, 1 and up; None for all.
    """

    steps: int | None = None
    guidance: float | None = None
    seed: int = 0
    sampler: str | None = None
    at_once: int | None = None


def drawn(model: ViewModel, truths: Sequence[Truth], asked: Settings, tell: Tell, workers: int = 1) -> np.ndarray:
    """uint8 [N, V, H, W, 3]. A view's noise is the same however many are drawn at once.

    Args:
        workers: processes that draw, 1 and up; several read the model's folder anew, on the CPU, with one thread each:
            for models as small as ours more threads draw no faster.

    Raises:
        RequestError, ImageError: see `safelight.generate.views.draw`.
    """
    title = "drawn" if asked.at_once is None else f"drawn, {asked.at_once} at a time"
    if workers > 1:
        return _in_parts(model.folder, truths, asked, partial(tell, title), workers)
    made = []
    for number, true in enumerate(truths):
        pictures: dict[int, np.ndarray] = {}
        for views in sets(true.cameras.shape[0], asked.at_once):
            mine = replace(
                request(model, true, views),
                steps=asked.steps,
                guidance=asked.guidance,
                sampler=asked.sampler,
                seed=asked.seed + number,
            )
            *_, last = draw(model, mine)
            pictures |= zip(views, last.pictures(), strict=True)
        made.append(np.stack([pictures[view] for view in sorted(pictures)]))
        tell(title, len(made), len(truths))
    return np.stack(made)


def _in_parts(
    folder: Path, truths: Sequence[Truth], asked: Settings, tell: Callable[[int, int], None], workers: int
) -> np.ndarray:
    made: list[np.ndarray] = []
    firsts = range(0, len(truths), PART)
    seeds = [replace(asked, seed=asked.seed + first) for first in firsts]
    with pool(workers) as executor:
        assert executor is not None
        for part in executor.map(_part, repeat(folder), (truths[first : first + PART] for first in firsts), seeds):
            made.extend(part)
            tell(len(made), len(truths))
    return np.stack(made)


def _part(folder: Path, truths: Sequence[Truth], asked: Settings) -> np.ndarray:
    return drawn(_loaded(folder), truths, asked, lambda *_: None)


@cache
def _loaded(folder: Path) -> ViewModel:
    return load(folder, pick("cpu", threads=1))


def sets(count: int, at_once: int | None) -> list[range]:
    """The numbers of the views that are drawn together: as few sets as can be, each spread over all ``count`` views,
    since sets of training are not of neighbours either."""
    number = 1 if at_once is None else -(-count // at_once)
    return [range(first, count, number) for first in range(number)]


def request(model: ViewModel, true: Truth, views: Sequence[int]) -> ViewRequest:
    """What a model is given of one person: the portrait, the cameras of the views of these numbers, and coarse normals
    where it reads them."""
    plain = ViewRequest(Image.fromarray(true.reference), true.cameras[(list(views),)], numbers=views)
    if "normals" not in model.preset.shown:
        return plain
    cameras = [true.cameras[view] for view in views]
    *maps, own = (_coarse(true, camera) for camera in (*cameras, portrait_camera(len(true.reference))))
    return replace(plain, normals=maps, own_normals=own)


def _coarse(true: Truth, camera: Camera) -> Image.Image:
    normals = render(true.person, camera, buffers=("normals",), coarse=True).normals_camera
    assert normals is not None
    return Image.fromarray(normal_map(normals))


def contact_sheet(truths: Sequence[Truth], views: np.ndarray, count: int = 6) -> Image.Image:
    """The first ``count`` people, two rows each: the portrait and the true views, and beneath what was drawn."""
    pairs = []
    for true, mine in list(zip(truths, views, strict=True))[:count]:
        above, below = ([true.reference, *row] for row in (true.pictures, mine))
        pairs.append(np.concatenate([np.concatenate(above, 1), np.concatenate(below, 1)], 0))
    return sheet(pairs, columns=1)
