"""Views drawn once more, larger, by an upscaler that is shown their latents.

Axes: V views, H W pixels, [1, Z, V, h, w] latents. Source: Tang et al. 2412.10209, section 3.4 (GAF's views of 32 x 32
latents become such of 64 x 64).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from torch import Tensor

from safelight.errors import RequestError
from safelight.generate.chain import larger
from safelight.generate.pipe import Drawn, Pipe, Shown
from safelight.generate.request import Request
from safelight.generate.settle import Settled
from safelight.generate.telling import texts
from safelight.generate.views import ViewRequest
from safelight.multiview.model import ViewModel


def settle(upscaler: Pipe, model: ViewModel, asked: ViewRequest) -> list[Settled]:
    """What will be computed of every view, before any is drawn: the text of the request, view v with its seed + v.

    Raises:
        RequestError: the model's views are normals, too, or the upscaler is for other latents.
    """
    if len(model.preset.domains) > 1:
        raise RequestError(f"{model.name} draws {' and '.join(model.preset.domains)}; an upscaler knows colours alone")
    prompt, negative = texts(model.preset, asked)
    size = (model.preset.size, model.preset.size)
    numbers = asked.numbers or range(asked.cameras.shape[0])
    requests = [Request(prompt, negative=negative, seed=asked.seed + number) for number in numbers]
    return [larger(model.latent, upscaler.model, each, size) for each in requests]


def enlarge(upscaler: Pipe, settled: Sequence[Settled], latents: Tensor) -> Iterator[Shown]:
    """Draw the views in their order; the last of each brings its picture.

    Args:
        latents: of the finished views.
    """
    for view, each in enumerate(settled):
        yield from upscaler.enlarge(each, latents[:, :, view])


def pictures(drawn: Sequence[Drawn]) -> np.ndarray:
    """What was drawn, uint8 [V, H, W, 3]."""
    return np.stack([np.asarray(each.image) for each in drawn])
