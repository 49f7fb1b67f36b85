"""The task that draws views of one thing: of a portrait, of a text, or of both, as the model reads them.

Axes: V views, S slots = V views of each domain of the model, [1, Z, S, h, w] latents, H W pixels.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from safelight.adapters.picture import named
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
from safelight.errors import ImageError, RequestError, UnknownNameError
from safelight.figurines.matte import background_color, coverage, matte
from safelight.figurines.render import PORTRAIT
from safelight.generate.compose import numbers
from safelight.generate.picture import to_picture
from safelight.generate.settle import STRENGTH
from safelight.generate.telling import check, conditions, encode, texts, told_apart
from safelight.multiview.answer import evaluator
from safelight.multiview.bounds import checked
from safelight.multiview.bundle import Bundle
from safelight.multiview.figurine import HEAD
from safelight.multiview.layouts import LAYOUTS
from safelight.multiview.model import ViewModel
from safelight.multiview.normals import own_axes
from safelight.multiview.scales import in_turn
from safelight.multiview.sets import Apart, run
from safelight.multiview.slots import parted
from safelight.multiview.zero123.model import Zero123
from safelight.multiview.zero123plus.model import Zero123Plus

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
        portrait: what is seen from in front; a figurine, from the portrait's camera, where the model draws those. None
            for models that read a text alone.
        cameras: [V], 1 to 64, in the world of the model.
        normals: of every view, coarse, in its camera's axes; for models that read them, which draw without them worse.
        own_normals: of the portrait.
        prompt, negative: what to draw and what to lead away from, for models that read a text; what the text encoder
            has no place for is cut off, see `Settled.cut`. The model's suffix is written behind the prompt.
        own_camera: where the portrait was taken from, for models that are told the way from there; None: from in front,
            as far away as the first view.
        steps: None for the preset's.
        guidance: how much portrait and prompt lead, 0 to 100, one number or one a view; 1 leads nowhere, None: the
            preset's.
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

    portrait: Image.Image | None
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
    prompt: str | None = None
    negative: str | None = None
    own_camera: Camera | None = None


@dataclass(frozen=True)
class Settled:
    """What will be computed for a request.

    Attributes:
        levels: those that are visited, noisiest first. steps: of the whole schedule, of which refining runs the last.
        sampler: bound to the model's path.
        scales: of portrait and prompt, and of normals where they have one of their own.
        strength: of refining; None where the views begin with noise.
        cut: the ends of the prompts for which the text encoder has no place.
    """

    levels: list[Level]
    steps: int
    sampler: Bound
    scales: Mapping[str, Strength]
    strength: float | None = None
    cut: tuple[str, ...] = ()

    @property
    def evaluations(self) -> int | None:
        """How often the network is asked; None where only the run can tell (adaptive steps)."""
        return self.sampler.evaluations(self.levels)


@dataclass(frozen=True)
class Seen:
    """What is known after a step.

    Attributes:
        step: done, from 1. total: in all. last: whether these are the finished views.
        latents: [1, Z, S, h, w], the finished ones, or what the network makes of the views so far.
    """

    step: int
    total: int | None
    last: bool
    latents: Tensor
    model: ViewModel = field(repr=False)

    def pictures(self) -> np.ndarray:
        """The views in colours, uint8 [V, H, W, 3]."""
        return self.domain("colours")

    @torch.no_grad()
    def domain(self, name: str) -> np.ndarray:
        """The views in one domain of the model, such as normals as the network draws them: uint8 [V, H, W, 3].

        Raises:
            UnknownNameError: the model has no such domain.
        """
        domains = self.model.preset.domains
        if name not in domains:
            raise UnknownNameError(f"domain of {self.model.name}", name, domains)
        latents = self.latents.chunk(len(domains), dim=2)[domains.index(name)]
        return np.stack([np.asarray(to_picture(picture.float())) for picture in self.model.decode(latents)])


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


def bundle(seen: Seen, cameras: Camera, larger: np.ndarray | None = None) -> Bundle:
    """The views with their cameras, and normals where they were drawn; those of figures with mattes and background that
    are read from the pictures, since it is plain. Other models promise none, so their pictures stay whole.

    Args:
        larger: the views in colours as an upscaler drew them, for cameras of that size; None: as they are.
    """
    pictures, preset = seen.pictures() if larger is None else larger, seen.model.preset
    normals = own_axes(seen.domain("normals"), cameras) if "normals" in preset.domains else None
    if not preset.figure:
        return Bundle(cameras, pictures, normals=normals)
    mattes = np.stack([coverage(picture) for picture in pictures])
    red, green, blue = np.mean([background_color(picture) for picture in pictures], axis=0).round(3).tolist()
    return Bundle(cameras, pictures, mattes, background=(red, green, blue))


def draw(model: ViewModel, request: ViewRequest) -> Iterator[Seen]:
    """Draw, telling of every step; the last one holds the finished views. Errors as of `settle`."""
    settled, slots = settle(model, request), request.cameras.shape[0] * len(model.preset.domains)
    views, weight = request.numbers or range(slots), next(model.network.parameters())
    noise = Apart(request.seed, model.shape, views, weight.device)
    begun = encode(model, request.begin).transpose(0, 1)[None] if request.begin else None
    conds, rule = _guided(model, request, settled.scales)
    job = run(noise, settled.levels, settled.sampler, conds, rule, begun=begun, start=model.start)
    predict = model.predict()
    predict = predict if request.slots is None else parted(predict, request.seed, request.slots)
    for step in sample(evaluator(predict, model.prediction, weight), job):
        yield Seen(step.index, step.total, step.last, step.x if step.last else step.denoised, model)


def settle(model: ViewModel, request: ViewRequest) -> Settled:
    """Decide everything that the request leaves open; nothing is computed yet.

    Raises:
        RequestError: numbers out of range or not as many as views, cameras that `checked` refuses, or what
            `safelight.generate.telling.check` does. ImageError: a picture of another shape. UnknownNameError: no such
            sampler.
    """
    preset = model.preset
    around = (HEAD, PORTRAIT["target"]) if preset.figure else ()
    count = checked(request.cameras, *around).shape[0]
    slots = count * len(preset.domains)
    if request.numbers and len(request.numbers) != slots:
        raise RequestError(f"{len(request.numbers)} numbers were given for {slots} views; give one a view, or none")
    steps = preset.steps if request.steps is None else request.steps
    if not 1 <= steps <= MOST_STEPS:
        raise RequestError(f"steps are a number from 1 to {MOST_STEPS}, not {steps}")
    options = None if request.sampler else model.options
    chosen = find(request.sampler or model.sampler).bind(model.path, options)
    scales, strength = _scales(model, request), request.strength
    check(preset, model.name, request)
    _check_slots(model, request)
    levels = _levels(model, request, steps)
    if request.begin:
        strength = STRENGTH if strength is None else strength
        levels = start(levels, strength)
    elif strength is not None:
        raise RequestError("a strength is of pictures to refine; give one a view, or leave the strength out")
    cut = tuple(filter(None, map(model.readers.cut, texts(preset, request))))
    return Settled(levels, steps, chosen, scales, strength, cut)


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
    model: ViewModel, request: ViewRequest, scales: Mapping[str, Strength]
) -> tuple[Mapping[str, Any], Guidance]:
    """What each branch is told, and the rule; normals without a scale of their own stay where guidance leads away."""
    plain = CFG(scales["portrait"], prediction=model.prediction)
    if isinstance(model.own, Zero123Plus):
        assert request.portrait is not None
        return model.own.tell(request.portrait, request.seed, *texts(model.preset, request)), plain
    if isinstance(model.own, Zero123):
        return told_apart(model.own, request, model.preset.elevation), plain
    told, negative = conditions(model, request)
    if len(scales) == 1:
        return {"cond": told, "uncond": model.preset.led_away(told, negative)}, plain
    rule, conds = in_turn(model.preset, told, negative, scales)
    return conds, rule


def _scales(model: ViewModel, request: ViewRequest) -> dict[str, Strength]:
    """Of what leads, and of normals where they have one of their own: then a text is told behind the portrait.

    Raises:
        RequestError: see `_scale`, or a scale of normals that are not there, or that the model does not read.
    """
    own = model.preset.guidance if request.guidance is None else request.guidance
    scales = {"portrait": _scale(model, request, own, "guidance")}
    if request.normals_guidance is not None:
        if "normals" not in model.preset.shown:
            raise RequestError(f"{model.name} reads no normals; leave their guidance out, or choose a model that does")
        if not request.normals:
            raise RequestError("there are no normals to lead by; give one a view, or leave their guidance out")
        scales |= {"text": scales["portrait"]} if model.preset.prompted else {}
        scales["normals"] = _scale(model, request, request.normals_guidance, "guidance of normals")
    return scales


def _scale(model: ViewModel, request: ViewRequest, given: float | Sequence[float], what: str) -> Strength:
    """One number, or one for each view, in every domain the same.

    Raises:
        RequestError: not as many as views, or one out of its range.
    """
    scales, count = numbers(given), request.cameras.shape[0]
    if len(scales) not in (1, count):
        raise RequestError(f"{len(scales)} scales of {what} were given for {count} views; give one a view, or one")
    for scale in scales:
        if not 0 <= scale <= MOST_GUIDANCE:
            raise RequestError(f"{what} is a number from 0 to {MOST_GUIDANCE:g}, not {scale:g}")
    return scales * len(model.preset.domains) if len(scales) > 1 else scales[0]


def _check_slots(model: ViewModel, request: ViewRequest) -> None:
    """Refuse groups of views that would not be what the model's views are."""
    if request.slots is None:
        return
    if request.slots < 1:
        raise RequestError(f"slots are the views that are drawn at once, 1 and up, not {request.slots}")
    preset = model.preset
    if request.slots < request.cameras.shape[0]:
        if LAYOUTS[preset.layout].counts and not preset.slot:
            raise RequestError(
                f"{model.name} knows its views by their numbers (layout {preset.layout!r}), so they are drawn all at "
                "once; leave the slots out"
            )
        if not preset.free:
            raise RequestError(f"{model.name} draws its views all at once; leave the slots out")
