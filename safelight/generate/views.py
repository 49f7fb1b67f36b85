"""The task that draws views of a person from a portrait, and from coarse normals where a model reads them.

Axes: V views, [1, Z, V, h, w] latents, H W pixels.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from safelight.adapters.picture import check_hint, named
from safelight.core.camera import Camera
from safelight.core.guidance import CFG, Guidance
from safelight.core.guides.scale import Strength
from safelight.core.path import Level
from safelight.core.sample import sample
from safelight.core.samplers.row import Bound
from safelight.core.samplers.table import find
from safelight.core.schedule import start
from safelight.core.schedules.row import falling
from safelight.core.schedules.transforms import shift
from safelight.encoders.clip_pixels import flat
from safelight.errors import ImageError, RequestError
from safelight.figurines.matte import matte
from safelight.figurines.render import portrait_camera
from safelight.generate.compose import numbers
from safelight.generate.picture import to_picture, to_tensor
from safelight.generate.settle import STRENGTH
from safelight.multiview.answer import evaluator
from safelight.multiview.bounds import checked
from safelight.multiview.bundle import Bundle
from safelight.multiview.encode import encoder
from safelight.multiview.layouts import LAYOUTS
from safelight.multiview.model import ViewModel
from safelight.multiview.network import Conditions, beside
from safelight.multiview.scales import in_turn
from safelight.multiview.sets import Apart, run
from safelight.multiview.slots import parted

MOST_STEPS = 1000
MOST_GUIDANCE = 100.0
VIEWS = "views"
"""The shift that follows from how many views are drawn at once."""
FIGURE = (0.05, 0.9)
"""The least and the largest share of a portrait that a figure covers."""


@dataclass(frozen=True)
class ViewRequest:
    """What is asked for.

    Attributes:
        portrait: the person, from the portrait's camera.
        cameras: [V], 1 to 64, in the world of the model.
        normals: of every view, coarse, in its camera's axes; for models that read them, which draw without them worse.
        own_normals: of the portrait.
        steps: None for the preset's.
        guidance: how much the portrait leads, 0 to 100, one number or one a view; 1 leads nowhere, None: the preset's.
        normals_guidance: how much the normals lead, likewise: 0 as if they were not shown, 1 as the network has it. The
            portrait then leads away from neither; None: normals have no scale of their own, and both sides read them.
        begin: pictures of every view, such as renders, to refine instead of beginning with noise alone.
        strength: with ``begin``, how much of them is forgotten, above 0 to 1 (all, up to the noise of the first level):
            the share of the steps that is run. None for the customary one.
        slots: the most views of one call, 1 and up; more are parted into groups, anew at every step. None: all at once.
        shift: of the levels towards noise, above 0: their signal-to-noise ratio is divided by its square. "views": the
            square root of how many views are drawn at once. None: the model's own levels.
        seed: of the set: view v's noise is a function of (seed, v). sampler: None for the model's own.
        numbers: v of each view, so that a part of a set can be drawn with its own noise; none for 0 and on.
    """

    portrait: Image.Image
    cameras: Camera
    normals: Sequence[Image.Image] = ()
    own_normals: Image.Image | None = None
    steps: int | None = None
    guidance: float | Sequence[float] | None = None
    normals_guidance: float | Sequence[float] | None = None
    seed: int = 0
    sampler: str | None = None
    begin: Sequence[Image.Image] = ()
    strength: float | None = None
    slots: int | None = None
    shift: float | str | None = None
    numbers: Sequence[int] = ()


@dataclass(frozen=True)
class Settled:
    """What will be computed for a request.

    Attributes:
        levels: those that are visited, noisiest first. steps: of the whole schedule, of which refining runs the last.
        sampler: bound to the model's path.
        scales: of the portrait, and of normals where they have one of their own.
        strength: of refining; None where the views begin with noise.
    """

    levels: list[Level]
    steps: int
    sampler: Bound
    scales: Mapping[str, Strength]
    strength: float | None = None

    @property
    def evaluations(self) -> int | None:
        """How often the network is asked; None where only the run can tell (adaptive steps)."""
        return self.sampler.evaluations(self.levels)


@dataclass(frozen=True)
class Seen:
    """What is known after a step.

    Attributes:
        step: done, from 1. total: in all. last: whether these are the finished views.
        latents: [1, Z, V, h, w], the finished ones, or what the network makes of the views so far.
    """

    step: int
    total: int | None
    last: bool
    latents: Tensor
    model: ViewModel = field(repr=False)

    @torch.no_grad()
    def pictures(self) -> np.ndarray:
        """uint8 [V, H, W, 3]; decoded one view after the other, so that memory is that of one."""
        weight = next(self.model.vae.parameters())
        views = self.model.latent.unscaled(self.latents)[0].transpose(0, 1).to(weight.dtype)
        decoded = (self.model.vae.decode(view[None]).float() for view in views)
        return np.stack([np.asarray(to_picture(picture)) for picture in decoded])


def of_a_figure(portrait: Image.Image) -> Image.Image:
    """The portrait, if there is a figure in it before a plain background.

    Raises:
        ImageError: there is none.
    """
    share = float(matte(np.asarray(flat(portrait))).mean())
    if not FIGURE[0] <= share <= FIGURE[1]:
        raise ImageError(
            f"the portrait{named(portrait)} shows no figure before a plain background ({share:.0%} of it differ from "
            "its edge); give one of a figurine, such as 'safelight generate' draws"
        )
    return portrait


def bundle(seen: Seen, cameras: Camera) -> Bundle:
    """The views with their cameras, and mattes that are read from the pictures: figures before a plain background."""
    pictures = seen.pictures()
    return Bundle(cameras, pictures, np.stack([matte(picture) for picture in pictures]).astype(np.float32))


def draw(model: ViewModel, request: ViewRequest) -> Iterator[Seen]:
    """Draw, telling of every step; the last one holds the finished views. Errors as of `settle`."""
    settled = settle(model, request)
    told = conditions(model, request)
    assert told.reference is not None
    views = request.numbers or range(request.cameras.shape[0])
    noise = Apart(request.seed, _shape(told.reference), views, told.reference.device)
    begun = encode(model, request.begin).transpose(0, 1)[None] if request.begin else None
    job = run(noise, settled.levels, settled.sampler, *_guided(model, told, settled.scales), begun=begun)
    network = model.network if request.slots is None else parted(model.network, request.seed, request.slots)
    answers = evaluator(network, model.prediction, next(model.network.parameters()))
    for step in sample(answers, job):
        yield Seen(step.index, step.total, step.last, step.x if step.last else step.denoised, model)


def settle(model: ViewModel, request: ViewRequest) -> Settled:
    """Decide everything that the request leaves open; nothing is computed yet.

    Raises:
        RequestError: numbers out of range or not as many as views, cameras that `checked` refuses, or what the model
            does not read. ImageError: a picture of another shape. UnknownNameError: no such sampler.
    """
    preset = model.preset
    count = checked(request.cameras).shape[0]
    if request.numbers and len(request.numbers) != count:
        raise RequestError(f"{len(request.numbers)} numbers were given for {count} views; give one a view, or none")
    steps = preset.steps if request.steps is None else request.steps
    if not 1 <= steps <= MOST_STEPS:
        raise RequestError(f"steps are a number from 1 to {MOST_STEPS}, not {steps}")
    options = None if request.sampler else model.options
    chosen = find(request.sampler or model.sampler).bind(model.path, options)
    scales, strength = _scales(model, request), request.strength
    _check_pictures(model, request)
    _check_slots(model, request)
    levels = _levels(model, request, steps)
    if request.begin:
        strength = STRENGTH if strength is None else strength
        levels = start(levels, strength)
    elif strength is not None:
        raise RequestError("a strength is of pictures to refine; give one a view, or leave the strength out")
    return Settled(levels, steps, chosen, scales, strength)


def _levels(model: ViewModel, request: ViewRequest, steps: int) -> list[Level]:
    """The model's own, or moved towards noise: pure noise and the clean end stay. Errors as of `settle`.

    Views that show the same say of it as much as their mean, whose noise has 1 / V of the variance: so many views at a
    level hide no more than one does at a level that has V times the signal-to-noise ratio.
    """
    levels, factor = model.levels(steps), request.shift
    if factor is None:
        return levels
    if isinstance(factor, str):
        if factor != VIEWS:
            raise RequestError(f"a shift is a number above 0, or {VIEWS!r}, not {factor!r}")
        count = request.cameras.shape[0]
        factor = math.sqrt(min(count, request.slots or count))
    return falling(model.path, shift(model.path, levels, factor))


def _guided(
    model: ViewModel, told: Conditions, scales: Mapping[str, Strength]
) -> tuple[dict[str, Conditions], Guidance]:
    """What each branch is told, and the rule; normals without a scale of their own stay where guidance leads away."""
    if len(scales) == 1:
        away = model.preset.led_away(told, told.context)
        return {"cond": told, "uncond": away}, CFG(scales["portrait"], prediction=model.prediction)
    rule, conds = in_turn(model.preset, told, told.context, scales)
    return conds, rule


def _scales(model: ViewModel, request: ViewRequest) -> dict[str, Strength]:
    """Of the portrait, and of normals where they have one of their own.

    Raises:
        RequestError: see `_scale`, or a scale of normals that are not there, or that the model does not read.
    """
    own = model.preset.guidance if request.guidance is None else request.guidance
    scales = {"portrait": _scale(request, own, "guidance")}
    if request.normals_guidance is not None:
        if "normals" not in model.preset.shown:
            raise RequestError(f"{model.name} reads no normals; leave their guidance out, or choose a model that does")
        if not request.normals:
            raise RequestError("there are no normals to lead by; give one a view, or leave their guidance out")
        scales["normals"] = _scale(request, request.normals_guidance, "guidance of normals")
    return scales


def _scale(request: ViewRequest, given: float | Sequence[float], what: str) -> Strength:
    """One number, or one for each view.

    Raises:
        RequestError: not as many as views, or one out of its range.
    """
    scales, count = numbers(given), request.cameras.shape[0]
    if len(scales) not in (1, count):
        raise RequestError(f"{len(scales)} scales of {what} were given for {count} views; give one a view, or one")
    for scale in scales:
        if not 0 <= scale <= MOST_GUIDANCE:
            raise RequestError(f"{what} is a number from 0 to {MOST_GUIDANCE:g}, not {scale:g}")
    return scales if len(scales) > 1 else scales[0]


def _check_slots(model: ViewModel, request: ViewRequest) -> None:
    """Refuse groups of views that would not be what the model's views are."""
    if request.slots is None:
        return
    if request.slots < 1:
        raise RequestError(f"slots are the views that are drawn at once, 1 and up, not {request.slots}")
    if request.slots < request.cameras.shape[0] and LAYOUTS[model.preset.layout].counts:
        raise RequestError(
            f"{model.name} knows its views by their numbers (layout {model.preset.layout!r}), so they are drawn all at "
            "once; leave the slots out"
        )


