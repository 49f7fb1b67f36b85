"""From a request to exactly what will be computed: every default filled in, every name resolved, every level listed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice, pairwise

import torch
from PIL import Image

from safelight.adapters import use
from safelight.core import kinds, schedule
from safelight.core.guidance import Guidance, Unguided
from safelight.core.kinds import Variation
from safelight.core.path import Level
from safelight.core.run import Denoised
from safelight.core.samplers.inversion import INVERSION
from safelight.core.samplers.plusplus import gain
from safelight.core.samplers.row import Bound, Sampler
from safelight.core.samplers.table import SAMPLERS
from safelight.encoders.emphasis import script
from safelight.encoders.shares import shares
from safelight.errors import PromptError, RequestError, UnknownNameError
from safelight.families.family import Model
from safelight.generate import facts
from safelight.generate.compose import ONE_ROW, compose, numbers, replaced
from safelight.generate.levels import visit
from safelight.generate.picture import to_depth, to_mask
from safelight.generate.request import Request
from safelight.weights.notes import notes

STEPS, GUIDANCE, STRENGTH = 20, 7.5, 0.75
"""For models that say nothing of their own; the last two are Stable Diffusion's customary ones."""

NEEDS: dict[tuple[str, ...], str] = {
    ("inpaint",): "an image and a mask",
    ("upscale",): "an image to enlarge, and no mask",
    ("vary",): "an image to draw others like it, and no mask",
}
"""What to bring to models that do one thing only."""
SHOWN_ONLY = {"upscale": "the image to enlarge", "vary": "the image that others are like"}
"""Tasks whose image the network is shown, and what it is."""

HANDED, INVERTED = "handed over", "inverted"
"""How a refiner's pass begins, and one whose image was inverted: from latents that are noisy still."""
STAND_IN = Image.new("RGB", (1, 1))
"""The image of a pass whose image is not yet drawn; its size is given, and its pixels are never looked at."""


@dataclass(frozen=True)
class Settled:
    """What will be computed for one picture.

    Attributes:
        request: with every number filled in.
        task: ``text``, ``image``, ``inpaint``, ``upscale`` or ``vary``.
        sampler: bound to the model's path.
        schedule: name of the schedule, ``model`` for the levels that the model's files ask for, or a list written out.
        laid: every option of the schedule.
        levels: those that are visited, noisiest first; shorter than ``steps + 1`` where an image is the start.
        size: (width, height) in pixels.
        rule: the guidance, with all that the request adds to it.
        noise: the kind of noise; ``fresh`` wherever the steps draw none and the start is our own.
        begin: how a later pass begins from what the one before it left: a name of ``hires.UPSCALERS``, HANDED for the
            refiner's, INVERTED after an inversion; empty for the first.
        before: the inversion of the image, whose levels come cleanest first.
        then: the pass that follows.
    """

    request: Request
    task: str
    sampler: Bound
    schedule: str
    laid: Mapping[str, float | str]
    levels: list[Level]
    size: tuple[int, int]
    rule: Guidance
    noise: str
    begin: str = ""
    before: Settled | None = None
    then: Settled | None = None

    @property
    def passes(self) -> list[Settled]:
        """The inversion, this pass and those that follow."""
        return [*([self.before] if self.before else []), self, *(self.then.passes if self.then else [])]

    @property
    def inverts(self) -> bool:
        """Whether this pass is an inversion."""
        return self.sampler.sampler is INVERSION

    @property
    def guidance(self) -> float | tuple[float, ...]:
        """The scale of the guidance, or one for each step."""
        scales = numbers(GUIDANCE if self.request.guidance is None else self.request.guidance)
        return scales if len(scales) > 1 else scales[0]

    @property
    def rest(self) -> int:
        """Steps of the schedule that are left to the refiner."""
        return len(self.then.levels) - 1 if self.then and self.then.begin == HANDED else 0

    @property
    def branches(self) -> int:
        """Questions that the guidance asks at a level, at most."""
        return max(len(self.rule.branches(level)) for level in self.levels[:-1])

    @property
    def rows(self) -> int:
        """Rows of every network call."""
        return self.request.rows or (1 if any(rule.name in ONE_ROW for rule in self.request.rules) else self.branches)

    @property
    def together(self) -> int:
        """The fewest pictures drawn at once that leave no row of a call empty."""
        return self.rows // math.gcd(self.rows, self.branches)

    def alike(self, other: Settled) -> bool:
        """Whether calls can be shared: of equal rows and shape."""
        return (self.rows, self.size) == (other.rows, other.size)

    @property
    def evaluations(self) -> int | None:
        """How often networks are asked in all passes; None where only the run can tell (adaptive steps)."""
        counts = [each.sampler.evaluations(each.levels) for each in self.passes]
        return None if None in counts else sum(count for count in counts if count is not None)


