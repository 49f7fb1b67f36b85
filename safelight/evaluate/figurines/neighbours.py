"""Does it remember? The training picture nearest to each sample, beside it.

Axes: N samples, S pixels. The distance is the root mean square difference of colours over the pixels that either figure
covers, so that a shared background does not count as likeness: 0 = equal, 1 = black against white.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from PIL import Image

from safelight.core.noise import key
from safelight.evaluate.figurines.pictures import Tell, pool
from safelight.figurines.matte import matte
from safelight.figurines.person import Person, random_people
from safelight.figurines.render import portrait, portrait_camera, render
from safelight.figurines.sheet import sheet

SIZE, CHUNK = 64, 100
TRAINED, TRAINED_SEED = 20_000, 1
"""People of the default model's training, and the seed that they are drawn from (``train/figurines``)."""


@dataclass(frozen=True)
class Neighbour:
    """The training person whose picture is nearest, and how far: ``distance`` from 0 (equal) to 1."""

    person: Person
    distance: float


def trained(count: int = TRAINED, seed: int = TRAINED_SEED) -> list[Person]:
    """The people of the training set, in their order."""
    return random_people(np.random.default_rng(key(seed, "people")), count)


def nearest(samples: Sequence[np.ndarray], people: Sequence[Person], workers: int, tell: Tell) -> list[Neighbour]:
    """Compare every sample (uint8 [128, 128, 3]) with a render of everyone, at half the size."""
    small = np.stack([halved(sample / np.float32(255)) for sample in samples])
    figures = np.stack([halved(matte(sample)[..., None].astype(np.float32))[..., 0] for sample in samples])
    chunks = [people[i : i + CHUNK] for i in range(0, len(people), CHUNK)]
    best = [Neighbour(people[0], float("inf"))] * len(samples)
    work = partial(distances, small, figures)
    with pool(workers) as executor:
        for done, found in enumerate(executor.map(work, chunks) if executor else map(work, chunks), 1):
            for i, row in enumerate(found):
                if row.min() < best[i].distance:
                    best[i] = Neighbour(chunks[done - 1][int(row.argmin())], float(row.min()))
            tell("training pictures compared", min(done * CHUNK, len(people)), len(people))
    return best


def distances(samples: np.ndarray, figures: np.ndarray, people: Sequence[Person]) -> np.ndarray:
    """Samples [N, S, S, 3] in [0, 1] with their mattes [N, S, S] against renders of people -> [N, people]."""
    camera = portrait_camera(SIZE)
    out = np.empty((len(samples), len(people)))
    for i, person in enumerate(people):
        drawn = render(person, camera)
        assert drawn.rgb is not None and drawn.mask is not None
        weight = np.maximum(figures, drawn.mask)
        square = ((samples - drawn.rgb.astype(np.float32) / 255) ** 2).mean(-1)
        out[:, i] = np.sqrt((weight * square).sum((1, 2)) / np.maximum(weight.sum((1, 2)), 1.0))
    return out


def halved(picture: np.ndarray) -> np.ndarray:
    """[2 S, 2 S, C] -> [S, S, C], each pixel the mean of four."""
    return picture.reshape(SIZE, 2, SIZE, 2, -1).mean((1, 3), dtype=np.float32)


def side_by_side(samples: Sequence[np.ndarray], found: Sequence[Neighbour]) -> Image.Image:
    """Each sample with its nearest training picture to the right of it."""
    pairs = [picture for sample, one in zip(samples, found, strict=True) for picture in (sample, portrait(one.person))]
    words = [word for one in found for word in ("drawn", f"nearest in training: {one.distance:.3f}")]
    return sheet(pairs, words, columns=8, lines=2)
