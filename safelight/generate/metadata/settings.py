"""What a picture says of how it was drawn, whichever program drew it, in that program's own words and counts.

What the words mean here stands in ``generate/repeat.py``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from safelight.errors import ImageError

SAFELIGHT, A1111, COMFYUI = "safelight", "A1111", "ComfyUI"
INVOKEAI, SD_CPP = "InvokeAI", "stable-diffusion.cpp"
LONGEST = 4 * 2**20
"""Letters of the longest text that is read; graphs of hundreds of nodes have a tenth of it."""


@dataclass(frozen=True)
class Settings:
    """How a picture was drawn; None and empty for what it does not say.

    Attributes:
        program, version: who drew it.
        prompt, negative: as they stand there, with the program's own signs in them.
        sampler, schedule: in the program's spelling.
        rescale: 0 (off) to 1, of guided predictions.
        size: of the first pass, in pixels.
        model, hash: its name, and the first hex digits of its SHA-256.
        image: what it was drawn over: a file's name, or "" where it does not say.
        strength: how much of that was forgotten, or of the first pass where there is a second: 0 nothing to 1 all.
        clip_skip: layer of the text encoder counted from the last, 1 for the last itself.
        ensd, rng, variation: as in A1111; the last is another seed and how much of its noise is mixed in.
        loras: name and weight.
        hires: of a second pass, where there is one: ``scale``, ``steps`` (those that run), ``upscaler``.
        other: all else that it says, by its name there.
        unread: what it holds that could not be followed, each in a few words.
    """

    program: str
    version: str = ""
    prompt: str = ""
    negative: str = ""
    steps: int | None = None
    sampler: str | None = None
    schedule: str | None = None
    guidance: float | None = None
    rescale: float | None = None
    seed: int | None = None
    size: tuple[int, int] | None = None
    model: str | None = None
    hash: str | None = None
    image: str | None = None
    strength: float | None = None
    clip_skip: int | None = None
    ensd: int | None = None
    rng: str | None = None
    variation: tuple[int, float] | None = None
    loras: tuple[tuple[str, float], ...] = ()
    hires: Mapping[str, Any] = field(default_factory=dict)
    other: Mapping[str, str] = field(default_factory=dict)
    unread: tuple[str, ...] = ()

    def told(self) -> dict[str, Any]:
        """What it says, without what it does not say."""
        every = {each.name: getattr(self, each.name) for each in fields(self)}
        return {name: value for name, value in every.items() if value not in (None, (), {}, "") or name == "prompt"}


def table(text: str, what: str) -> dict[str, Any]:
    """The JSON object in a text.

    Args:
        what: it is, for the error.

    Raises:
        ImageError: it is none, or too long.
    """
    if len(text) > LONGEST:
        raise ImageError(f"the {what} has {len(text)} letters; more than {LONGEST} are not read")
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ImageError(f"the {what} is damaged ({str(error)[:80]})") from None
    if not isinstance(found, dict):
        raise ImageError(f"the {what} is damaged (not a table)")
    return found


def words(value: Any) -> str | None:
    """A text, or None."""
    return value if isinstance(value, str) else None


def whole(value: Any) -> int | None:
    """A whole number, also one written as text or with a point, or None."""
    number = real(value)
    if number is None:
        return None
    if isinstance(value, int) or (isinstance(value, str) and value.strip().lstrip("-").isdecimal()):
        return int(value)  # a seed of 64 bits would lose its last digits on the way through a float
    return int(number) if number.is_integer() else None


def real(value: Any) -> float | None:
    """A finite number, also one written as text, or None."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value) if len(str(value)) <= 40 else math.nan
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None
