"""Views of the trial's people as a model draws them.

Axes: N people, V views, H W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from safelight.core.camera import Camera
from safelight.evaluate.figurines.pictures import Tell
from safelight.evaluate.views.truth import Truth
from safelight.figurines.dataset import normal_map
from safelight.figurines.render import portrait_camera, render
from safelight.figurines.sheet import sheet
from safelight.generate.views import ViewRequest, draw
from safelight.multiview.model import ViewModel


@dataclass(frozen=True)
class Settings:
    """How views are drawn: as in `ViewRequest`; ``seed`` is of the first person, the next has one more."""

    steps: int | None = None
    guidance: float | None = None
    seed: int = 0
    sampler: str | None = None


def drawn(model: ViewModel, truths: Sequence[Truth], asked: Settings, tell: Tell) -> np.ndarray:
    """uint8 [N, V, H, W, 3].

    Raises:
        RequestError, ImageError: see `safelight.generate.views.draw`.
    """
    made = []
    for number, true in enumerate(truths):
        mine = replace(
            request(model, true),
            steps=asked.steps,
            guidance=asked.guidance,
            sampler=asked.sampler,
            seed=asked.seed + number,
        )
        *_, last = draw(model, mine)
        made.append(last.pictures())
        tell("drawn", len(made), len(truths))
    return np.stack(made)


def request(model: ViewModel, true: Truth) -> ViewRequest:
    """What a model is given of one person: the portrait, the cameras, and coarse normals where it reads them."""
    portrait = Image.fromarray(true.reference)
    if not model.preset.shown:
        return ViewRequest(portrait, true.cameras)
    cameras = [true.cameras[view] for view in range(true.cameras.shape[0])]
    *maps, own = (_coarse(true, camera) for camera in (*cameras, portrait_camera(len(true.reference))))
    return ViewRequest(portrait, true.cameras, maps, own)


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
    return sheet(pairs, [""] * len(pairs), columns=1)
