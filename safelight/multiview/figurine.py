"""Exact views of a figurine from the cameras of a model: what a perfect model of that rig would draw.

Axis legend: V views, H W pixels.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, replace
from typing import Final

import numpy as np
import torch

from safelight.core.camera import Camera
from safelight.core.similarity import Similarity
from safelight.errors import RequestError, UnknownNameError
from safelight.figurines.captions import parse
from safelight.figurines.palette import BACKGROUND
from safelight.figurines.person import Person, random_people, visible
from safelight.figurines.render import PORTRAIT, Render, render
from safelight.figurines.splits import SEEDS
from safelight.multiview.bounds import checked
from safelight.multiview.bundle import Bundle

HEAD: Final = 1.6
"""The radius of a ball around a figurine's head with hair and hat; cameras stand outside."""
LAYERS: Final = ("masks", "normals", "depth")
SPAN: Final = 2 * PORTRAIT["distance"] * math.tan(math.radians(PORTRAIT["fov"] / 2))
"""The length that a portrait's height shows at its target."""
TRIES: Final = 256
"""People that are drawn before a description counts as impossible."""
_BUFFERS: Final = {"masks": "mask", "normals": "normals", "depth": "depth"}


def fitted(cameras: Camera) -> Camera:
    """A rig's cameras, which go around the origin in a unit of their own, scaled so that its first picture shows a
    figurine as large as a portrait does. All angles stay, so the pictures are those of the rig."""
    wide = cameras.to(torch.float64, "cpu")
    span = wide.size[0] / wide.focal[0, 1]
    if wide.projection == "perspective":
        span = span * wide.angles()[2][0]
    return wide.moved(Similarity.scaled(SPAN / float(span), PORTRAIT["target"], torch.float64)).to(
        cameras.position.dtype
    )


def described(text: str, seed: int = 0, split: str = "train") -> Person:
    """A person of whom all is true that a text says, and of whom it shows: who has a red hat has a hat.

    Args:
        text: as for the default model; words that are not understood are passed over.
        seed: decides all that the text leaves open; 0 and up.
        split: one of ``splits.SPLITS``, for what is left open.

    Raises:
        RequestError: what the text says cannot be seen together, such as the eyes behind sunglasses.
    """
    stated = parse(text)
    for anyone in random_people(np.random.default_rng([SEEDS[split], seed]), TRIES, split):
        person = Person.from_mapping({**asdict(anyone), **stated})
        if stated.items() <= visible(person).items():
            return person
    told = ", ".join(f"{name} {value}" for name, value in stated.items())
    raise RequestError(f"nobody can be seen to have all of: {told}; leave one out")


def views(
    person: Person, cameras: Camera, layers: Collection[str] = LAYERS, coarse: bool = False
) -> Iterator[Render]:
    """Draw a person from every camera, one after the other.

    Args:
        cameras: [V] in the figurines' world, outside of the head.
        layers: what to draw beside the pictures, of ``LAYERS``.
        coarse: normals of head and body alone, without hair, ears, hat and glasses, as models of views are shown.

    Raises:
        UnknownNameError: another layer. RequestError: cameras that `checked` refuses, or inside the head.
    """
    for layer in layers:
        if layer not in LAYERS:
            raise UnknownNameError("layer", layer, LAYERS)
    checked(cameras, HEAD, PORTRAIT["target"])
    for view in range(cameras.shape[0]):
        drawn = render(person, cameras[view], buffers=("rgb", *(_BUFFERS[layer] for layer in layers)))
        if coarse and "normals" in layers:
            bare = render(person, cameras[view], buffers=("normals",), coarse=True)
            drawn = replace(drawn, normals_camera=bare.normals_camera, normals_world=bare.normals_world)
        yield drawn


def gathered(person: Person, cameras: Camera, drawn: Sequence[Render]) -> Bundle:
    """What `views` drew of a person, as a bundle."""

    def stacked(name: str) -> np.ndarray | None:
        found = [getattr(one, name) for one in drawn]
        return None if found[0] is None else np.stack(found)

    pictures, mattes, normals, depth = map(stacked, ("rgb", "mask", "normals_camera", "depth"))
    return Bundle(cameras, pictures, mattes, normals, depth, BACKGROUND[person.background])
