"""The tasks that draw one picture in latents: from text, from an image, and into the hole of an image.

Axes: [1, Z, h, w] latents, [1, 3, H, W] colours in [-1, 1], [1, 1, H, W] masks, 1 where it is repainted.
Source: Rombach et al. 2022, section 3; Meng et al. 2021 (SDEdit: a later start); Lugmayr et al. 2022 (RePaint, eq. 8).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from safelight.core.constrain import Keep
from safelight.core.guidance import CFG, Guidance, Unguided
from safelight.core.noise import Fresh, start_noise
from safelight.core.path import Level
from safelight.core.prediction import denoised_rows
from safelight.core.sample import Job
from safelight.families.family import Model, Prompt
from safelight.generate.picture import to_mask, to_tensor
from safelight.generate.settle import Settled


@dataclass(frozen=True)
class Scene:
    """What pictures of one request share: encoded texts and pictures.

    Attributes:
        conds: a condition per branch of the guidance.
        cut: ends of prompts that did not fit.
        known: latents of the image, mask: [1, 1, h, w] of the latents; None without.
    """

    conds: dict[str, Any]
    cut: tuple[str, ...]
    known: Tensor | None = None
    mask: Tensor | None = None


def guidance_of(model: Model, settled: Settled) -> Guidance:
    """The guidance that was asked for."""
    scale = settled.guidance
    both = settled.sampler.uncond
    return Unguided() if scale == 1.0 and not both else CFG(scale, settled.request.rescale, model.prediction, both=both)


@torch.no_grad()
def read(model: Model, settled: Settled) -> Scene:
    """Encode the prompts, one by one, and the image and mask where there are any."""
    request = settled.request
    words = model.encode(Prompt(request.prompt, settled.size, request.skip))
    conds, cut = {"cond": words.cond}, words.cut
    if settled.branches > 1:
        against = model.encode(Prompt(request.negative, settled.size, request.skip, negative=True))
        conds, cut = {**conds, "uncond": against.cond}, cut + against.cut
    if request.image is None:
        return Scene(conds, cut)
    picture = to_tensor(request.image, settled.size)
    known = encode(model, picture)
    if request.mask is None:
        return Scene(conds, cut, known)
    mask = to_mask(request.mask, settled.size)
    small = F.interpolate(mask, size=known.shape[-2:]).to(known.device)
    if model.conceal is None:
        return Scene(conds, cut, known, small)
    hidden = encode(model, picture * (mask < 0.5))
    conds = {name: model.conceal(cond, small, hidden) for name, cond in conds.items()}
    return Scene(conds, cut, known)


@torch.no_grad()
def encode(model: Model, picture: Tensor) -> Tensor:
    """[1, 3, H, W] -> the most probable latents as the network sees them, float32."""
    weight = next(model.vae.parameters())
    return model.latent.scaled(model.vae.encode(picture.to(weight.device, weight.dtype)).mode().float())


@torch.no_grad()
def decode(model: Model, latents: Tensor) -> Tensor:
    """Latents as the network sees them -> [1, 3, H, W], float32."""
    weight = next(model.vae.parameters())
    return model.vae.decode(model.latent.unscaled(latents).to(weight.dtype)).float()


def job(model: Model, settled: Settled, scene: Scene) -> Job:
    """The run that draws this picture's latents."""
    request, levels = settled.request, settled.levels
    shape = model.latent.shape(*settled.size)
    device = next(model.network.parameters()).device
    noise = start_noise(request.seed, shape).to(device)
    if scene.known is None:
        x = model.defaults.start(noise, levels)
    else:
        x = levels[0].alpha * scene.known + levels[0].sigma * noise
        if request.mask is not None and request.strength == 1.0:  # nothing of the hole is left where the run begins
            x = model.defaults.start(noise, levels)
    return Job(
        sampler=settled.sampler,
        levels=levels,
        x=x,
        noise=Fresh(request.seed, shape, device=device),
        guidance=guidance_of(model, settled),
        conds=scene.conds,
        constraint=None if scene.mask is None or scene.known is None else Keep(scene.known, scene.mask, noise),
        width=request.rows,
    )


def evaluator(model: Model) -> Any:
    """The driver's question, answered by the network: rows of x, one level and one condition each -> x0."""

    @torch.no_grad()
    def evaluate(x: Tensor, levels: Sequence[Level], conds: Sequence[Any]) -> Tensor:
        weight = next(model.network.parameters())
        seen = x.to(weight.dtype)
        told = conds[0].cat(conds[1:]).to(seen)
        t = torch.tensor([level.t for level in levels], dtype=torch.float32, device=x.device)
        return denoised_rows(model.prediction, x, model.predict(seen, t, told).to(x.dtype), levels)

    return evaluate


def finish(settled: Settled, colours: Tensor) -> Tensor:
    """Put the kept pixels of the image back into a decoded picture, exactly."""
    request = settled.request
    if request.image is None or request.mask is None:
        return colours
    mask = to_mask(request.mask, settled.size)
    return torch.where(mask.bool(), colours.cpu(), to_tensor(request.image, settled.size))
