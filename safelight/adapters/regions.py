"""Prompts for regions: each is read where its mask is, by every layer that reads the text, and the request's elsewhere.

A layer reads every prompt with the same queries; each place takes the mean of what was read, weighed by what lies
there. Where regions overlap, their weights are shared out. The pooled text of networks that have one stays the
request's.

Axes: W rows of a call, H heads, D width of a head, N = h * w tokens of a layer, R regions, M X tokens and width of a
text. Source: "latent couple" and attention couple of other programs; Bar-Tal et al. 2302.08113 (masked means).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from PIL.Image import Image, Resampling
from torch import Tensor
from torch.nn import functional as F

from safelight.adapters.picture import named, source
from safelight.adapters.use import Aids, Call, Place
from safelight.core.path import Level
from safelight.encoders.prompt import legible
from safelight.errors import ImageError, RequestError
from safelight.families.family import Model
from safelight.nn.attention import Attention, split_heads
from safelight.nn.perturb import grid
from safelight.nn.ports import Ports

MOST, HEAVIEST = 16, 100.0
"""Regions of one picture, and the largest weight."""


@dataclass(frozen=True)
class Region:
    """A prompt and where it is read.

    Args:
        mask: fitted to the picture and cut at one half; white is where the prompt is read.
        prompt: read as the request's own is.
        weight: beside other regions that lie there, above 0 to 100.
    """

    mask: Image
    prompt: str
    weight: float = 1.0


@dataclass(frozen=True)
class Regions:
    """The use of prompts for regions; nothing is loaded.

    Args:
        regions: 1 to 16.
        base: weight of the request's own prompt where regions are: 0 (it is read only where none is) to 100.
    """

    regions: tuple[Region, ...]
    base: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "regions", tuple(self.regions))

    @property
    def seeded(self) -> bool:
        """It draws no noise."""
        return False

    def check(self, model: Model, size: tuple[int, int]) -> None:
        """Refuse early.

        Raises:
            RequestError: a weight out of its range, none or too many regions, or a network part of which reads the text
                where regions do not reach. ImageError: a mask without white. PromptError: a prompt that is no text.
        """
        if not 1 <= len(self.regions) <= MOST:
            raise RequestError(f"a picture has 1 to {MOST} regions with prompts, not {len(self.regions)}")
        if not 0.0 <= self.base <= HEAVIEST:
            raise RequestError(f"the weight of the prompt beside regions lies between 0 and 100, not {self.base:g}")
        for region in self.regions:
            if not 0.0 < region.weight <= HEAVIEST:
                raise RequestError(f"the weight of a region lies above 0 and up to 100, not {region.weight:g}")
            legible(region.prompt)
            fitted(region.mask, size)
        if model.ported is not None and len(model.ported.attentions) < len(model.ported.blocks):
            raise RequestError("this network reads the text in its self-attention too, where no region reaches it")

    def ready(self, place: Place) -> Aids:
        """Read the prompts.

        What guidance leads away from is that of the whole picture, and what an inversion is told is of it, too.
        """
        if place.rises:
            return Aids(None, None)
        texts = tuple(place.words(region.prompt).cond.context for region in self.regions)
        masks = torch.cat([region.weight * fitted(region.mask, place.size) for region in self.regions])
        return Aids(Coupled(texts, masks, self.base), None)

    def told(self) -> Mapping[str, Any]:
        """What a recipe says of it."""
        shown = [source(region.mask) or {} for region in self.regions]
        return {
            "kind": "regions",
            "name": ", ".join(each["file"] for each in shown),
            "files": {f"mask {place}": each["sha256"] for place, each in enumerate(shown, 1)},
            "prompts": [region.prompt for region in self.regions],
            "weights": [region.weight for region in self.regions],
            "base": self.base,
        }


@dataclass(frozen=True, eq=False)
class Coupled:
    """Prompts for regions made ready.

    Attributes:
        texts: R of [1, M, X]. masks: [R, 1, height, width] in pixels, weights where they are. base: see `Regions`.
        shares: number of tokens -> `shared` there, kept from call to call.
    """

    texts: tuple[Tensor, ...]
    masks: Tensor
    base: float
    shares: dict[int, Tensor] = field(default_factory=dict)

    def on(self, level: Level) -> bool:
        """At every level."""
        return True

    def ports(self, call: Call, rows: Tensor, inner: Ports) -> Ports:
        """Ports through which its rows read the prompts of the regions."""
        own, size = rows[:, None, None, None], (call.x.shape[-2], call.x.shape[-1])

        def beside(name: str, layer: Attention, q: Tensor, y: Tensor) -> Tensor:
            if q.shape[2] not in self.shares:
                self.shares[q.shape[2]] = self.shared(grid(q.shape[2], size), q)
            share = self.shares[q.shape[2]]
            total = share[0, :, None] * y
            for text, part in zip(self.texts, share[1:], strict=True):
                told = text.to(q).expand(len(q), -1, -1)
                k, v = (split_heads(project(told), layer.heads) for project in (layer.to_k, layer.to_v))
                total = total + part[:, None] * layer.read(q, k, v)
            y = torch.where(own, total, y)
            return y if inner.beside is None else inner.beside(name, layer, q, y)

        return replace(inner, beside=beside)

    def shared(self, size: tuple[int, int], like: Tensor) -> Tensor:
        """What each token of a grid (h, w) takes of the request's prompt and of each region's: [1 + R, N], sums of 1.

        A token that a mask covers in part takes as much of it; what no mask covers is the request's.
        """
        masks = self.masks if like.dtype.itemsize < 4 else self.masks.to(like.dtype)
        bare = (masks == 0).all(dim=0, keepdim=True) + masks.new_tensor(self.base)
        every = F.adaptive_avg_pool2d(torch.cat([bare, masks]), size).flatten(1)
        return (every / every.sum(dim=0)).to(like)


def fitted(mask: Image, size: tuple[int, int]) -> Tensor:
    """A mask as [1, 1, H, W], 1 where it is white: fitted to (width, height) and cut at one half.

    Raises:
        ImageError: nothing in it is white.
    """
    grey = mask.convert("L")
    grey = grey if grey.size == size else grey.resize(size, Resampling.BOX)
    white = torch.frombuffer(bytearray(grey.tobytes()), dtype=torch.uint8).reshape(1, 1, size[1], size[0]) >= 128
    if not white.any():
        raise ImageError(
            f"the mask of a region{named(mask)} has no white, so its prompt would be read nowhere; white is the region"
        )
    return white.float()