def _check_pictures(model: ViewModel, request: ViewRequest) -> None:
    """Refuse pictures that the model cannot be shown; errors as of `settle`."""
    preset, count = model.preset, request.cameras.shape[0]
    if (request.normals or request.own_normals) and not preset.shown:
        raise RequestError(f"{model.name} reads no normals; leave them out, or choose a model that does")
    for what, given in (("of normals", request.normals), ("to refine", request.begin)):
        if given and len(given) != count:
            raise RequestError(f"{len(given)} pictures {what} were given for {count} views; give one a view")
    own = [request.own_normals] if request.own_normals else []
    for what, pictures in (
        ("portrait", [request.portrait]),
        ("normals", [*request.normals, *own]),
        ("views to refine", request.begin),
    ):
        for picture in pictures:
            check_hint(picture, (preset.size, preset.size), f"the {what}")


@torch.no_grad()
def conditions(model: ViewModel, request: ViewRequest) -> Conditions:
    """What the network is told, one row in float32."""
    preset, cameras = model.preset, request.cameras
    device = next(model.network.parameters()).device
    reference = encode(model, [request.portrait])
    parts = []
    if preset.maps:
        grid = reference.shape[-1]
        own = encoder(preset.camera).function(portrait_camera(grid).to(torch.float32, device))
        parts.append((_said(model, cameras.resized(grid), device).transpose(0, 1)[None], own[None]))
    if preset.shown:
        parts.append(_normals(model, request, reference))
    return Conditions(
        context=torch.zeros(1, 1, model.network.unet.config.cross_attention_dim, device=device),
        cameras=_said(model, cameras, device)[None] if preset.camera and not preset.maps else None,
        reference=reference,
        **beside(parts),
    )


