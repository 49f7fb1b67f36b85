"""The text that A1111 made customary: the prompt, "Negative prompt: ...", and a last line of ``Name: value`` pairs.

Values in which a comma, a colon, a quote or a line break would confuse are JSON strings. A last line counts as settings
from three pairs on; else it belongs to the prompt. One thing the form cannot hold: a prompt with a line that begins
with "Negative prompt:".
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from safelight.errors import ImageError
from safelight.generate.metadata.settings import A1111, LONGEST, SAFELIGHT, SD_CPP, Settings, real, whole

NEGATIVE = "Negative prompt:"
FEWEST = 3
LONGEST_LINE = 2**16
"""Letters of a line of settings; longer ones are a prompt."""
# A name is short, so that a long line without colons is not searched from every letter to its end.
PAIR = re.compile(r'\s*(\w[\w \-/]{0,60}):\s*("(?:\\.|[^\\"])*"|[^,]*)(?:,|$)')


def read(text: str) -> Settings:
    """What a text of this form says.

    Raises:
        ImageError: it is longer than any such text.
    """
    if len(text) > LONGEST:
        raise ImageError(f"the parameters have {len(text)} letters; more than {LONGEST} are not read")
    above, _, last = text.rstrip().rpartition("\n")
    found = pairs(last)
    prompt, begins, negative = ("\n" + (above if found else text)).partition("\n" + NEGATIVE)
    return settled(prompt.removeprefix("\n"), negative.removeprefix(" ") if begins else "", found)


def pairs(line: str) -> dict[str, str]:
    """Names and values of a line of settings, unquoted; empty where it is none."""
    if len(line) > LONGEST_LINE:
        return {}
    found = [(name, unquoted(value)) for name, value in PAIR.findall(line)]
    return dict(found) if len(found) >= FEWEST else {}


def settled(prompt: str, negative: str, found: Mapping[str, str]) -> Settings:
    """The settings of texts and pairs; a value that is not of its kind stays among the others."""
    rest = dict(found)

    def take(name: str, kind: Any) -> Any:
        value = kind(rest[name]) if name in rest else None
        if value is not None:
            del rest[name]
        return value

    numbers = {name: take(key, kind) for name, (key, kind) in KEYS.items()}
    seed, strength = whole(rest.get("Variation seed")), real(rest.get("Variation seed strength"))
    if seed is not None and strength is not None:
        numbers["variation"] = seed, strength
        del rest["Variation seed"], rest["Variation seed strength"]
    hires = {name: take(key, kind) for name, (key, kind) in HIRES.items()}
    version = take("Version", str) or ""
    program = next((each for each in (SAFELIGHT, SD_CPP) if version.startswith(each)), A1111)
    return Settings(
        program=program,
        version=version.removeprefix(program).strip() if program != A1111 else version,
        hires={name: value for name, value in hires.items() if value is not None},
        other=rest,
        prompt=prompt,
        negative=negative,
        **numbers,
    )


def edges(text: str) -> tuple[int, int] | None:
    """Width and height, from such as 512x768."""
    found = re.fullmatch(r"(\d{1,6})x(\d{1,6})", text.strip())
    return (int(found[1]), int(found[2])) if found else None


KEYS: dict[str, tuple[str, Any]] = {
    "steps": ("Steps", whole),
    "sampler": ("Sampler", str),
    "schedule": ("Schedule type", str),
    "guidance": ("CFG scale", real),
    "seed": ("Seed", whole),
    "size": ("Size", edges),
    "hash": ("Model hash", str),
    "model": ("Model", str),
    "strength": ("Denoising strength", real),
    "clip_skip": ("Clip skip", whole),
    "ensd": ("ENSD", whole),
    "rng": ("RNG", str),
}
HIRES: dict[str, tuple[str, Any]] = {
    "scale": ("Hires upscale", real),
    "steps": ("Hires steps", whole),
    "upscaler": ("Hires upscaler", str),
}
"""Our name of a setting -> A1111's, and how its value is read."""
FIRST = ("Steps", "Sampler", "Schedule type", "CFG scale", "Seed", "Variation seed", "Variation seed strength", "Size")
"""What a line begins with; the rest follows in the order of the tables."""


def write(settings: Settings) -> str:
    """The text of settings, which `read` gives back."""
    told: dict[str, Any] = {key: getattr(settings, name) for name, (key, _) in KEYS.items()}
    if settings.size:
        told["Size"] = "x".join(map(str, settings.size))
    if settings.variation:
        told["Variation seed"], told["Variation seed strength"] = settings.variation
    told |= {key: settings.hires.get(name) for name, (key, _) in HIRES.items()}
    told |= settings.other
    ours = settings.program != A1111
    told["Version"] = f"{settings.program} {settings.version}".strip() if ours else settings.version or None
    ordered = [*(name for name in FIRST if name in told), *(name for name in told if name not in FIRST)]
    last = ", ".join(f"{name}: {quoted(number(told[name]))}" for name in ordered if told[name] is not None)
    negative = [f"{NEGATIVE} {settings.negative}"] if settings.negative else []
    return "\n".join([settings.prompt, *negative, last])


def number(value: Any) -> str:
    """A value as a person would write it: 7 and not 7.0, and every digit that it has."""
    short = f"{value:g}" if isinstance(value, float) else str(value)
    return short if not isinstance(value, float) or float(short) == value else repr(value)


def quoted(value: str) -> str:
    """A value in A1111's way: as it is, or as a JSON string where it would confuse."""
    plain = value == value.strip() and not any(sign in value for sign in ',:\n\r"')
    return value if plain else json.dumps(value, ensure_ascii=False)


def unquoted(value: str) -> str:
    """What `quoted` had been given; a text in quotes that is no JSON stays as it is."""
    if not (len(value) > 1 and value.startswith('"') and value.endswith('"')):
        return value
    try:
        return str(json.loads(value))
    except ValueError:
        return value
