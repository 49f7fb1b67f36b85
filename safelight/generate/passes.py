"""From one pass of a picture to the next: enlarged, as a picture or as latents, or handed over as it is, still noisy.

Axes: [1, Z, h, w] latents as the network sees them.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from safelight.families.family import Model
from safelight.generate.hires import PICTURE
from safelight.generate.image import Scene, decode, encode
from safelight.generate.picture import to_picture, to_tensor
from safelight.generate.settle import HANDED, INVERTED, Settled


@torch.no_grad()
def carried(model: Model, settled: Settled, scene: Scene, left: Tensor) -> Scene:
    """The scene of a later pass over what the one before it ``left``."""
    if settled.begin == HANDED:
        return replace(scene, known=None, state=left)
    if settled.begin == INVERTED:
        return replace(scene, state=left)
    if settled.begin == PICTURE:
        return replace(scene, known=encode(model, to_tensor(to_picture(decode(model, left)), settled.size)))
    _, height, width = model.latent.shape(*settled.size)
    return replace(scene, known=F.interpolate(left, size=(height, width), mode=settled.begin))