def _said(model: ViewModel, cameras: Camera, device: torch.device) -> Tensor:
    """What the network is told of cameras [V]: [V, C], or a map [V, C, h, w]."""
    return encoder(model.preset.camera).function(cameras.to(torch.float32, device))


def _normals(model: ViewModel, request: ViewRequest, reference: Tensor) -> tuple[Tensor, Tensor]:
    """Encoded normals [1, Z, V, h, w], and the portrait's own [1, Z, h, w]; zeros where there are none."""
    count, blank = request.cameras.shape[0], torch.zeros_like(reference)
    shown = encode(model, request.normals) if request.normals else blank.repeat(count, 1, 1, 1)
    own = blank if request.own_normals is None else encode(model, [request.own_normals])
    return shown.transpose(0, 1)[None], own


@torch.no_grad()
def encode(model: ViewModel, pictures: Sequence[Image.Image]) -> Tensor:
    """Pictures, fitted to the model's size -> [n, Z, h, w] as the network sees latents, float32."""
    weight = next(model.vae.parameters())
    size = (model.preset.size, model.preset.size)
    each = (model.vae.encode(to_tensor(picture, size).to(weight)).mode().float() for picture in pictures)
    return model.latent.scaled(torch.cat(list(each)))


def _shape(reference: Tensor) -> tuple[int, int, int]:
    _, channels, height, width = reference.shape
    return channels, height, width