def settle(model: Model, request: Request, weak: Model | None = None, refiner: Model | None = None) -> Settled:
    """Decide everything that the request leaves open.

    Args:
        weak: the weaker model that autoguidance leads away from.
        refiner: the model that takes over where the request says.

    Raises:
        RequestError: the model cannot do what is asked, or a number does not fit it.
        UnknownNameError: no such sampler, schedule or option. ImageError: a mask without white.
        PromptError: a sign of emphasis that cannot be meant.
    """
    facts.fit(facts.plain(request.facts), [model, *([refiner] if refiner and request.handover else [])])
    first = plan(model, request, weak)
    if request.invert is not None:
        first = replace(first, begin=INVERTED, before=_inversion(model, first, request.invert))
    return first if request.handover is None else _handed(model, first, request.handover, refiner)


def _inversion(model: Model, first: Settled, text: str) -> Settled:
    """The way up from the image, by the levels that ``first`` comes down, under the text alone.

    A mask would change nothing on the way up, but for networks that are shown what it hides. Calls are as wide as on
    the way down, since that is what a recipe records.
    """
    asked = replace(
        first.request,
        prompt=text,
        negative="",
        invert=None,
        guidance=1.0,
        interval=None,
        rules=(),
        rescale=0.0,
        variation=None,
        hires=None,
        mask=first.request.mask if model.conceal else None,
        rows=first.rows,
    )
    if len(set(script(text, asked.emphasis, asked.steps or STEPS))) > 1:
        raise PromptError("the text of an inversion holds for the whole image; leave out what changes with the step")
    bound = INVERSION.bind(model.path)
    return replace(first, request=asked, sampler=bound, levels=first.levels[::-1], rule=Unguided(), noise="fresh")


def _handed(model: Model, first: Settled, handover: float, refiner: Model | None) -> Settled:
    """The first pass up to where the refiner takes over, and the refiner's: each is the expert of a range of noise.

    The levels of one schedule are shared; the refiner takes those below (1 - handover) of the training table.
    """
    request = first.request
    if refiner is None:
        raise RequestError("nothing is there to take over; give a refiner (refiner=..., --refiner)")
    if replaced(model) != replaced(refiner) or model.path != refiner.path:
        what = "noise path" if replaced(model) == replaced(refiner) else "latents"
        raise RequestError(f"the refiner has other {what} than this model; give one that was trained alike")
    if request.skip > refiner.skips:
        raise RequestError(f"of the refiner's text encoder {refiner.skips} layers can be skipped, not {request.skip}")
    if kinds.KINDS[first.noise].steps == "stream" and next(draws(first.sampler, first.levels), None):
        raise RequestError(f"noise {first.noise!r} is not known for two models in turn; use 'path' or 'fresh'")
    limit, last = round(model.path.steps * (1.0 - handover)), len(first.levels) - 1
    place = next((k for k, level in enumerate(first.levels[:-1]) if level.t < limit), last)
    if not 0 < place < last:
        who = "the refiner" if place else "the model itself"
        raise RequestError(f"handed over at {handover:g}, {who} has no step to do; move it, or take more steps")
    levels, asked = first.levels[place:], replace(request, rows=first.rows, adapters=())  # which are the first model's
    bound = first.sampler.sampler.bind(refiner.path, first.sampler.options)
    # Over the whole schedule, as the first's: an interval, or a scale for each step, may lie in either part.
    rule = compose(refiner, asked, first.levels, both=bound.sampler.uncond, weak=None)
    then = replace(first, request=asked, sampler=bound, levels=levels, rule=rule, begin=HANDED)
    return replace(first, levels=first.levels[: place + 1], then=then)


