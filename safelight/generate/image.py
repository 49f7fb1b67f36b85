"""The tasks that draw one picture in latents: from text, from an image, and into the hole of an image.

Axes: [1, Z, h, w] latents, [1, 3, H, W] colours in [-1, 1], [1, 1, H, W] masks, 1 where it is repainted.
Source: Rombach et al. 2022, section 3; Meng et al. 2021 (SDEdit: a later start); Lugmayr et al. 2022 (RePaint, eq. 8).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from safelight.core.constrain import Keep
from safelight.core.kinds import Variation
from safelight.core.sample import Job
from safelight.core.sources import source
from safelight.families.family import Model, Prompt
from safelight.generate.answer import evaluator as evaluator
from safelight.generate.compose import numbers, questions
from safelight.generate.hires import PICTURE
from safelight.generate.picture import to_mask, to_picture, to_tensor
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


@torch.no_grad()
def read(model: Model, settled: Settled, weak: Model | None = None) -> Scene:
    """Encode the prompts, one by one, and the image and mask where there are any.

    Args:
        weak: reads the prompt for itself, where a rule asks it.
    """
    request = settled.request
    prompt = Prompt(request.prompt, settled.size, request.skip)
    names = {name for level in settled.levels[:-1] for name in settled.rule.branches(level)}
    words = model.encode(prompt)
    conds, cut = {"cond": words.cond}, words.cut
    if "uncond" in names:
        against = model.encode(Prompt(request.negative, settled.size, request.skip, negative=True))
        conds, cut = {**conds, "uncond": against.cond}, cut + against.cut
    if model.tell is not None:
        conds = {name: model.tell(cond, numbers(settled.guidance)[0]) for name, cond in conds.items()}
    if weak is not None and "weak" in names:
        conds["weak"] = weak.encode(prompt).cond
    scene = Scene(conds, cut)
    if request.image is not None and not settled.begin:
        scene = _over(model, settled, scene)
    told = dict(scene.conds)
    return replace(scene, conds={**told, **questions(model, request, told, told.get("weak"))})


def _over(model: Model, settled: Settled, scene: Scene) -> Scene:
    """The scene with the image and mask of the request."""
    request = settled.request
    assert request.image is not None
    picture = to_tensor(request.image, settled.size)
    known = encode(model, picture)
    if request.mask is None:
        return replace(scene, known=known)
    mask = to_mask(request.mask, settled.size)
    small = F.interpolate(mask, size=known.shape[-2:]).to(known.device)
    if model.conceal is None:
        return replace(scene, known=known, mask=small)
    hidden = encode(model, picture * (mask < 0.5))
    conds = {name: model.conceal(cond, small, hidden) for name, cond in scene.conds.items()}
    return replace(scene, conds=conds, known=known)


@torch.no_grad()
def carried(model: Model, settled: Settled, scene: Scene, left: Tensor) -> Scene:
    """The scene of a later pass over what the one before it ``left``, latents [1, Z, h, w] as the network sees them."""
    if settled.begin == PICTURE:
        return replace(scene, known=encode(model, to_tensor(to_picture(decode(model, left)), settled.size)))
    _, height, width = model.latent.shape(*settled.size)
    return replace(scene, known=F.interpolate(left, size=(height, width), mode=settled.begin))


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
    noise, steps = source(
        settled.noise,
        request.seed,
        shape,
        ensd=request.ensd,
        variation=Variation(*request.variation) if request.variation else None,
        device=device,
    )
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
        noise=steps,
        guidance=settled.rule,
        conds=scene.conds,
        constraint=None if scene.mask is None or scene.known is None else Keep(scene.known, scene.mask, noise),
        width=settled.rows,
    )


def finish(settled: Settled, colours: Tensor) -> Tensor:
    """Put the kept pixels of the image back into a decoded picture, exactly."""
    request = settled.request
    if request.image is None or request.mask is None:
        return colours
    mask = to_mask(request.mask, settled.size)
    return torch.where(mask.bool(), colours.cpu(), to_tensor(request.image, settled.size))
