"""Requests and pictures that the tests of drawing share."""

from __future__ import annotations

from functools import cache

import numpy as np
from PIL import Image

from safelight.generate.pipe import Pipe, load
from safelight.generate.request import Request
from tests.models import EDGE, tiny

PROMPT = "a person with green hair"


@cache
def pipe(kind: str = "sd1") -> Pipe:
    """A loaded tiny model, on one thread."""
    return load(str(tiny(kind)), device="cpu", threads=1)


def picture(size: int = EDGE, seed: int = 0) -> Image.Image:
    """Noise of any colour."""
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size, size, 3), np.uint8), "RGB")


def mask(size: int = EDGE) -> Image.Image:
    """The left half is repainted."""
    half = np.zeros((size, size), np.uint8)
    half[:, : size // 2] = 255
    return Image.fromarray(half, "L")


def requests() -> list[Request]:
    """One of every kind: text, image, hole; guided or not; every sampler family; rows of their own."""
    return [
        Request(PROMPT, seed=3),
        Request(PROMPT, seed=4, guidance=1.0),
        Request("a red hat", negative="green", seed=5, sampler="euler", steps=3),
        Request("", seed=6, sampler="euler_ancestral", guidance=5.0, rescale=0.5),
        Request("a crown", seed=7, sampler="dpmpp_2m_sde", schedule="karras", steps=5),
        Request("a crown", seed=8, sampler="heun", steps=3, image=picture(), strength=0.8),
        Request("a crown", seed=9, image=picture(), mask=mask()),
        Request(PROMPT, seed=10, size=(32, 48)),
        Request(PROMPT, seed=11, rows=5),
        Request("red", seed=12, skip=1),
        Request("red", seed=13, sampler="euler_ancestral", noise="path", variation=(5, 0.3)),
        Request("red", seed=14, sampler="ddpm", noise="a1111-gpu", ensd=3),
    ]