def _check_shown(model: Model, request: Request, task: str, first: float | str) -> None:
    """Refuse what cannot be where the image is shown to the network, and not drawn over."""
    if request.strength is not None or first or request.hires or request.invert is not None:
        raise RequestError(f"{SHOWN_ONLY[task]} is not painted over; leave out strength, first, invert and hires")
    if "text" not in model.tasks and task == "vary" and (request.prompt or request.negative):
        raise RequestError("this model is told a picture and no text; leave the prompt and its negative empty")


def task_of(model: Model, request: Request, *, again: bool) -> str:
    """What a request asks of a model by the pictures that it brings; see `plan`."""
    if request.image is None or request.mask is not None:
        return "text" if request.image is None else "inpaint"
    if again:
        return "image"
    return "vary" if "vary" in model.tasks else "upscale" if model.enlarge else "image"


def _size(model: Model, request: Request, task: str) -> tuple[int, int]:
    """(width, height): as asked, else those of the image that is drawn over or enlarged, else the model's own."""
    own = request.image is None or task == "vary"
    size = request.size or ((model.defaults.width, model.defaults.height) if own else fitted(model, request))
    model.latent.shape(*size)
    if model.enlarge and any(edge % model.enlarge.multiple for edge in size):
        multiple = model.enlarge.multiple
        raise RequestError(f"the enlarged size must be multiples of {multiple}, not {size[0]}x{size[1]}")
    return size


def plan(model: Model, request: Request, weak: Model | None, *, again: bool = False) -> Settled:
    """One pass; errors as of `settle`.

    Args:
        again: its image is one that this model itself will have drawn, which every model can paint over.
    """
    own = notes(model.folder).get("defaults", {})
    task = task_of(model, request, again=again)
    if task not in model.tasks and not again:
        need = NEEDS.get(model.tasks, "another model")
        raise RequestError(f"this model does not do the task {task!r}; it needs {need}")
    if (request.depth is None) != (model.deepen is None):
        what = "is shown depth; give a picture of it" if model.deepen else "is shown no depth; leave it out"
        raise RequestError(f"this model {what}")
    visited = visit(model, request, request.steps or int(own.get("steps", model.defaults.steps or STEPS)))
    sampler, levels = SAMPLERS[visited.pair.sampler], visited.levels
    named = visited.pair.options if request.sampler else model.defaults.options
    options = {**named, **checked(sampler, request.options)}
    strength = request.strength
    if task in SHOWN_ONLY:
        _check_shown(model, request, task, visited.options["first"])
    elif request.image is not None and not visited.options["first"]:
        usual = STRENGTH if model.defaults.strength is None else model.defaults.strength
        strength = (1.0 if model.conceal else usual) if strength is None else strength
        levels = schedule.start(levels, strength)
    guidance = request.guidance
    if guidance is None:
        guidance = float(own.get("guidance", GUIDANCE if model.defaults.guidance is None else model.defaults.guidance))
        if sampler.uncond:  # CFG++ guides anew at every step: as much in the mean, in digits that a person would give
            guidance = round(guidance / gain(levels), 3)
    size = _size(model, request, task)
    if request.skip > model.skips:
        raise RequestError(f"{request.skip} layers cannot be skipped; this model's text encoder allows {model.skips}")
    if request.emphasis not in model.emphases:
        raise RequestError(f"this model reads no signs of emphasis {request.emphasis!r}; leave emphasis out")
    for text in (*(share.text for share in shares(request.prompt, request.emphasis)), request.negative):
        script(text, request.emphasis, visited.steps)
    if request.mask is not None:
        to_mask(request.mask, size)
    if request.depth is not None:
        to_depth(request.depth, size)
    use.checked(request.adapters, model, size)
    bound = sampler.bind(model.path, options)
    if idle := sampler.idle(options):
        raise RequestError(idle)
    if bound.options.get("variance") == "learned_range" and not model.ranged:
        raise RequestError("this network says no variance of its own; take the variance fixed_small or fixed_large")
    # Begun on nothing and left: what a sampler does not take, it says before the model is asked.
    next(bound(torch.zeros(1), levels, lambda s, t: torch.zeros(1)))
    filled = replace(request, steps=visited.steps, guidance=guidance, strength=strength, size=size)
    rule = compose(model, filled, levels, both=sampler.uncond, weak=weak)
    facts.idle(facts.plain(request.facts), guided=any("uncond" in rule.branches(level) for level in levels[:-1]))
    noise = noise_of(bound, levels, filled)
    return Settled(filled, task, bound, visited.schedule, visited.options, levels, size, rule, noise)


