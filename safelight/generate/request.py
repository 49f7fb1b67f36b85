"""What a person asks for: one frozen record; whatever it leaves open, the model's defaults decide."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from PIL.Image import Image

from safelight.adapters.use import Use
from safelight.core.path import Level
from safelight.encoders.emphasis import emphasis
from safelight.encoders.prompt import legible
from safelight.errors import RequestError
from safelight.generate.facts import plain
from safelight.generate.guiding import Rule, checked
from safelight.generate.hires import Hires

MAX_STEPS = 1000
MAX_EDGE = 8192
MAX_COUNT = 100_000


@dataclass(frozen=True)
class Request:
    """One picture, or the first of several: picture i of a request with seed s has the seed s + i.

    Args:
        prompt: what to draw; the empty text is allowed.
        negative: what to lead away from; matters where ``guidance`` is not 1.
        steps: 1 to 1000; None for the model's own number.
        sampler: a name of the table of samplers, in any program's spelling; None for the model's own.
        schedule: a name of the table of schedules, in any program's spelling; a list such as "14.6,7.1,0.5,0" (see
            ``custom`` in ``core/schedules/tables.py``) or of Levels; None for what the model's files ask for.
        options: changes of the sampler's options, such as ``{"eta": 0.5}``.
        schedule_options: changes of the schedule's, such as ``{"rho": 5}``, and transforms of any, such as ``{"shift":
            3}``.
        guidance: classifier-free guidance; 1 follows the prompt alone and halves the work, 0 ignores it, more
            exaggerates it; one number, or one for each step; None for the model's own.
        interval: (low, high) of the noise, sigma / alpha, above and up to which guidance works; None for everywhere.
        rules: what is added to the guidance or stands in its place; see `Rule`.
        rescale: 0 (off) to 1, pulls the spread of guided predictions back.
        seed: of the first picture; any 64-bit number, from -2^63 to 2^64 - 1.
        noise: a name of the table of kinds of noise (``core/kinds.py``); None for the sampler's own.
        ensd: with A1111's noise, what is added to the seed for the noise of the steps ("eta noise seed delta").
        variation: (seed, strength) of a picture whose noise is mixed in; strength 0 leaves this one, 1 gives the other.
        size: (width, height) in pixels, multiples of the model's stride; None for the model's own, or the image's.
        image: a picture to start from, of any size; it is fitted to ``size``.
        strength: with ``image``, how much of it is forgotten: 0 nothing (refused: no step would run), 1 all.
        invert: with ``image``, a text that describes it (the empty text is allowed): instead of mixing noise in, DDIM
            is run backwards from the image under this text, and drawing begins with what it comes to.
        mask: with ``image`` and of its size, white where it is repainted, black where it is kept.
        depth: for networks that are shown it: bright is near, dark is far, of any size and up to 16 bits.
        later: steps of the model that draws on from what this one drew, 1 to 1000; None for its own number.
        later_guidance: how that model is guided; None for its own way.
        hires: a second pass at a larger size over what this one draws; the picture has the larger size. With a mask it
            repaints the same hole, and what is kept is the image itself, enlarged.
        facts: numbers that the network is told beside the text, such as ``{"original": (1024, 1024)}``; see
            ``Model.facts``.
        handover: where the refiner takes over from the model: 0 (at pure noise) to 1 (never); None without one.
        skip: layers of the text encoder left out at its end, 0 for none.
        emphasis: how weights in the prompts are written and what they do: ``none`` (nothing is a sign), ``a1111``,
            ``comfyui`` or ``compel``.
        adapters: what is used of ControlNets, image prompts and the like; see `safelight.adapters.use.Use`.
        rows: rows of every network call, 0 for as many as the guidance needs; more buys throughput for batches.
            Pictures of equal ``rows`` are equal to the last bit.

    Raises:
        RequestError: a number out of its range, or options that contradict each other.
        PromptError: a text that is not one, such as undecoded bytes. UnknownNameError: no such emphasis.
    """

    prompt: str = ""
    negative: str = ""
    steps: int | None = None
    sampler: str | None = None
    schedule: str | Sequence[Level] | None = None
    options: Mapping[str, float | str] = field(default_factory=dict)
    schedule_options: Mapping[str, float | str] = field(default_factory=dict)
    guidance: float | Sequence[float] | None = None
    interval: tuple[float, float] | None = None
    rules: Sequence[Rule] = ()
    rescale: float = 0.0
    seed: int = 0
    noise: str | None = None
    ensd: int = 0
    variation: tuple[int, float] | None = None
    size: tuple[int, int] | None = None
    image: Image | None = None
    strength: float | None = None
    invert: str | None = None
    mask: Image | None = None
    depth: Image | None = None
    later: int | None = None
    later_guidance: float | None = None
    hires: Hires | None = None
    facts: Mapping[str, float | Sequence[float]] = field(default_factory=dict)
    handover: float | None = None
    skip: int = 0
    emphasis: str = "none"
    adapters: Sequence[Use] = ()
    rows: int = 0

    def __post_init__(self) -> None:
        if self.steps is not None and not 1 <= self.steps <= MAX_STEPS:
            raise RequestError(f"steps must lie between 1 and {MAX_STEPS}, not {self.steps}")
        if self.later is not None and not 1 <= self.later <= MAX_STEPS:
            raise RequestError(f"the later steps must lie between 1 and {MAX_STEPS}, not {self.later}")
        if self.later_guidance is not None and not math.isfinite(self.later_guidance):
            raise RequestError(f"the later guidance must be a finite number, not {self.later_guidance}")
        self._check_guidance()
        if not 0.0 <= self.rescale <= 1.0:
            raise RequestError(f"rescale must lie between 0 and 1, not {self.rescale}")
        if not -(2**63) <= self.seed < 2**64:
            raise RequestError(f"the seed {self.seed} does not fit in 64 bits")
        if self.size and not all(1 <= edge <= MAX_EDGE for edge in self.size):
            raise RequestError(
                f"the size must lie between 1x1 and {MAX_EDGE}x{MAX_EDGE}, not {self.size[0]}x{self.size[1]}"
            )
        if self.strength is not None and not 0.0 <= self.strength <= 1.0:
            raise RequestError(f"the strength must lie between 0 and 1, not {self.strength}")
        if self.image is None and not self.strength is self.mask is self.invert is None:
            raise RequestError("a strength, a mask or an inversion needs an image to start from")
        if self.hires and self.hires.steps is not None and not 1 <= self.hires.steps <= MAX_STEPS:
            raise RequestError(f"the steps of hires must lie between 1 and {MAX_STEPS}, not {self.hires.steps}")
        object.__setattr__(self, "facts", plain(self.facts))
        object.__setattr__(self, "adapters", tuple(self.adapters))
        self._check_handover()
        if self.image and self.mask and self.image.size != self.mask.size:
            sizes = ["x".join(map(str, picture.size)) for picture in (self.mask, self.image)]
            raise RequestError(f"the mask has {sizes[0]} pixels and the image {sizes[1]}; make them of one size")
        for text in (self.prompt, self.negative, self.invert or ""):
            legible(text)
        emphasis(self.emphasis)
        if self.skip < 0:
            raise RequestError(f"skip counts layers, 0 or more, not {self.skip}")
        if not 0 <= self.rows <= 64:
            raise RequestError(f"the rows of a call must lie between 0 and 64, not {self.rows}")

    def _check_handover(self) -> None:
        if self.handover is None:
            return
        if not 0.0 < self.handover < 1.0:
            raise RequestError(f"the refiner takes over between 0 and 1, both left out, not at {self.handover:g}")
        for what, given in (("hires", self.hires), ("a mask", self.mask), ("an inversion", self.invert)):
            if given not in (None, False):
                raise RequestError(f"{what} and a refiner that takes over cannot both be; leave one out")

    def _check_guidance(self) -> None:
        scales = self.guidance
        if scales is not None and not isinstance(scales, int | float):
            # Written once in one form: equal requests are equal, and one number alone is no list.
            scales = tuple(float(each) for each in scales)
            object.__setattr__(self, "guidance", scales[0] if len(scales) == 1 else scales)
        for each in () if scales is None else scales if isinstance(scales, tuple) else (scales,):
            if not math.isfinite(each):
                raise RequestError(f"the guidance must be a finite number, not {each}")
        if scales == ():
            raise RequestError("the guidance is one number, or one for each step; none was given")
        if self.interval is not None:
            low, high = (float(end) for end in self.interval)
            object.__setattr__(self, "interval", (low, high))
            if not 0.0 <= low < high:
                raise RequestError(
                    f"the interval of guidance goes from a lower noise, 0 or more, to a higher, not {low:g} to {high:g}"
                )
        object.__setattr__(self, "rules", tuple(self.rules))
        checked(tuple(self.rules))

    def series(self, count: int) -> list[Request]:
        """The requests for ``count`` pictures (1 to 100 000): equal but for their seeds, which count upwards.

        Variations of one picture keep its seed, and the seeds of the variations count upwards instead.

        Raises:
            RequestError: a count out of its range, or a seed that grows out of 64 bits.
        """
        if not 1 <= count <= MAX_COUNT:
            raise RequestError(f"the number of pictures must lie between 1 and {MAX_COUNT}, not {count}")
        if self.variation is None or not self.variation[1]:
            return [replace(self, seed=self.seed + index) for index in range(count)]
        other, strength = self.variation
        return [replace(self, variation=(other + index, strength)) for index in range(count)]
