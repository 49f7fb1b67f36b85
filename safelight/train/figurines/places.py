"""How much each place of the latents counts in the error, so that a mark weighs as much as a hat.

Axes: N pictures, H W pixels, h w places of the latents. In a plain mean a part counts by its area, and what covers one
place of 256 is learned last. Portraits are drawn from words, which leave much open: their weights belong to places, the
same for all portraits, and not to what a portrait shows there, so the best answer at every place stays what it was, the
mean over all that is possible. Views are drawn from a portrait and a camera, which decide what is seen where: their
weights belong to the picture.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from safelight.core.noise import key
from safelight.figurines.person import random_people
from safelight.figurines.render import portrait_camera, render
from safelight.figurines.shapes import LABELS

SEEN = 300
"""People whose portraits say where the parts are."""


def place_weights(grid: int, scale: int, detail: float, seed: int) -> Tensor:
    """Weights [grid, grid] with mean 1: a part of a picture's area ``a`` counts by ``a ** -detail`` per pixel.

    Args:
        grid: places a side. scale: pixels a side of a place.
        detail: 0 = every place counts the same, 1 = every part counts the same, however small.
        seed: decides who is looked at.
    """
    people = random_people(np.random.default_rng(key(seed, "places")), SEEN)
    camera = portrait_camera(grid * scale)
    seen = [render(person, camera, buffers=("labels",)).labels for person in people]
    labels = np.stack([each for each in seen if each is not None])
    places = picture_weights(labels, scale, detail).mean(0)
    return places / places.mean()


def picture_weights(labels: np.ndarray, scale: int, detail: float) -> Tensor:
    """Weights [N, h, w] of each picture's own places, with mean 1 over all; see `place_weights`.

    Args:
        labels: uint8 [N, H, W], which part is seen.
    """
    share = part_shares(labels, detail)
    count, height, width = labels.shape
    parts = labels.reshape(count, height // scale, scale, width // scale, scale)
    return torch.from_numpy(np.stack([share[each].mean((1, 3)) for each in parts]))


class PixelWeights:
    """How much each pixel of many pictures counts, looked up when it is asked for; see `place_weights`.

    Args:
        labels: uint8 [N, H, W], which part is seen.
    """

    def __init__(self, labels: np.ndarray, detail: float) -> None:
        self.labels, self.share = labels, part_shares(labels, detail)

    def of(self, chosen: Sequence[int]) -> Tensor:
        """[n, H, W] of these pictures; the mean over all is 1."""
        return torch.from_numpy(self.share[self.labels[list(chosen)]])


def part_shares(labels: np.ndarray, detail: float) -> np.ndarray:
    """How much a pixel of each part of `LABELS` counts, float32 [L], with mean 1 over all pixels [N, H, W]."""
    covered = _covered(labels)
    share = _where_seen(covered) ** -detail
    return (share / (share @ covered.mean(1))).astype(np.float32)


def part_areas(labels: np.ndarray) -> np.ndarray:
    """Mean share of the picture that each part of `LABELS` covers where it is seen at all; 1 where it never is."""
    return _where_seen(_covered(labels))


def _covered(labels: np.ndarray) -> np.ndarray:
    """Share of every picture that each part covers, [L, N]."""
    return np.stack([(labels == i).mean((1, 2)) for i in range(len(LABELS))])


def _where_seen(covered: np.ndarray) -> np.ndarray:
    """Means [L] over the pictures that show a part; 1 where none does."""
    seen = (covered > 0).sum(1)
    return np.where(seen > 0, covered.sum(1) / np.maximum(seen, 1), 1.0)
