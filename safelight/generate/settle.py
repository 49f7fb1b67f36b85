"""From a request to exactly what will be computed: every default filled in, every name resolved, every level listed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch

from safelight.core import schedule
from safelight.core.path import Level
from safelight.core.samplers.row import Bound, Sampler
from safelight.core.samplers.table import split
from safelight.errors import RequestError, UnknownNameError
from safelight.families.family import Model
from safelight.generate.picture import to_mask
from safelight.generate.request import Request
from safelight.weights.notes import notes

STEPS, GUIDANCE, STRENGTH = 20, 7.5, 0.75
"""For models that say nothing of their own; the last two are Stable Diffusion's customary ones."""
EACH_STEP = 12.5
"""What divides a model's guidance where CFG++ adds it anew at every step: its 0 to 1 is to 1 to 12.5 (2406.08070)."""


@dataclass(frozen=True)
class Settled:
    """What will be computed for one picture.

    Attributes:
        request: with every number filled in.
        task: ``text``, ``image`` or ``inpaint``.
        sampler: bound to the model's path.
        schedule: name of the schedule, or ``model`` for the levels that the model's files ask for.
        levels: those that are visited, noisiest first; shorter than ``steps + 1`` where an image is the start.
        size: (width, height) in pixels.
    """

    request: Request
    task: str
    sampler: Bound
    schedule: str
    levels: list[Level]
    size: tuple[int, int]

    @property
    def guidance(self) -> float:
        """The scale of the guidance."""
        return GUIDANCE if self.request.guidance is None else self.request.guidance

    @property
    def branches(self) -> int:
        """Questions that the guidance asks at a level."""
        return 1 if self.guidance == 1.0 and not self.sampler.uncond else 2

    @property
    def rows(self) -> int:
        """Rows of every network call."""
        return self.request.rows or self.branches

    @property
    def together(self) -> int:
        """The fewest pictures drawn at once that leave no row of a call empty."""
        return self.rows // math.gcd(self.rows, self.branches)

    def alike(self, other: Settled) -> bool:
        """Whether calls can be shared: of equal rows and shape."""
        return (self.rows, self.size) == (other.rows, other.size)

    @property
    def evaluations(self) -> int | None:
        """How often the network is asked; None where only the run can tell (adaptive steps)."""
        return self.sampler.evaluations(self.levels)


def settle(model: Model, request: Request) -> Settled:
    """Decide everything that the request leaves open.

    Raises:
        RequestError: the model cannot do what is asked, or a number does not fit it.
        UnknownNameError: no such sampler, schedule or option. ImageError: a mask without white.
    """
    own = notes(model.folder).get("defaults", {})
    task = "text" if request.image is None else "image" if request.mask is None else "inpaint"
    if task not in model.tasks:
        need = "an image and a mask" if model.tasks == ("inpaint",) else "another model"
        raise RequestError(f"this model does not do the task {task!r}; it needs {need}")
    steps = request.steps or int(own.get("steps", STEPS))
    sampler, named = split(request.sampler) if request.sampler else split(model.defaults.sampler)
    if named and request.schedule and schedule.find(request.schedule) != named:
        raise RequestError(f"the sampler's name says schedule {named!r}, the schedule {request.schedule!r}; give one")
    options = {**({} if request.sampler else model.defaults.options), **checked(sampler, request.options)}
    wanted = named or (schedule.find(request.schedule) if request.schedule else None)
    levels = schedule.SCHEDULES[wanted](model.path, steps) if wanted else model.defaults.levels(steps)
    strength = request.strength
    if request.image is not None:
        strength = (1.0 if model.conceal else STRENGTH) if strength is None else strength
        levels = schedule.start(levels, strength)
    guidance = float(own.get("guidance", GUIDANCE)) if request.guidance is None else float(request.guidance)
    if sampler.uncond and request.guidance is None:
        guidance /= EACH_STEP
    size = request.size or (fitted(model, request) if request.image else (model.defaults.width, model.defaults.height))
    model.latent.shape(*size)
    if guidance == 1.0 and ((request.negative and not sampler.uncond) or request.rescale):
        what = "a negative prompt" if request.negative else "rescale"
        raise RequestError(f"{what} does nothing at guidance 1; raise the guidance or leave it out")
    if request.skip > model.skips:
        raise RequestError(f"{request.skip} layers cannot be skipped; this model's text encoder allows {model.skips}")
    if request.mask is not None:
        to_mask(request.mask, size)
    bound = sampler.bind(model.path, options)
    if idle := sampler.idle(options):
        raise RequestError(idle)
    # Begun on nothing and left: what a sampler does not take, it says before the model is asked.
    next(bound(torch.zeros(1), levels, lambda s, t: torch.zeros(1)))
    filled = replace(request, steps=steps, guidance=guidance, strength=strength, size=size)
    return Settled(filled, task, bound, wanted or "model", levels, size)


def checked(sampler: Sampler, options: Mapping[str, float | str]) -> dict[str, float | str]:
    """Options of a sampler, as numbers where it takes numbers.

    Raises:
        UnknownNameError: it does not have the option. RequestError: not a number where one is needed.
    """
    taken: dict[str, float | str] = {}
    for name, value in options.items():
        if name not in sampler.options:
            raise UnknownNameError(f"option of {sampler.name}", name, sampler.options)
        if isinstance(sampler.options[name], str):
            taken[name] = str(value)
            continue
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if math.isnan(number):
            raise RequestError(f"option {name} of {sampler.name} is a number, not {value!r}")
        taken[name] = number
    return taken


def fitted(model: Model, request: Request) -> tuple[int, int]:
    """The size of the request's image, each edge rounded to the nearest multiple of the model's stride."""
    assert request.image is not None
    stride = model.latent.stride
    width, height = (max(stride, round(edge / stride) * stride) for edge in request.image.size)
    return width, height
