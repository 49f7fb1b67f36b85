"""Style alignment to a reference picture: self-attention sees, and resembles, what the reference's layers see.

Queries and keys take the mean and deviation of the reference's, channel by channel, and its keys and values stand
beside the picture's own.

Axes: W rows of a call, N tokens and C channels of a layer. Source: Hertz et al. 2312.02133 (attention shared between
pictures, normalised queries and keys). The paper aligns the pictures of a batch to its first; here a picture may
not depend on its neighbours, so what it is aligned to is always given, and noised to the picture's own level.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from PIL.Image import Image
from torch import Tensor

from safelight.adapters.bank import Bank, lend
from safelight.adapters.picture import source
from safelight.adapters.use import Aids, Call, Place
from safelight.core.path import Level
from safelight.families.family import Model
from safelight.nn.attention import Attention
from safelight.nn.ports import Ports

EPS = 1e-5


@dataclass(frozen=True)
class Style:
    """The use of a picture whose style is taken; nothing is loaded.

    Args:
        picture: fitted to what is drawn.
    """

    picture: Image

    @property
    def seeded(self) -> bool:
        """The noise on the reference belongs to the picture's seed."""
        return True

    def check(self, model: Model, size: tuple[int, int]) -> None:
        """Any picture will do."""

    def ready(self, place: Place) -> Aids:
        """Encode the reference; both sides of the guidance are aligned, each to what it says of the reference."""
        return Aids(*[Aligned(Bank(place.latents(self.picture), place.seed))] * 2)

    def told(self) -> Mapping[str, Any]:
        """What a recipe says of it."""
        shown = source(self.picture) or {}
        return {"kind": "style", "name": shown["file"], "files": {"picture": shown["sha256"]}}


@dataclass(frozen=True, eq=False)
class Aligned:
    """A `Style` made ready."""

    bank: Bank

    def on(self, level: Level) -> bool:
        """At every level."""
        return True

    def ports(self, call: Call, rows: Tensor, inner: Ports) -> Ports:
        """Ports in which the self-attention of its rows is aligned."""
        own, hidden = rows[:, None, None], self.bank.written(call).hidden

        def override(name: str, layer: Attention, x: Tensor) -> Tensor:
            there = hidden[name]

            def mixed(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
                keys = layer.to_k(there)
                near = torch.cat([aligned(k, keys), keys], dim=1), torch.cat([v, layer.to_v(there)], dim=1)
                return torch.where(own, layer.mix(aligned(q, layer.to_q(there)), *near), layer.mix(q, k, v))

            return lend(inner, layer, x, mixed)

        return replace(inner, override=override)


def aligned(x: Tensor, to: Tensor) -> Tensor:
    """[W, N, C] with the mean and deviation over the tokens that ``to`` has in each channel (AdaIN)."""
    (variance, mean), (variance_there, mean_there) = (
        torch.var_mean(y, dim=1, keepdim=True, correction=min(1, y.shape[1] - 1)) for y in (x, to)
    )
    return (x - mean) * ((variance_there + EPS) / (variance + EPS)).sqrt() + mean_there
