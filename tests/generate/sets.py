"""A tiny model of views with random weights, and a portrait, that the tests of drawing views share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from safelight.core.camera import Camera
from safelight.core.schedule import trailing
from safelight.families.sd.model import UNet
from safelight.figurines.person import random_people
from safelight.figurines.render import portrait
from safelight.generate.views import Seen, ViewRequest, draw
from safelight.multiview.layouts import layout
from safelight.multiview.model import ViewModel
from safelight.multiview.network import ViewNetwork
from safelight.multiview.presets import preset, varied
from safelight.train.views.viewing import Viewing
from safelight.vae.kl import AutoencoderKL, KLConfig
from tests.models import EDGE, KL, STRIDE, randomise

VIEWS = 3


@cache
def model(kind: str = "normals", reads: str = "dense", camera: str = "pose16") -> ViewModel:
    """What `safelight train figurines-views` makes, never trained, pictures of EDGE pixels.

    Args:
        kind: ``normals`` for a model that is shown them, ``pose`` for one that is not.
        reads: its layout. camera: how it is told cameras.
    """
    shape = {"channels": (16, 32), "attended": (0, 1), "heads": (2,), "groups": 4}
    viewing = Viewing(**shape, layout=reads, camera=camera, normals=kind == "normals")  # type: ignore[arg-type]
    vae = AutoencoderKL(KLConfig(**KL, **blocks())).eval()
    unet = UNet(viewing.config(vae.config.latent_channels, EDGE // STRIDE))
    network = ViewNetwork(unet, layout(reads, slot=True), slot=True).eval()
    for seed, module in enumerate((network, vae)):
        randomise(module, seed)
        module.requires_grad_(False)
    chosen = varied(preset(viewing.preset), viewing.changes(EDGE), "a test")
    levels, latent = (lambda steps: trailing(viewing.path, steps)), vae.config.latent()
    return ViewModel(kind, Path(), chosen, network, vae, latent, viewing.path, "v", levels, "ddim", {})


def blocks() -> dict[str, Any]:
    """The kinds of the autoencoder's blocks."""
    count = len(KL["block_out_channels"])
    return {"down_block_types": ("DownEncoderBlock2D",) * count, "up_block_types": ("UpDecoderBlock2D",) * count}


def cameras(views: int = VIEWS) -> Camera:
    """All around, at one height."""
    return Camera.orbit(torch.arange(views) * 360.0 / views, 6.0, 8.0, 24.0, EDGE)


@cache
def person(number: int = 0) -> Image.Image:
    """A portrait."""
    return Image.fromarray(portrait(random_people(np.random.default_rng(number), 1, "test")[0], EDGE))


def flat(*colour: int) -> Image.Image:
    """A picture of one colour."""
    return Image.new("RGB", (EDGE, EDGE), colour)


def bumps(views: int = VIEWS) -> list[Image.Image]:
    """Normals that differ from view to view."""
    return [flat(128, 128 + 40 * view % 128, 255) for view in range(views)]


def asked(**changes: object) -> ViewRequest:
    """Three views in two steps."""
    plain = ViewRequest(person(), cameras(), steps=2, seed=3)
    return replace(plain, **changes)  # type: ignore[arg-type]


def watched(of: ViewModel, request: ViewRequest) -> Sequence[Seen]:
    """Every step of a request."""
    return list(draw(of, request))


def drawn(of: ViewModel, request: ViewRequest) -> Tensor:
    """The finished latents [1, Z, V, h, w]."""
    return watched(of, request)[-1].latents
