"""Draw a picture again from the recipe in its file, and say whether it is the same to the last bit, or what differs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import zip_longest
from typing import Any

import numpy as np
from PIL.Image import Image

from safelight.adapters.picture import source
from safelight.adapters.use import Use
from safelight.errors import ImageError, RequestError, UnknownNameError
from safelight.generate.guiding import Rule
from safelight.generate.hires import Hires
from safelight.generate.pipe import Drawn, Pipe, load
from safelight.generate.recipe import Recipe
from safelight.generate.request import Request
from safelight.generate.source import USUAL, Source, shipped

WORDS = {
    "numerics": "the version of the numbers",
    "safelight": "safelight",
    "torch": "torch",
    "machine": "the machine",
    "device": "the device",
}


@dataclass(frozen=True)
class Difference:
    """Two pictures of one size, compared byte by byte.

    Attributes:
        largest: largest difference of a colour, 0 (equal to the last bit) to 255.
        pixels: share of pixels that differ, 0 to 1.
        psnr: peak signal to noise in decibels; inf for equal pictures, about 50 for ones that no eye tells apart.
    """

    largest: int
    pixels: float
    psnr: float

    @property
    def equal(self) -> bool:
        """Whether no bit differs."""
        return self.largest == 0


def compare(first: Image, second: Image) -> Difference:
    """The difference of two pictures.

    Raises:
        ImageError: they are of different sizes.
    """
    if first.size != second.size:
        raise ImageError(f"a picture of {first.size} cannot be compared with one of {second.size}")
    a, b = (np.asarray(picture.convert("RGB"), np.int64) for picture in (first, second))
    apart = np.abs(a - b)
    error = float((apart**2).mean())
    psnr = math.inf if error == 0 else 10 * math.log10(255**2 / error)
    return Difference(int(apart.max()), float(apart.any(-1).mean()), psnr)


def load_for(
    recipe: Recipe,
    model: str | None = None,
    weak: str | None = None,
    refiner: str | None = None,
    upscaler: str | None = None,
    source: Source = USUAL,
) -> Pipe:
    """Load the model that a picture was drawn with: same number format, same threads, same device if it is here.

    Args:
        model: name or folder; None for the one that the recipe names, if it came with safelight: what a file names is
            never opened.
        source: which of its files are taken where there is a choice.
        weak, refiner, upscaler: the same of the weaker model, the refiner and the upscaler, where the picture was drawn
            with one.

    Raises:
        UnknownNameError: the recipe's model is not here; says to name its folder.
    """
    from safelight.runtime.device import devices  # here, so that reading a recipe loads no torch

    here = {device.type for device in devices()}
    device = recipe.device if recipe.device in here else None
    if model is None:
        model = str(recipe.model.get("name", ""))
        if model not in shipped():
            known = [*shipped(), "its folder, with --model"]
            raise UnknownNameError("model, though the picture was drawn with it", model, known)
    weak = weak or _beside("weaker model", "--weak-model", recipe.weak)
    refiner = refiner or _beside("refiner", "--refiner", recipe.refiner)
    upscaler = upscaler or _beside("upscaler", "--upscale-with", recipe.upscaler)
    pipe = load(model, device, recipe.dtype, recipe.threads, weak, source, refiner)
    return pipe.followed(load(upscaler, device, recipe.dtype, recipe.threads)) if upscaler else pipe


def _beside(what: str, flag: str, record: Mapping[str, Any] | None) -> str | None:
    """A model beside the model, if it came with safelight."""
    if record is None:
        return None
    name = str(record.get("name", ""))
    if name not in shipped():
        raise UnknownNameError(what, name, [*shipped(), f"its folder, with {flag}"])
    return name


def request_of(
    recipe: Recipe,
    image: Image | None = None,
    mask: Image | None = None,
    depth: Image | None = None,
    uses: Sequence[Use] = (),
) -> Request:
    """What has to be asked for to get the picture of a recipe.

    Args:
        image, mask, depth: what the picture was drawn over, where it was.
        uses: the adapters that the request used, where it did.

    Raises:
        ImageError: one of them is missing, not wanted, or holds other pixels.
    """
    return Request(
        prompt=recipe.prompt,
        negative=recipe.negative,
        steps=recipe.steps,
        sampler=recipe.sampler,
        schedule=None if recipe.schedule == "model" else recipe.schedule,
        options=recipe.options,
        schedule_options=recipe.schedule_options,
        guidance=recipe.guidance,
        interval=None if recipe.interval is None else (float(recipe.interval[0]), float(recipe.interval[1])),
        rules=_rules(recipe),
        rescale=recipe.rescale,
        seed=recipe.seed,
        noise=recipe.noise,
        ensd=recipe.ensd,
        variation=recipe.variation,
        size=recipe.size,
        image=_recorded("image", recipe.image, image),
        strength=recipe.strength,
        invert=recipe.invert,
        mask=_recorded("mask", recipe.mask, mask),
        depth=_recorded("depth", recipe.depth, depth),
        later=recipe.later,
        later_guidance=recipe.later_guidance,
        hires=_hires(recipe),
        facts=recipe.facts,
        handover=None if recipe.refiner is None else recipe.refiner["handover"],
        skip=recipe.skip,
        emphasis=recipe.emphasis,
        adapters=uses,
        rows=recipe.rows,
    )


def check_adapters(recipe: Recipe, given: Sequence[Mapping[str, Any]]) -> None:
    """Refuse to draw without an adapter that the picture was drawn with, or with one more.

    Args:
        given: what a recipe would say of those that are there.

    Raises:
        ImageError: says which, and with which files.
    """
    for then, now in zip_longest(recipe.adapters, given):
        named = now or then
        one = f"the {named['kind']} {named['name']}"
        if then is None or (now is not None and then["kind"] != now["kind"]):
            raise ImageError(f"the picture was drawn without {one}; leave it out, or give its adapters in their order")
        if now is None:
            files = f" ({', '.join(then['files'])})" if then["files"] else ""
            raise ImageError(f"the picture was drawn with {one}{files}; give it with the same flag as then")


def _hires(recipe: Recipe) -> Hires | None:
    told = recipe.hires
    if told is None:
        return None
    try:
        return Hires(told["scale"], told["strength"], told["steps"], told["upscaler"])
    except RequestError as error:
        raise ImageError(f"the recipe is damaged ({error})") from None


def _rules(recipe: Recipe) -> tuple[Rule, ...]:
    try:
        return tuple(Rule(each["name"], each["options"]) for each in recipe.rules)
    except RequestError as error:
        raise ImageError(f"the recipe is damaged ({error})") from None


def _recorded(kind: str, record: Mapping[str, str] | None, given: Image | None) -> Image | None:
    if record is None:
        if given is not None:
            raise ImageError(f"the picture was drawn without --{kind}; leave it out")
        return None
    file = record.get("file", "")
    if given is None:
        raise ImageError(f"the picture was drawn with the {kind} {file or 'of no name'}; give it with --{kind}")
    if (source(given) or {}).get("sha256") != record.get("sha256"):
        raise ImageError(f"the {kind} given holds other pixels than {file or 'the one'} had then")
    return given


def differing(then: Recipe, now: Recipe) -> Iterator[str]:
    """What differs between the recipe in a file and that of the picture drawn again, each in a few words."""
    yield from _files("model", then.model.get("files", {}), now.model.get("files", {}))
    yield from _files("weaker model", (then.weak or {}).get("files", {}), (now.weak or {}).get("files", {}))
    for name, words in WORDS.items():
        if getattr(then, name) != getattr(now, name):
            yield f"{words} was {getattr(then, name)}, now {getattr(now, name)}"
    yield from _files("refiner", (then.refiner or {}).get("files", {}), (now.refiner or {}).get("files", {}))
    if (then.refiner or {}).get("handover") != (now.refiner or {}).get("handover"):
        yield "the refiner took over elsewhere"
    yield from _files("upscaler", (then.upscaler or {}).get("files", {}), (now.upscaler or {}).get("files", {}))
    yield from _adapters(then.adapters, now.adapters)
    told = {"model", "weak", "refiner", "upscaler", "image", "mask", "depth", "adapters", *WORDS}
    for name in sorted({each.name for each in fields(Recipe)} - told):
        before, after = getattr(then, name), getattr(now, name)
        if _plain(before) != _plain(after):
            yield f"{name} differs" if name == "levels" else f"{name} was {before}, now {after}"


def _adapters(then: Sequence[Mapping[str, Any]], now: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for before, after in zip_longest(then, now):
        if before is None or after is None:
            one = before or after
            yield f"the {one['kind']} {one['name']} is {'not given now' if after is None else 'new'}"
            continue
        yield from _files(f"{before['kind']} {before['name']}", before["files"], after["files"])
        for name in sorted({*before, *after} - {"name", "files"}):
            if _plain(before.get(name)) != _plain(after.get(name)):
                yield f"{name} of the {before['kind']} {before['name']} was {before.get(name)}, now {after.get(name)}"


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return str(value) if value in (math.inf, -math.inf) else value


def _files(model: str, then: Mapping[str, str], now: Mapping[str, str]) -> Iterator[str]:
    for name in sorted({*then, *now}):
        if name not in now:
            yield f"the {model} has no {name} any more"
        elif name not in then:
            yield f"the {model}'s {name} is new"
        elif then[name] != now[name]:
            yield f"the {model}'s {name} has other bytes ({then[name][:10]} then, {now[name][:10]} now)"


def redraw(recipe: Recipe, pipe: Pipe, image: Image | None = None, mask: Image | None = None) -> Drawn:
    """The picture of a recipe, drawn again."""
    return pipe.draw(request_of(recipe, image, mask))[0]
