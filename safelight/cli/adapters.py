"""The flags of adapters, the same where a picture is drawn and where it is drawn again."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

from safelight.cli import source
from safelight.errors import RequestError, UnknownNameError
from safelight.weights.folder import typed

if TYPE_CHECKING:
    from PIL.Image import Image

    from safelight.adapters.use import Use
    from safelight.adapters.worn import Wearable
    from safelight.generate.pipe import Pipe, Shown
    from safelight.generate.request import Request

TAG = re.compile(r"<lora:([^:<>]+)(?::([^:<>]*))?>")
"""A LoRA in a prompt, as A1111 writes it."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    add = parser.add_argument_group("with adapters").add_argument
    add("--lora", metavar="LORA", action="append", default=[], help="FILE[:scale[:block=scale,...]], repeatable; or"
        " <lora:name:0.8> in the prompt")  # fmt: skip
    add("--embedding", metavar="FILE", action="append", default=[],
        help="FILE[=WORD], a learned word for prompts, by default its own name; repeatable")  # fmt: skip
    add("--control", metavar="NET=IMAGE", action="append", default=[],
        help="a ControlNet or T2I-Adapter and its hint: NET=IMAGE[:strength[:start-end[:make=canny]]];"
        " repeatable")  # fmt: skip
    add("--image-prompt", metavar="FILE", action="append", default=[],
        help="FILE[:scale], a picture as a prompt, read by --image-adapter; repeatable")  # fmt: skip
    add("--image-adapter", metavar="FILE", help="the IP-Adapter that reads --image-prompt")
    add("--image-encoder", metavar="FOLDER", help="what it sees with; by default the one beside it")


class Asked(NamedTuple):
    """A file, how strongly, and what else was said of it."""

    name: str
    scale: float
    rest: str = ""


def split(flag: str, text: str) -> Asked:
    """``FILE[:scale[:rest]]``; a file whose name holds colons is taken whole where it is there.

    Raises:
        RequestError: the scale is no finite number.
    """
    if typed(text).exists():
        return Asked(text, 1.0)
    drive = 2 if re.match(r"[A-Za-z]:[\\/]", text) else 0
    name, *said = text[drive:].split(":", 2)
    scale = number(flag, said[0]) if said else 1.0
    return Asked(text[:drive] + name, scale, said[1] if len(said) > 1 else "")


def number(flag: str, text: str) -> float:
    """A finite number; RequestError for anything else."""
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not math.isfinite(found):
        raise RequestError(f"{flag}: what follows the file is a number, such as 0.8, not {text!r}")
    return found


def blocks(flag: str, text: str) -> dict[str, float] | tuple[float, ...]:
    """``block=scale,block=scale``, or a customary row of numbers."""
    if text and "=" not in text:
        return tuple(number(flag, part) for part in text.split(","))
    found: dict[str, float] = {}
    for part in text.split(",") if text else ():
        name, equals, value = part.partition("=")
        if not (equals and name.strip()):
            raise RequestError(f"{flag}: blocks are written block=scale,..., such as mid_block=0.5, not {text!r}")
        found[name.strip()] = number(flag, value)
    return found


@dataclass(frozen=True)
class Tagged:
    """Prompts without the LoRAs that stand in them, and the LoRAs of each."""

    requests: list[Request]
    tags: list[tuple[Asked, ...]]


def tagged(requests: Sequence[Request]) -> Tagged:
    """Take ``<lora:name:scale>`` out of the prompts.

    Raises:
        RequestError: a scale that is no number, or a LoRA in the negative prompt.
    """
    bare, tags = [], []
    for request in requests:
        if TAG.search(request.negative):
            raise RequestError("a LoRA changes the whole model; write <lora:...> in the prompt, not in the negative")
        found = (Asked(name, number("<lora>", scale or "1")) for name, scale in TAG.findall(request.prompt))
        tags.append(tuple(found))
        prompt = " ".join(TAG.sub(" ", request.prompt).split()) if tags[-1] else request.prompt
        bare.append(replace(request, prompt=prompt))
    return Tagged(bare, tags)


def worn(flag: str, asked: Asked, args: argparse.Namespace) -> Wearable:
    """One LoRA, loaded."""
    from safelight.generate.adapters import lora

    return lora(asked.name, source.source(args)).within(blocks(flag, asked.rest))


def word(text: str, args: argparse.Namespace) -> Wearable:
    """One ``--embedding``."""
    from safelight.generate.adapters import embedding

    name, equals, called = (text, "", "") if typed(text).exists() else text.partition("=")
    if equals and not called:
        raise RequestError(f"--embedding is FILE[=WORD], not {text!r}")
    return embedding(name, called, source.source(args))