def noise_of(bound: Bound, levels: Sequence[Level], request: Request) -> str:
    """The kind of noise that a request draws from.

    Raises:
        RequestError: the kind cannot do what is asked, would change nothing, or is not known to be what the other
            program draws there. UnknownNameError: no such kind.
    """
    row = bound.sampler
    name = request.noise or row.noise
    variation = Variation(*request.variation) if request.variation else None
    if words := kinds.refusal(name, request.seed, request.ensd, variation):
        raise RequestError(words)
    stream = kinds.KINDS[name].steps == "stream"
    if bound.options.get("s_churn") and next(draws(bound, levels), None) is None:
        raise RequestError(
            f"option s_churn of {row.name} does nothing: no level below pure noise that is visited lies between s_tmin "
            "and s_tmax; change these or leave it out"
        )
    asks: list[tuple[Level, Level]] = []
    if stream:
        asks = list(draws(bound, levels))
    elif name == "path":  # which draws afresh for steps up, as anyone does, so one step down is what it needs
        asks = list(islice((pair for pair in draws(bound, levels) if pair[0].lam < pair[1].lam), 1))
    if stream:
        if request.image is not None:
            raise RequestError(f"noise {name!r} is known for pictures from text only; leave it or the image out")
        # Other programs draw once a step; their trees of noise, and what they draw for churn and stages, are not known.
        once = [(s, t) for s, t in pairwise(levels) if t.sigma]
        if asks and (row.noise == "path" or asks != once):
            raise RequestError(f"what other programs draw for {row.name} is not known; use noise 'path' or 'fresh'")
    if request.invert is not None and request.variation and next(draws(bound, levels), None) is None:
        raise RequestError(f"a variation does nothing: {row.name} draws no noise after an inversion; leave it out")
    if not asks and (request.ensd or request.noise == "path"):
        what, where = ("ensd", "after its start") if request.ensd else ("noise 'path'", "on its way down")
        raise RequestError(f"{what} does nothing: {row.name} draws no noise {where}; leave it out")
    return "fresh" if name == "path" and not asks else name


def draws(bound: Bound, levels: Sequence[Level]) -> Iterator[tuple[Level, Level]]:
    """For which steps a run over these levels asks for noise, in order; found by running it on a single zero."""
    asked: list[tuple[Level, Level]] = []

    def noise(s: Level, t: Level) -> torch.Tensor:
        asked.append((s, t))
        return torch.zeros(1)

    nothing = torch.zeros(1)
    run = bound(nothing, levels, noise)
    answer: Denoised | None = None  # a generator is started by sending None
    while True:
        try:
            run.send(answer)  # type: ignore[arg-type]
        except StopIteration:
            break
        yield from asked
        asked.clear()
        answer = Denoised(nothing, nothing, nothing)
    yield from asked


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
    """The size of the request's image, enlarged where the model does that, in the nearest multiples that it draws."""
    assert request.image is not None
    factor, stride = (model.enlarge.factor, model.enlarge.multiple) if model.enlarge else (1, model.latent.stride)
    width, height = (max(stride, round(factor * edge / stride) * stride) for edge in request.image.size)
    return width, height
