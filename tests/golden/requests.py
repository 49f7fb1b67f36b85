"""Five requests whose latents guard the numbers of a version: ``python -m tests.golden.requests`` writes them anew."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from safelight.generate.pipe import Pipe, load
from safelight.generate.recipe import NUMERICS
from safelight.generate.request import Request
from safelight.weights.save import save

STORE = Path(__file__).with_name(f"numerics-{NUMERICS}.safetensors")


def gradient() -> Image.Image:
    """A picture that needs no file: red grows to the right, green downwards."""
    ramp = np.linspace(0, 255, 128).astype(np.uint8)
    wide, tall = np.meshgrid(ramp, ramp)
    return Image.fromarray(np.stack([wide, tall, np.full_like(wide, 128)], -1), "RGB")


def lower_half() -> Image.Image:
    """A mask: the lower half is repainted."""
    return Image.fromarray(np.repeat(np.repeat([[0], [255]], 64, 0), 128, 1).astype(np.uint8), "L")


REQUESTS: dict[str, Request] = {
    "defaults": Request("a person with green hair and a red hat", seed=1, steps=10),
    "ancestral": Request("a frowning bald person", seed=2, steps=6, sampler="Euler a", guidance=3.0),
    "multistep": Request("a person", "a hat", seed=3, steps=6, sampler="DPM++ 2M Karras", rescale=0.5),
    "image": Request("a person with a crown", seed=4, steps=6, image=gradient(), strength=0.6),
    "inpaint": Request("a person in a tie", seed=5, steps=6, image=gradient(), mask=lower_half(), guidance=1.0),
}


def draw(pipe: Pipe, name: str) -> Tensor:
    """The latents of one of the requests, [1, Z, h, w]."""
    return pipe.draw(REQUESTS[name])[0].latents


def main() -> None:
    """Write the latents of this version."""
    pipe = load()
    save({name: draw(pipe, name) for name in REQUESTS}, STORE)


if __name__ == "__main__":
    main()
