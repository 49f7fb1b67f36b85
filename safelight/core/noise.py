"""Noise as a function of (seed, view or frame, purpose, level): never of batch, order or queue.

Every draw has its own generator, seeded by a stable hash of what the draw is for. Draws are made on the CPU, in
float32, so a seed means the same picture whatever the device. Shapes: [1, *shape], one picture at a time.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from safelight.errors import RequestError

if TYPE_CHECKING:
    from torch import Tensor

    from safelight.core.path import Level
    from safelight.core.run import Noise

_LAM_GRAIN = 1e-6  # levels closer than this share their noise: a last bit of another machine's log must not matter


def key(*parts: int | str) -> int:
    """A generator seed, 0 to 2^63 - 1, from a list of integers and words: the same on every machine and every day."""
    spelled = "\x1f".join(f"{type(part).__name__}:{part}" for part in parts)
    digest = hashlib.blake2b(spelled.encode(), digest_size=8, person=b"safelight").digest()
    return int.from_bytes(digest, "big") >> 1


def draw(seed: int, shape: tuple[int, ...]) -> Tensor:
    """Unit normal [1, *shape], float32: ``torch.randn((1, *shape))`` from a CPU generator seeded with ``seed``.

    Raises:
        RequestError: the seed does not fit torch's generator, -2^63 to 2^64 - 1.
    """
    if not -(2**63) <= seed < 2**64:
        raise RequestError(f"seed {seed} does not fit in 64 bits")
    return torch.randn((1, *shape), generator=torch.Generator("cpu").manual_seed(seed))


def start_noise(seed: int, shape: tuple[int, ...], view: int = 0) -> Tensor:
    """The noise from which a picture starts, [1, *shape].

    For view 0 it is exactly what diffusers and ComfyUI draw on a CPU for this seed; other views and frames are
    independent of it and of each other.
    """
    return draw(seed if view == 0 else key(seed, view, "start"), shape)


@dataclass(frozen=True)
class Fresh:
    """Independent noise for every step of one picture: a ``Noise``.

    The draw for a step is a function of (seed, view, s, t) alone, so asking twice gives the same tensor.

    Args:
        seed: the picture's own seed.
        shape: of the state, without the leading 1.
        view: which view or frame of the request this is.
        device: where the draw is put after it was made on the CPU.
    """

    seed: int
    shape: tuple[int, ...]
    view: int = 0
    device: str | torch.device = "cpu"

    def __call__(self, s: Level, t: Level) -> Tensor:
        """Unit normal [1, *shape] for the step from s to t."""
        return draw(key(self.seed, self.view, "step", _grain(s), _grain(t)), self.shape).to(self.device)


def until(noise: Noise, end: Level) -> Noise:
    """The same noise, but none for the steps that lead to ``end``."""
    return lambda s, t: torch.zeros_like(noise(s, t)) if t == end else noise(s, t)


def _grain(level: Level) -> int | str:
    return round(level.lam / _LAM_GRAIN) if math.isfinite(level.lam) else str(level.lam)
