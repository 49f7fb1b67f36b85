"""Reference-only attention: self-attention reads a reference picture beside the one that is drawn.

At every step the plain network is shown the reference, noised as much as the picture is (write); then each
self-attention layer of the picture reads its own tokens and the reference's (read).

Axes: W rows of a call, N tokens and C channels of a layer, h w grid. Source: Zhang 2023, ControlNet's "reference-only"
and "reference-adain"; what strengths and blocks mean is diffusers' community pipeline's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from PIL.Image import Image
from torch import Tensor

from safelight.adapters.bank import Bank, Written, lend, read, spread
from safelight.adapters.picture import source
from safelight.adapters.use import Aids, Call, Place
from safelight.core.path import Level
from safelight.errors import RequestError
from safelight.families.family import Model
from safelight.nn.attention import Attention
from safelight.nn.ports import Ports


@dataclass(frozen=True)
class Reference:
    """The use of a reference picture; nothing is loaded.

    Args:
        picture: fitted to what is drawn.
        fidelity: how much of the plain answer stays in what guidance leads away from: at 0 both sides read the
            reference, at 1 only the prompt's does, so that guidance leads towards it.
        attention: whether self-attention reads it.
        spread: whether features take its mean and deviation, channel by channel, in the coarser half of the network.
    """

    picture: Image
    fidelity: float = 0.5
    attention: bool = True
    spread: bool = False

    @property
    def seeded(self) -> bool:
        """The noise on the reference belongs to the picture's seed."""
        return True

    def check(self, model: Model, size: tuple[int, int]) -> None:
        """Raises: RequestError where the fidelity is out of its range, or nothing is to be done."""
        if not 0.0 <= self.fidelity <= 1.0:
            raise RequestError(f"the fidelity of a reference lies between 0 and 1, not {self.fidelity:g}")
        if not self.attention and not self.spread:
            raise RequestError("a reference without attention and spread does nothing; take one, or leave it out")

    def ready(self, place: Place) -> Aids:
        """Encode the reference."""
        bank = Bank(place.latents(self.picture), place.seed, spread=self.spread)
        cond = Reader(bank, 0.0, self.attention)
        if not self.fidelity:
            return Aids(cond, cond)
        return Aids(cond, Reader(bank, self.fidelity, self.attention) if self.fidelity < 1.0 else None)

    def told(self) -> Mapping[str, Any]:
        """What a recipe says of it."""
        shown = source(self.picture) or {}
        numbers = {"fidelity": self.fidelity, "attention": self.attention, "spread": self.spread}
        return {"kind": "reference", "name": shown["file"], "files": {"picture": shown["sha256"]}, **numbers}


@dataclass(frozen=True, eq=False)
class Reader:
    """One side of the guidance reading: ``plain`` is the share of the answer without the reference."""

    bank: Bank
    plain: float
    attention: bool

    def on(self, level: Level) -> bool:
        """At every level."""
        return True

    def ports(self, call: Call, rows: Tensor, inner: Ports) -> Ports:
        """Ports through which its rows read the reference."""
        written = self.bank.written(call)
        ports = replace(inner, override=self._override(written, rows, inner)) if self.attention else inner
        return replace(ports, stage=self._stage(written, rows, inner)) if self.bank.spread else ports

    def _override(self, written: Written, rows: Tensor, inner: Ports) -> Any:
        own = rows[:, None, None]

        def override(name: str, layer: Attention, x: Tensor) -> Tensor:
            there = written.hidden[name]

            def mixed(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
                alone = layer.mix(q, k, v)
                return torch.where(own, self._between(alone, read(layer, there, q, k, v)), alone)

            return lend(inner, layer, x, mixed)

        return override

    def _stage(self, written: Written, rows: Tensor, inner: Ports) -> Any:
        own, deep = rows[:, None, None, None], coarse(written.spreads)

        def stage(name: str, x: Tensor) -> Tensor:
            x = x if inner.stage is None else inner.stage(name, x)
            if name not in deep:
                return x
            (mean, deviation), (mean_there, deviation_there) = spread(x), written.spreads[name]
            return torch.where(own, self._between(x, (x - mean) / deviation * deviation_there + mean_there), x)

        return stage

    def _between(self, alone: Tensor, read: Tensor) -> Tensor:
        return self.plain * alone + (1.0 - self.plain) * read if self.plain else read


def coarse(names: Mapping[str, Any]) -> frozenset[str]:
    """The stages of the coarser half: of n blocks, those from n / 2 on the way down and those to n / 2 on the way up.

    Args:
        names: as in ``down_blocks.2.0``: block, number, layer; the middle is always among them.
    """
    split = [(name, *name.rsplit(".", 2)[:2]) for name in names]
    count = {way: 1 + max(int(n) for _, w, n in split if w == way) for way in ("down_blocks", "up_blocks")}
    return frozenset(
        name
        for name, way, number in split
        if way not in count
        or (way == "down_blocks" and 2 * int(number) >= count[way])
        or (way == "up_blocks" and 2 * int(number) <= count[way])
    )
