"""From one pass of a picture to the next: enlarged, as a picture or as latents, or handed over as it is, still noisy.

Axes: [1, Z, h, w] latents as the network sees them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from safelight.core.sample import Changing
from safelight.families.family import Model
from safelight.generate.chain import SHOWN
from safelight.generate.hires import PICTURE
from safelight.generate.image import Scene, decode, encode, finish, hole
from safelight.generate.picture import to_picture, to_tensor
from safelight.generate.settle import HANDED, INVERTED, Settled


@torch.no_grad()
def carried(model: Model, settled: Settled, scene: Scene, left: Tensor, seen: Tensor | None = None) -> Scene:
    """The scene of a later pass over what the one before it ``left``.

    Args:
        seen: what the network was shown when it drew that; it is shown it again.
    """
    if settled.begin == HANDED:
        return replace(scene, known=None, state=left)
    if settled.begin == INVERTED:
        return replace(scene, state=left)
    if settled.begin == SHOWN:
        return replace(scene, conds={name: _shown(model, cond, left) for name, cond in scene.conds.items()})
    if settled.begin == PICTURE:
        if seen is not None:
            scene = carried(model, replace(settled, begin=SHOWN), scene, seen)
        small = to_picture(finish(settled.request, decode(model, left)))
        return replace(scene, known=encode(model, finish(settled.request, to_tensor(small, settled.size))))
    _, height, width = model.latent.shape(*settled.size)
    large = F.interpolate(left, size=(height, width), mode=settled.begin)
    if settled.request.mask is not None and scene.known is not None:  # around the hole the image, as in the first pass
        large = torch.where(hole(settled, large).bool(), large, scene.known)
    return replace(scene, known=large)


def _shown(model: Model, cond: Any, left: Tensor) -> Any:
    """A condition whose network is shown what was drawn; one for each step where they change."""
    if isinstance(cond, Changing):
        return replace(cond, conds=tuple(_shown(model, each, left) for each in cond.conds))
    assert model.enlarge is not None and model.enlarge.show is not None
    return model.enlarge.show(cond, left)
