"""What views are for: a small volume of colour fitted to them on the CPU, and seen again from elsewhere.

A cube of densities and colours, drawn by emission and absorption along rays (Max, 1995, eq. 8; Mildenhall et al., 2020,
eq. 3) and fitted by gradient descent. It begins as what all mattes cover (the visual hull: Laurentini, 1994). It has
one colour for all directions, so views that contradict each other blur.

Axis legend: V views, H W pixels, n rays, s samples along each, R cells along each side of the cube, channels density
red green blue; the cube's axes are stored z y x.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import grid_sample, interpolate, softplus

from safelight.core.camera import Camera
from safelight.errors import RequestError
from safelight.figurines.matte import background_color, matte
from safelight.figurines.render import PORTRAIT
from safelight.multiview.bundle import Bundle

HALF: Final = 1.9
"""Half the side of the cube, around the point that portraits look at; a head is about 2 wide."""
_EMPTY, _FULL = -5.0, 2.0
"""Densities to begin with, before ``softplus``, outside and inside of the hull."""
_DENSE: Final = 10.0


@dataclass(frozen=True)
class Fit:
    """How a volume is fitted.

    Attributes:
        cells: along each side of the cube, of the coarse and then of the fine volume.
        steps: of gradient descent, for each of the two.
        rays: of every step. samples: along every ray.
        rate: of learning (Adam). outline: weight of the mattes' error beside that of colours. seed: decides the rays.
    """

    cells: tuple[int, int] = (28, 56)
    steps: tuple[int, int] = (120, 160)
    rays: int = 1024
    samples: int = 56
    rate: float = 0.1
    outline: float = 0.2
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Volume:
    """A fitted cube: ``cells`` [1, 4, R, R, R] before ``softplus`` (density) and ``sigmoid`` (colours); what stands
    behind it, red green blue from 0 to 1; and samples along a ray."""

    cells: Tensor
    background: Tensor
    samples: int

    @torch.no_grad()
    def draw(self, cameras: Camera, chunk: int = 8192) -> np.ndarray:
        """Pictures from cameras [V]: uint8 [V, H, W, 3]."""
        origins, directions = (part.reshape(-1, 3) for part in cameras.rays())
        parts = zip(origins.split(chunk), directions.split(chunk), strict=True)
        colors = torch.cat([_seen(self.cells, o, d, self.samples, self.background)[0] for o, d in parts])
        pictures = (colors.clamp(0, 1) * 255).round().to(torch.uint8)
        return pictures.reshape(*cameras.shape, *cameras.size, 3).numpy()


def fit(bundle: Bundle, how: Fit | None = None) -> Volume:
    """Fit a volume to the pictures of a bundle; mattes and background are read from the pictures where they lack.

    The same bundle gives the same volume, on the same machine with the same number of threads.

    Raises:
        RequestError: a bundle without pictures.
    """
    if bundle.pictures is None:
        raise RequestError("a volume is fitted to pictures, and this bundle has none")
    how = how or Fit()
    ground = bundle.background or tuple(np.median([background_color(one) for one in bundle.pictures], axis=0).tolist())
    mattes = bundle.mattes if bundle.mattes is not None else np.stack([matte(one) for one in bundle.pictures])
    background = torch.tensor(ground, dtype=torch.float32)
    origins, directions = (part.reshape(-1, 3) for part in bundle.cameras.rays())
    colors = torch.from_numpy(bundle.pictures).reshape(-1, 3).float() / 255
    covered = torch.from_numpy(mattes.astype(np.float32))
    cells = hull(bundle.cameras, covered, how.cells[0])
    covered = covered.reshape(-1)
    source = torch.Generator().manual_seed(how.seed)
    for size, steps in zip(how.cells, how.steps, strict=True):
        cells = interpolate(cells, (size, size, size), mode="trilinear", align_corners=False).requires_grad_()
        optimizer = torch.optim.Adam([cells], how.rate, betas=(0.9, 0.99))
        for _ in range(steps):
            chosen = torch.randint(len(colors), (how.rays,), generator=source)
            found, share = _seen(cells, origins[chosen], directions[chosen], how.samples, background)
            loss = (found - colors[chosen]).square().mean()
            loss = loss + how.outline * (share - covered[chosen]).square().mean()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        cells = cells.detach()
    return Volume(cells, background, how.samples)


def hull(cameras: Camera, mattes: Tensor, size: int) -> Tensor:
    """The cube to begin with, grey and dense where the mattes [V, H, W] of all views cover it: [1, 4, R, R, R]."""
    steps = (torch.arange(size) + 0.5) / size * 2 - 1
    z, y, x = torch.meshgrid(steps, steps, steps, indexing="ij")
    points = torch.stack([x, y, z], -1).reshape(-1, 3) * HALF + torch.tensor(PORTRAIT["target"])
    pixels, _ = cameras.project(points)
    height, width = cameras.size
    place = pixels / pixels.new_tensor([width, height]) * 2 - 1
    # Outside of a picture nothing is known: what lies there is kept.
    wide = torch.nn.functional.max_pool2d(mattes[:, None], 3, 1, 1)
    found = grid_sample(wide, place[:, None], mode="nearest", align_corners=False)[:, 0, 0]
    unseen = (place.abs() > 1).any(-1)
    inside = ((found > 0) | unseen).all(0) & ~unseen.all(0)
    cells = torch.zeros(1, 4, size, size, size)
    cells[0, 0] = torch.where(inside, _FULL, _EMPTY).reshape(size, size, size)
    return cells


def _seen(
    cells: Tensor, origins: Tensor, directions: Tensor, samples: int, background: Tensor
) -> tuple[Tensor, Tensor]:
    """What rays [n, 3] see of the cube before the background: colours [n, 3] and how much it covers [n]."""
    start = (origins - origins.new_tensor(PORTRAIT["target"])) / HALF
    slope = torch.where(directions.abs() < 1e-9, 1e-9, directions) / HALF
    first, last = (-1 - start) / slope, (1 - start) / slope
    near = torch.minimum(first, last).amax(-1).clamp(min=0)
    far = torch.maximum(first, last).amin(-1).maximum(near)
    step = (far - near) / samples
    along = near[:, None] + (torch.arange(samples) + 0.5) * step[:, None]
    places = start[:, None] + along[..., None] * slope[:, None]
    found = grid_sample(cells, places[None, None], mode="bilinear", padding_mode="border", align_corners=False)[0, :, 0]
    passed = softplus(found[0]) * _DENSE * step[:, None]
    clear = torch.exp(-passed.cumsum(-1))
    weight = torch.cat([1 - clear[:, :1], clear[:, :-1] - clear[:, 1:]], 1)
    share = 1 - clear[:, -1]
    colors = (weight * found[1:].sigmoid()).sum(-1).T
    return colors + (1 - share)[:, None] * background, share