def uses(args: argparse.Namespace, pipe: Pipe) -> tuple[Use, ...]:
    """What the flags say of adapters that a request uses.

    Raises:
        RequestError: they contradict each other. The others: see ``safelight/generate/adapters.py``.
    """
    shown = tuple(control(text, args, pipe) for text in args.control)
    if bool(args.image_prompt) != bool(args.image_adapter) or (args.image_encoder and not args.image_adapter):
        raise RequestError("--image-prompt, --image-adapter and --image-encoder belong together; name an IP-Adapter")
    return (*shown, *(image_prompts(args, pipe) if args.image_prompt else ()))


def control(text: str, args: argparse.Namespace, pipe: Pipe) -> Use:
    """One ``--control``."""
    from safelight.adapters.controlnet.use import ControlUse, Hint
    from safelight.adapters.t2i.model import T2IAdapter
    from safelight.adapters.t2i.use import T2IUse
    from safelight.adapters.use import Span
    from safelight.generate import adapters
    from safelight.generate.file import open_picture

    net, equals, shown = text.partition("=")
    if not (equals and net and shown):
        raise RequestError(f"--control is NET=IMAGE[:strength[:start-end[:word...]]], not {text!r}")
    asked = split("--control", shown)
    steps, *words = asked.rest.split(":")
    start, dash, end = steps.partition("-")
    span = Span(number("--control", start), number("--control", end)) if dash else Span()
    if steps and not dash:
        raise RequestError(f"--control: the steps are written start-end, such as 0-0.5, not {steps!r}")
    said = control_words(words)
    picture = made(open_picture(asked.name, deep=said.get("make") == "depth"), said.get("make"))
    loaded = adapters.guide(net, pipe.model, source.source(args))
    if isinstance(loaded.network, T2IAdapter):
        if "guess" in said or "kind" in said:
            raise RequestError("--control: guess and kind are of ControlNets; a T2I-Adapter has neither")
        return T2IUse(loaded, picture, asked.scale, span)
    return ControlUse(loaded, (Hint(picture, kind=said.get("kind")),), asked.scale, span, "guess" in said)


def control_words(words: Sequence[str]) -> dict[str, str]:
    """``make=canny``, ``kind=depth``, ``guess``; RequestError for anything else, or one twice."""
    found: dict[str, str] = {}
    for word in words:
        name, equals, value = word.partition("=")
        known = name in ("make", "kind") if equals else name == "guess"
        if not known or name in found or (equals and not value):
            raise RequestError(
                f"--control: behind the steps stand make=..., kind=... and guess, each once; not {word!r}"
            )
        found[name] = value
    return found


def made(picture: Image, maker: str | None) -> Image:
    """The picture, or the hint that is made of it; UnknownNameError where there is no such maker."""
    from safelight.adapters.preprocess.makers import MAKERS

    if maker is None:
        return picture
    if maker not in MAKERS:
        raise UnknownNameError("way to make a hint", maker, MAKERS)
    return MAKERS[maker](picture)


def image_prompts(args: argparse.Namespace, pipe: Pipe) -> Iterator[Use]:
    """Pictures of one scale are read together, as one prompt; the others each for itself."""
    from safelight.adapters.ip_adapter.use import ImageUse
    from safelight.generate.adapters import image_adapter
    from safelight.generate.file import open_picture

    adapter = image_adapter(args.image_adapter, pipe.model, args.image_encoder, source.source(args))
    asked = [split("--image-prompt", text) for text in args.image_prompt]
    if said := next((each.rest for each in asked if each.rest), ""):
        raise RequestError(f"--image-prompt is FILE[:scale]; {said!r} follows it")
    for scale in dict.fromkeys(each.scale for each in asked):
        yield ImageUse(adapter, [open_picture(each.name) for each in asked if each.scale == scale], scale)


def dress(args: argparse.Namespace, pipe: Pipe) -> None:
    """Lay over the pipe what the flags say, for good."""
    for text in args.lora:
        asked = split("--lora", text)
        pipe.wardrobe.put_on(worn("--lora", asked, args), asked.scale)
    for text in args.embedding:
        pipe.wardrobe.put_on(word(text, args))


def in_turn(
    pipe: Pipe, requests: Sequence[Request], tags: Sequence[tuple[Asked, ...]], worn: Mapping[Asked, Wearable]
) -> Iterator[Shown]:
    """Draw requests in order, each with the LoRAs of its own prompt; `Shown.picture` counts over all of them."""
    first = 0
    for mine, group in groupby(zip(tags, requests, strict=True), key=lambda pair: pair[0]):
        drawn = [request for _, request in group]
        with ExitStack() as stack:
            for asked in mine:
                stack.callback(pipe.wardrobe.take_off, pipe.wardrobe.put_on(worn[asked], asked.scale))
            for shown in pipe.watch(drawn):
                yield replace(shown, picture=first + shown.picture)
        first += len(drawn)
