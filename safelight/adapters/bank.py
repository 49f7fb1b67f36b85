"""What a network makes of a reference picture, noised as much as each row of a call: kept for those rows to read.

Axes: W rows of a call, [W, Z, h, w] latents, N tokens and C channels of a layer. Source: Zhang 2023, ControlNet's
"reference-only" (write, then read); the same two passes in Hertz et al. 2312.02133 and Zero123++ (2310.15110).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor

from safelight.adapters.use import Call
from safelight.core.noise import Fresh, key
from safelight.core.path import Level
from safelight.nn.attention import Attention
from safelight.nn.ports import Ports

EPS = 1e-6


@dataclass(frozen=True)
class Written:
    """What was seen of the reference in one call.

    Attributes:
        hidden: name of a self-attention layer -> its normalised input [W, N, C].
        spreads: name of a stage (`Ports.stage`) -> mean and deviation of its features over the picture,
            [W, C, 1, 1] each.
    """

    hidden: Mapping[str, Tensor]
    spreads: Mapping[str, tuple[Tensor, Tensor]]


@dataclass(eq=False)
class Bank:
    """A reference picture of one picture that is drawn; asked by the adapters of both sides of the guidance.

    Attributes:
        latents: [1, Z, h, w] of the reference.
        seed: of the picture that is drawn: its noise on the reference is a function of that and of the level.
        spread: whether spreads are kept.
        last: the last call, and what was written in it.
    """

    latents: Tensor
    seed: int
    spread: bool = False
    last: tuple[Call, Written] | None = field(default=None, repr=False)

    def written(self, call: Call) -> Written:
        """What the plain network makes of the reference in the place of every row; asked once for a call."""
        if self.last is None or self.last[0] is not call:
            self.last = call, self._write(call)
        return self.last[1]

    def noisy(self, levels: tuple[Level, ...], like: Tensor) -> Tensor:
        """The reference at each of these levels, in the format and on the device of ``like``: [W, Z, h, w]."""
        noise = noise_on(self.seed, self.latents)
        drawn = {level: noise(level) for level in {*levels}}
        return torch.cat([level.alpha * self.latents + level.sigma * drawn[level] for level in levels]).to(like)

    def _write(self, call: Call) -> Written:
        return write(call.predict, self.noisy(tuple(call.levels), call.x), call.t, call.told, spreads=self.spread)


def noise_on(seed: int, latents: Tensor) -> Callable[[Level], Tensor]:
    """level -> the unit noise on a reference [1, Z, h, w] there: a function of the seed and of the level."""
    noise = Fresh(key(seed, 0, "reference"), tuple(latents.shape[1:]), device=latents.device)
    return lambda level: noise(level, level).to(latents)


def write(
    predict: Callable[[Tensor, Tensor, Any, Ports], Tensor], noisy: Tensor, t: Tensor, told: Any, *, spreads: bool
) -> Written:
    """What a network makes of noisy references in the place of the rows of a call.

    Args:
        predict: (latents, labels, record, ports) -> its output, which is not looked at.
        noisy: [W, Z, h, w], at the labels t [W]. told: the family's record, of W rows.
        spreads: whether spreads are kept.
    """
    hidden: dict[str, Tensor] = {}
    kept: dict[str, tuple[Tensor, Tensor]] = {}

    def override(name: str, layer: Attention, x: Tensor) -> Tensor:
        hidden[name] = x
        return layer(x)

    def stage(name: str, x: Tensor) -> Tensor:
        kept[name] = spread(x)
        return x

    predict(noisy, t, told, Ports(override=override, stage=stage if spreads else None))
    return Written(hidden, kept)


def read(layer: Attention, there: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """What a self-attention layer makes of its own tokens with those of a reference beside them: [W, N, C].

    Args:
        there: the layer's input when the reference was written, [W, M, C].
        q, k, v: of its own tokens, [W, N, C] each.
    """
    return layer.mix(q, torch.cat([k, layer.to_k(there)], dim=1), torch.cat([v, layer.to_v(there)], dim=1))


def spread(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation, EPS or more in its square, of each channel over the picture: [W, C, 1, 1] each."""
    variance, mean = torch.var_mean(x, dim=(2, 3), keepdim=True, correction=0)
    return mean, variance.clamp(min=EPS).sqrt()


class Lent:
    """A self-attention layer whose mixing somebody changed, for whoever calls it, other adapters included.

    Args:
        mixed: (queries, keys, values of the layer, [W, N, C]) -> what it makes of them, [W, N, C].
    """

    def __init__(self, layer: Attention, mixed: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
        self.name, self.heads, self.upcast = layer.name, layer.heads, layer.upcast
        self.to_q, self.to_k, self.to_v, self.to_out = layer.to_q, layer.to_k, layer.to_v, layer.to_out
        self.mix = mixed

    def __call__(self, x: Tensor) -> Tensor:
        return self.mix(self.to_q(x), self.to_k(x), self.to_v(x))


def lend(inner: Ports, layer: Attention, x: Tensor, mixed: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Tensor:
    """What a self-attention layer gives where its mixing is changed, and then perturbed by the ports before.

    Perturbed rows (PAG, SEG, SAG) stay perturbed: they ask the changed layer as they would ask the plain one.
    """
    changed = cast(Attention, Lent(layer, mixed))
    return changed(x) if inner.override is None else inner.override(layer.name, changed, x)
