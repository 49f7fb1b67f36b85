"""The noise of one picture: where it starts and what its steps draw, as a kind of ``core/kinds.py`` has it.

Shapes: [1, *shape], float32, drawn on the CPU. Sources: Shoemake 1985 (slerp); the generators' own are in
``core/noise.py``, ``core/brownian.py`` and ``core/philox.py``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import torch

from safelight.core.brownian import Brownian
from safelight.core.kinds import Kind, Variation, find, refusal
from safelight.core.noise import Fresh, start_noise
from safelight.core.philox import normals
from safelight.errors import RequestError

if TYPE_CHECKING:
    from torch import Tensor

    from safelight.core.path import Level
    from safelight.core.run import Noise


class Source(NamedTuple):
    """The noise of one picture: where it starts [1, *shape], and what its steps draw."""

    start: Tensor
    noise: Noise


class Stream:
    """Successive draws from one generator: the n-th question gets the n-th draw, whatever the levels. For one run.

    Args:
        engine: ``cpu``, torch's own generator, or ``cuda``, what an NVIDIA card would draw.
        seed, shape, device: as `Fresh`.
    """

    def __init__(self, engine: str, seed: int, shape: tuple[int, ...], device: str | torch.device = "cpu") -> None:
        self.shape, self.device = shape, device
        self._draws = (_cuda if engine == "cuda" else _cpu)(seed, shape)

    def take(self) -> Tensor:
        """The next draw, [1, *shape]."""
        return next(self._draws).to(self.device)

    def __call__(self, s: Level, t: Level) -> Tensor:
        """The next draw, for the step from s to t."""
        return self.take()


def _cpu(seed: int, shape: tuple[int, ...]) -> Iterator[Tensor]:
    generator = torch.Generator("cpu").manual_seed(seed)
    while True:
        yield torch.randn((1, *shape), generator=generator)


def _cuda(seed: int, shape: tuple[int, ...]) -> Iterator[Tensor]:
    turn = 0
    while True:
        yield normals(seed, turn, math.prod(shape)).reshape(1, *shape)
        turn += 1


class Turned:
    """Two noises mixed so that independent ones stay unit normal: a ``Noise``. See `turn`."""

    def __init__(self, first: Noise, second: Noise, strength: float) -> None:
        self.first, self.second, self.strength = first, second, strength

    def __call__(self, s: Level, t: Level) -> Tensor:
        """Unit normal for the step from s to t."""
        return turn(self.first(s, t), self.second(s, t), self.strength)


def turn(first: Tensor, second: Tensor, strength: float) -> Tensor:
    """cos(a) first + sin(a) second, a = strength pi / 2: unit normal for independent unit normals.

    Args:
        strength: 0 gives the first, 1 the second, both to the last bit.
    """
    if strength in (0.0, 1.0):
        return second if strength else first
    angle = strength * math.pi / 2.0
    return math.cos(angle) * first + math.sin(angle) * second


def slerp(first: Tensor, second: Tensor, strength: float) -> Tensor:
    """Every column of [..., h, w] turned from the first towards the second on the sphere, at constant speed.

    Columns that point the same way have no angle between them: those are mixed along a straight line.
    """
    ends = [each / each.norm(dim=-2, keepdim=True) for each in (first, second)]
    angle = torch.acos((ends[0] * ends[1]).sum(-2, keepdim=True).clamp(-1.0, 1.0))
    sine = torch.sin(angle)
    flat = sine < 1e-4
    parts = [
        torch.where(flat, share, torch.sin(share * angle) / torch.where(flat, 1.0, sine))
        for share in (1.0 - strength, strength)
    ]
    return parts[0] * first + parts[1] * second


def source(
    name: str,
    seed: int,
    shape: tuple[int, ...],
    *,
    ensd: int = 0,
    variation: Variation | None = None,
    device: str | torch.device = "cpu",
) -> Source:
    """The noise of one picture.

    Args:
        name: of `KINDS`.
        seed: the picture's own.
        shape: of the state, without the leading 1.
        ensd: added to the seed for the noise of the steps, where the kind knows that; 0 for none.
        variation: a second picture's noise to be mixed in, where the kind knows that.
        device: where draws are put after they were made on the CPU.

    Raises:
        UnknownNameError: no such kind. RequestError: the kind cannot do that.
    """
    kind = find(name)
    if words := refusal(name, seed, ensd, variation):
        raise RequestError(words)
    own = _source(kind, seed, shape, ensd, device)
    if variation is None or variation.strength == 0.0 or variation.seed == seed:
        return own
    other = _source(kind, variation.seed, shape, ensd, device)
    if kind.varies == "columns":
        return own._replace(start=slerp(own.start, other.start, variation.strength))
    mixed = Turned(own.noise, other.noise, variation.strength)
    return Source(turn(own.start, other.start, variation.strength), mixed)


def _source(kind: Kind, seed: int, shape: tuple[int, ...], ensd: int, device: str | torch.device) -> Source:
    if kind.steps != "stream":
        make = Brownian if kind.steps == "path" else Fresh
        return Source(start_noise(seed, shape).to(device), make(seed, shape, device=device))
    first = Stream(kind.start, seed, shape, device)
    start = first.take()
    delta = ensd or kind.delta
    return Source(start, first if delta is None else Stream(kind.engine, seed + delta, shape, device))
