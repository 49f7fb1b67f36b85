"""Where a picture's noise comes from, by name: our own two kinds, and what other programs draw for a seed.

Other programs keep one generator per picture (or a second one for the steps) and draw from it in the order in which
they need noise. A kind says which generator draws the start and which the steps. This table needs no torch;
``core/sources.py`` draws.

Sources: diffusers' documentation of reproducible pipelines (a list of generators); ComfyUI issue 9819 and pull request
11528, stable-diffusion.cpp pull request 978 (ComfyUI's second generator, on the network's device); A1111 issue 14413
(one generator per picture, variation seeds).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from safelight.errors import UnknownNameError


@dataclass(frozen=True)
class Kind:
    """How one program draws.

    Attributes:
        steps: noise of the steps: ``fresh`` and ``path`` are our own, ``stream`` are successive draws of a generator.
        start, engine: who draws the start and the stream, ``cpu`` or ``cuda``.
        delta: the stream's generator has the seed plus this; None where the start's own generator goes on.
        ensd: whether another delta may be asked for (A1111's "eta noise seed delta", 0 for none).
        varies: how a variation is mixed in: ``turn`` the start and the steps, ``columns`` the start alone, as A1111
            does; empty where the program has no variations.
    """

    steps: str
    start: str = "cpu"
    engine: str = "cpu"
    delta: int | None = None
    ensd: bool = False
    varies: str = ""


KINDS: dict[str, Kind] = {
    "fresh": Kind("fresh", varies="turn"),
    "path": Kind("path", varies="turn"),
    "diffusers": Kind("stream"),
    "diffusers-gpu": Kind("stream", start="cuda", engine="cuda"),
    "comfyui": Kind("stream", delta=1),
    "comfyui-gpu": Kind("stream", engine="cuda", delta=0),
    "a1111": Kind("stream", ensd=True, varies="columns"),
    "a1111-gpu": Kind("stream", start="cuda", engine="cuda", ensd=True, varies="columns"),
}


class Variation(NamedTuple):
    """A second picture's noise, mixed into the first's.

    Attributes:
        seed: of the second picture.
        strength: 0 is the first picture itself, 1 the second.
    """

    seed: int
    strength: float


def find(name: str) -> Kind:
    """The kind of a name; UnknownNameError lists the nearest."""
    if name not in KINDS:
        raise UnknownNameError("noise", name, KINDS)
    return KINDS[name]


def refusal(name: str, seed: int, ensd: int = 0, variation: Variation | None = None) -> str | None:
    """Why this kind of noise cannot do what is asked, or None.

    Raises:
        UnknownNameError: no such kind.
    """
    kind = find(name)
    if ensd and not kind.ensd:
        return f"ensd belongs to {_names(kind for kind in KINDS if KINDS[kind].ensd)}, not to noise {name!r}"
    if variation is not None:
        if not kind.varies:
            return f"noise {name!r} knows no variations; use {_names(kind for kind in KINDS if KINDS[kind].varies)}"
        if not 0.0 <= variation.strength <= 1.0:
            return f"the strength of a variation must lie between 0 and 1, not {variation.strength:g}"
    for each in (seed, seed + (ensd or kind.delta or 0), variation.seed if variation else seed):
        if not -(2**63) <= each < 2**64:
            return f"noise {name!r} needs a generator of seed {each}, which does not fit in 64 bits"
    return None


def _names(kinds: Iterator[str]) -> str:
    return " or ".join(f"noise {kind!r}" for kind in kinds)
