"""The recipe of a picture: everything that is needed to draw it again, as JSON in the picture's own file.

A file carries it twice: under ``safelight`` for machines, under ``parameters`` in the text that A1111 made customary.
"""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from importlib.metadata import version
from pathlib import PurePosixPath
from typing import Any

from PIL.Image import Image

from safelight import __version__
from safelight.core.kinds import KINDS as KINDS_OF_NOISE
from safelight.core.names import Pair, write
from safelight.core.samplers.table import SAMPLERS
from safelight.core.schedule import SCHEDULES
from safelight.errors import ImageError, RequestError
from safelight.generate.hires import UPSCALERS
from safelight.generate.metadata.a1111 import number
from safelight.generate.metadata.a1111 import write as write_a1111
from safelight.generate.metadata.carrier import PARAMETERS, RECIPE, texts
from safelight.generate.metadata.settings import SAFELIGHT, Settings

NUMERICS = 1
"""Version of the numbers: pictures of equal recipes are equal in bits only where this is equal."""


@dataclass(frozen=True)
class Recipe:
    """What one picture was drawn from.

    Attributes:
        model: name, family, and ``files``: file below its folder -> SHA-256.
        options: every option of the sampler; an infinite number is the text "inf", since JSON has no such number.
        schedule: a row of SCHEDULES, ``model``, or the list that was given; schedule_options: every option of it.
        levels: every level visited, as [alpha, sigma, t].
        seed: this picture's own.
        noise: where it came from, a name of ``core/kinds.py``; recipes that do not say were drawn with ``fresh``.
        ensd: added to the seed for the noise of the steps, 0 where nothing was.
        variation: seed and strength of the noise mixed in; None without.
        guidance: the scale, or a list of one for each step.
        interval: noise above and up to which guidance worked, the text "inf" for any; None for everywhere.
        rules: ``name`` and ``options`` of each rule of guidance, all options filled in.
        weak: the weaker model of autoguidance, as ``model``; None without.
        invert: the text under which the image was inverted; None where noise was mixed in instead.
        emphasis: how weights in the prompts were read; recipes that do not say were read with ``none``.
        rows: rows of every network call.
        threads: of one operation on a CPU; other numbers may change the last bits.
        hires: the second pass: scale, strength, upscaler, steps, how many of them ran, and size; None without.
        facts: numbers that the network was told beside the text.
        refiner: the model that took over, as ``model``, with ``handover`` and how many steps it ran; None without.
        upscaler: the model that drew it larger from its latents, as ``model``; None without.
        later, later_guidance: steps and guidance of the model that drew on from what ``model`` drew; None where none
            did.
        adapters: what was used of ControlNets, image prompts and the like: ``kind``, ``name``, ``files`` and numbers.
        image, mask, depth: SHA-256 of the pixels that came in, and their file names; None without.
        camera: the canonical camera of the model's pictures, where it has one.
    """

    model: Mapping[str, Any]
    task: str
    prompt: str
    negative: str
    seed: int
    steps: int
    sampler: str
    options: Mapping[str, float | str]
    schedule: str
    levels: list[list[float]]
    guidance: float | list[float]
    rescale: float
    size: tuple[int, int]
    skip: int
    rows: int
    device: str
    dtype: str
    threads: int
    schedule_options: Mapping[str, float | str] = field(default_factory=dict)
    strength: float | None = None
    invert: str | None = None
    interval: list[float | str] | None = None
    rules: list[Mapping[str, Any]] = field(default_factory=list)
    weak: Mapping[str, Any] | None = None
    noise: str = "fresh"
    ensd: int = 0
    variation: tuple[int, float] | None = None
    emphasis: str = "none"
    adapters: list[Mapping[str, Any]] = field(default_factory=list)
    image: Mapping[str, str] | None = None
    mask: Mapping[str, str] | None = None
    depth: Mapping[str, str] | None = None
    hires: Mapping[str, Any] | None = None
    facts: Mapping[str, list[float]] = field(default_factory=dict)
    refiner: Mapping[str, Any] | None = None
    upscaler: Mapping[str, Any] | None = None
    later: int | None = None
    later_guidance: float | None = None
    camera: Mapping[str, float] | None = None
    numerics: int = NUMERICS
    safelight: str = __version__
    torch: str = field(default_factory=lambda: version("torch"))
    machine: str = field(default_factory=lambda: f"{platform.system()} {platform.machine()}")

    def json(self) -> str:
        """One line of JSON."""
        options = {name: finite(value) for name, value in self.options.items()}
        return json.dumps({**asdict(self), "options": options}, ensure_ascii=False, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Recipe:
        """The recipe in a text; ImageError where it is not one."""
        try:
            raw = json.loads(text)
            if not isinstance(raw, dict):
                raise TypeError("not a table")
            strange = sorted(set(raw) - {each.name for each in fields(cls)})
            if strange:
                raise ImageError(f"the recipe holds what this version does not know: {', '.join(strange)}")
            mixed = raw.get("variation")
            pairs = {"size": tuple(raw["size"]), "variation": None if mixed is None else tuple(mixed)}
            recipe = cls(**{**raw, **pairs})
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise ImageError(f"the recipe is damaged ({error})") from None
        for name, fits in KINDS.items():
            if not fits(getattr(recipe, name)):
                raise ImageError(f"the recipe is damaged ({name} cannot be {str(getattr(recipe, name))[:40]!r})")
        return recipe

    def _schedule_type(self) -> str:
        """The schedule in A1111's word, where it has one for it with these options."""
        row = SCHEDULES.get(self.schedule)
        if row is None:
            return "Automatic" if self.schedule == "model" else self.schedule
        changed = {name: value for name, value in self.schedule_options.items() if row.whole.get(name) != value}
        try:
            return write("a1111", Pair("euler", self.schedule, {}, changed))[1]
        except RequestError:
            return self.schedule

    def settings(self) -> Settings:
        """What other programs would have called all this."""
        hires, refiner, kind = self.hires or {}, self.refiner, KINDS_OF_NOISE.get(self.noise)
        row = SAMPLERS.get(self.sampler)
        other = {"Refiner": refiner["name"], "Refiner switch at": number(refiner["handover"])} if refiner else {}
        if self.invert is not None:  # as the script "img2img alternative test" has it there
            other["Decode prompt"] = self.invert
        second = {"scale": float(hires["scale"]), "steps": hires["run"]} if hires else {}  # there, as many as this run
        return Settings(
            program=SAFELIGHT,
            version=self.safelight,
            prompt=" ".join([self.prompt, *self._tags()]).strip(),
            negative=self.negative,
            steps=self.steps,
            sampler=next(iter(row.aliases), row.name) if row else self.sampler,
            schedule=self._schedule_type(),
            guidance=None if isinstance(self.guidance, list) else float(self.guidance),
            seed=self.seed,
            size=self.size,
            hash=next((value[:10] for value in self._weights() if len(value) == 64), None),
            model=self.model.get("name"),
            strength=self.strength if self.strength is not None else hires.get("strength"),
            clip_skip=self.skip + 1 if self.skip else None,
            ensd=self.ensd or None,
            rng="NV" if kind and kind.start == "cuda" else "CPU",
            variation=self.variation,
            hires=second | ({"upscaler": UPSCALERS[hires["upscaler"]]} if hires else {}),
            other=other,
        )

    def _tags(self) -> Iterator[str]:
        """The LoRAs as other programs have them in the prompt."""
        for each in self.adapters:
            if each["kind"] == "lora":
                yield f"<lora:{each['name']}:{number(float(each.get('scale', 1.0)))}>"

    def _weights(self) -> Iterator[str]:
        """Hashes of the files by which other programs know a model: its one file, or its network's."""
        for name, value in self.model.get("files", {}).items():
            if name.startswith("unet/") or ("/" not in name and PurePosixPath(name).stem == self.model.get("name")):
                yield value

    def parameters(self) -> str:
        """The text that A1111 writes and other programs read: prompt, negative prompt, settings."""
        return write_a1111(self.settings())

    def texts(self) -> dict[str, str]:
        """What belongs into the file, by name: the text for other programs, and the recipe."""
        return {PARAMETERS: self.parameters(), RECIPE: self.json()}


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _number(value: Any) -> bool:
    return (_whole(value) or isinstance(value, float)) and abs(value) <= 1e300  # more is no float


def _table(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, Mapping) and all(map(fits, value.values()))


def _rule(value: Any) -> bool:
    both = isinstance(value, Mapping) and set(value) == {"name", "options"}
    return both and _text(value["name"]) and _table(lambda each: _number(each) or _text(each))(value["options"])


def _refiner(value: Any) -> bool:
    table = isinstance(value, Mapping) and _table(_text)(value.get("files", {}))
    there = table and _number(value.get("handover")) and 0.0 < value["handover"] < 1.0
    return there and _whole(value.get("run")) and _text(value.get("name"))


def _hires(value: Any) -> bool:
    numbers = isinstance(value, Mapping) and all(_number(value.get(name)) for name in ("scale", "strength"))
    whole = numbers and all(_whole(value.get(name)) for name in ("steps", "run"))
    size = value.get("size") if whole else None
    pair = isinstance(size, list) and len(size) == 2 and all(map(_whole, size))
    return pair and len(value) == 6 and value.get("upscaler") in list(UPSCALERS)


def _adapter(value: Any) -> bool:
    there = isinstance(value, Mapping) and _text(value.get("kind")) and _text(value.get("name"))
    return there and _table(_text)(value.get("files"))


def _interval(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(_number(end) or end == "inf" for end in value)


def _level(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 3 and all(map(_number, value))


KINDS: dict[str, Callable[[Any], bool]] = {
    **dict.fromkeys(("task", "prompt", "negative", "emphasis", "sampler", "schedule"), _text),
    **dict.fromkeys(("noise", "device", "dtype"), _text),
    **dict.fromkeys(("safelight", "torch", "machine"), _text),
    **dict.fromkeys(("seed", "ensd", "steps", "skip", "rows", "threads", "numerics"), _whole),
    "rescale": _number,
    "guidance": lambda value: _number(value) or (isinstance(value, list) and bool(value) and all(map(_number, value))),
    "interval": lambda value: value is None or _interval(value),
    "rules": lambda value: isinstance(value, list) and all(map(_rule, value)),
    "adapters": lambda value: isinstance(value, list) and all(map(_adapter, value)),
    **dict.fromkeys(
        ("weak", "upscaler"),
        lambda value: value is None or (isinstance(value, Mapping) and _table(_text)(value.get("files", {}))),
    ),
    "strength": lambda value: value is None or _number(value),
    "invert": lambda value: value is None or _text(value),
    "variation": lambda value: value is None or (len(value) == 2 and _whole(value[0]) and _number(value[1])),
    "size": lambda value: len(value) == 2 and all(map(_whole, value)),
    "model": lambda value: isinstance(value, Mapping) and _table(_text)(value.get("files", {})),
    "schedule_options": _table(lambda value: _number(value) or _text(value)),
    "options": _table(lambda value: _number(value) or _text(value) or isinstance(value, float)),
    "levels": lambda value: isinstance(value, list) and len(value) > 0 and all(map(_level, value)),
    **dict.fromkeys(("image", "mask", "depth"), lambda value: value is None or _table(_text)(value)),
    "facts": _table(lambda value: isinstance(value, list) and all(map(_number, value))),
    "refiner": lambda value: value is None or _refiner(value),
    "later": lambda value: value is None or _whole(value),
    "later_guidance": lambda value: value is None or _number(value),
    "hires": lambda value: value is None or _hires(value),
    "camera": lambda value: value is None or _table(_number)(value),
}
"""What the fields of a recipe from a file may hold: a file may have been written by anyone."""


def finite(value: float | str) -> float | str:
    """The value as JSON can hold it: an infinite number is a text."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def recipe_in(picture: Image) -> Recipe:
    """The recipe that a picture brings along.

    Raises:
        ImageError: it has none, or a damaged one.
    """
    text = texts(picture).get(RECIPE)
    if text is None:
        raise ImageError("the picture holds no recipe of safelight's; only PNG, JPEG and WebP files that it wrote do")
    return Recipe.from_json(text)
