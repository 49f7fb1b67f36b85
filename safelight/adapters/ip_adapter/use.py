"""Pictures as prompts in a request: which adapter reads which pictures, how much, in which layers, and where.

Axes: W rows of a call, n groups of pictures, M tokens of a group, H heads, D width of a head, N = h * w tokens of a
layer. Several pictures are one group, which a layer reads with one attention; with masks each is a group of its own.
Source: Ye et al. 2308.06721, equation 5; diffusers' documented masks; Wang et al. 2404.02733 (InstantStyle: which
blocks are style and which layout).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from safelight.adapters.ip_adapter.file import Faces, IpAdapter
from safelight.adapters.ip_adapter.model import FACES, misfit, numbered
from safelight.adapters.picture import named, source
from safelight.adapters.use import WHOLE, Aids, Call, Place, Span
from safelight.core.path import Level
from safelight.errors import ImageError, RequestError
from safelight.families.family import Model
from safelight.families.sd.model import UNet
from safelight.nn.attention import Attention, split_heads
from safelight.nn.ports import Ports

MOST = 64
"""Pictures of one use; each of the largest kind is 257 tokens."""
HEAVIEST = 100.0


@dataclass(frozen=True)
class ImageUse:
    """What a request asks of an IP-Adapter; stands in ``Request.adapters``.

    Args:
        adapter: see `safelight.adapters.ip_adapter.file.load_ip_adapter`.
        pictures: what is shown; several are read together, as one prompt.
        scale: 0 (nothing) to 1 (as trained) and above; may be negative.
        blocks: beginning of a layer's dotted name -> share of the scale there, the longest one that fits; a layer that
            none fits has 0. Empty for all layers alike. InstantStyle's style in SDXL is ``{"up_blocks.0.attentions.1":
            1.0}``, its layout ``{"down_blocks.2.attentions.1": 1.0}``.
        masks: one for each picture, fitted to the drawn one: the picture is read where its mask is white.
        faces: embeddings of faces, for the kinds that are shown them.
        span: the share of the steps at which it works.
    """

    adapter: IpAdapter
    pictures: Sequence[Image.Image] = ()
    scale: float = 1.0
    blocks: Mapping[str, float] = field(default_factory=dict)
    masks: Sequence[Image.Image] = ()
    faces: Faces | None = None
    span: Span = WHOLE
    seeded = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "pictures", tuple(self.pictures))
        object.__setattr__(self, "masks", tuple(self.masks))
        object.__setattr__(self, "blocks", dict(self.blocks))
        for number in (self.scale, *self.blocks.values()):
            if not abs(number) <= HEAVIEST:
                raise RequestError(f"the scale of pictures is a number up to {HEAVIEST:g}, not {number}")

    def check(self, model: Model, size: tuple[int, int]) -> None:
        """Refuse early; see `safelight.adapters.use.Use`."""
        if why := misfit(self.adapter.network.plan, model.network):
            raise RequestError(f"{self.adapter.path}: {why}")
        assert isinstance(model.network, UNet)
        self.span.check("an image prompt")
        self._check_shown()
        names = [layer.name for layer in numbered(model.network) if layer.name.endswith("attn2")]
        for begin in self.blocks:
            if not any(begins(name, begin) for name in names):
                raise RequestError(f"no layer that reads the text begins with {begin!r}; the first is {names[0]}")
        for mask in self.masks:
            fitted(mask, size)

    def _check_shown(self) -> None:
        told = self.adapter.network.plan
        sees, knows = self.adapter.viewer is not None, told.kind in FACES
        pictures, faces = len(self.pictures), 0 if self.faces is None else len(self.faces.vectors)
        for what, wanted, given in (("pictures", sees, pictures), ("embeddings of faces", knows, faces)):
            if bool(given) != wanted or given > MOST:
                asked = f"1 to {MOST}" if wanted else "no"
                raise RequestError(f"{self.adapter.name} ({told.kind}) is shown {asked} {what}, not {given}")
        if sees and knows and pictures != faces:
            raise RequestError(f"{pictures} pictures and {faces} faces were given; one of each belong together")
        if self.faces is not None and self.faces.vectors.shape[-1] != told.face:
            width = self.faces.vectors.shape[-1]
            raise RequestError(f"{self.faces.path}: faces of width {width}; {self.adapter.name} reads {told.face}")
        shown = max(pictures, faces)
        if self.masks and len(self.masks) != shown:
            raise RequestError(f"{len(self.masks)} masks for {shown} pictures; give one for each, or none")
        for picture in self.pictures:
            assert self.adapter.viewer is not None
            self.adapter.viewer.pixels.fitted(picture.size)

    def ready(self, place: Place) -> Aids:
        """Encode the pictures, once for a pass."""
        network = place.model.network
        assert isinstance(network, UNet)
        faces = None if self.faces is None else self.faces.vectors
        scales = {n: self.scale_of(layer.name) for n, layer in enumerate(numbered(network))}
        masks = grids(self.masks, place, len(network.config.block_out_channels))
        aids = []
        for tokens in self.adapter.tokens(tuple(self.pictures), faces):
            groups = tokens if self.masks else tokens.flatten(0, 1)[None]
            pairs = self._pairs(network, groups, scales)
            aids.append(Reading(pairs, masks, self.span, tuple(place.levels)))
        return Aids(*aids)

    def scale_of(self, name: str) -> float:
        """How much a layer listens to the pictures."""
        if not self.blocks:
            return self.scale
        fitting = [begin for begin in self.blocks if begins(name, begin)]
        return self.scale * self.blocks[max(fitting, key=len)] if fitting else 0.0

    def _pairs(self, network: UNet, groups: Tensor, scales: Mapping[int, float]) -> dict[str, Pair]:
        made: dict[str, Pair] = {}
        like = next(network.parameters())
        for number, layer in enumerate(numbered(network)):
            if number in self.adapter.network.plan.pairs and scales[number]:
                with torch.no_grad():
                    found = self.adapter.network.layer(number).pair(groups)
                k, v = (split_heads(each.to(like), layer.heads) for each in found)
                made[layer.name] = Pair(k, v, scales[number])
        return made

    def told(self) -> Mapping[str, Any]:
        """What a recipe says of it."""
        said: dict[str, Any] = {
            "kind": "ip-adapter",
            "name": self.adapter.name,
            "files": self.adapter.hashes,
            "scale": self.scale,
            "images": [source(picture) for picture in self.pictures],
        }
        if self.blocks:
            said["blocks"] = dict(self.blocks)
        if self.masks:
            said["masks"] = [source(mask) for mask in self.masks]
        if self.faces is not None:
            said["faces"] = self.faces.path.name
        if self.span != WHOLE:
            said["span"] = list(self.span)
        return said


@dataclass(frozen=True)
class Pair:
    """What one layer reads beside the text: keys and values [n, H, M, D], and how much they count."""

    k: Tensor
    v: Tensor
    scale: float


@dataclass(frozen=True, eq=False)
class Reading:
    """What one use adds to the layers; an ``Aid``.

    Attributes:
        pairs: by the name of the layer; layers that do not listen are left out.
        masks: number of tokens of a layer -> [n, N], how much each token of it reads each group; empty for all of it.
        span, levels: when it works.
    """

    pairs: Mapping[str, Pair]
    masks: Mapping[int, Tensor]
    span: Span
    levels: Sequence[Level]

    def on(self, level: Level) -> bool:
        """Whether it does anything at this level."""
        return bool(self.pairs) and self.span.holds(self.levels, level)

    def ports(self, call: Call, rows: Tensor, inner: Ports) -> Ports:
        """``inner``, and what is read beside the text."""
        own = rows[:, None, None, None]

        def beside(name: str, layer: Attention, q: Tensor, y: Tensor) -> Tensor:
            y = y if inner.beside is None else inner.beside(name, layer, q, y)
            pair = self.pairs.get(name)
            return y if pair is None else torch.where(own, self.added(layer, q, y, pair), y)

        return replace(inner, beside=beside)

    def added(self, layer: Attention, q: Tensor, y: Tensor, pair: Pair) -> Tensor:
        """y [W, H, N, D] and what the queries read of every group."""
        for group in range(len(pair.k)):
            k, v = (each[group].expand(len(q), -1, -1, -1) for each in (pair.k, pair.v))
            read = layer.read(q, k, v)
            if self.masks:
                read = read * self.masks[q.shape[2]][group, None, None, :, None]
            y = y + pair.scale * read
        return y


def begins(name: str, begin: str) -> bool:
    """Whether a dotted name begins with another, at a dot."""
    return name == begin or name.startswith(f"{begin.rstrip('.')}.")


def fitted(mask: Image.Image, size: tuple[int, int]) -> Tensor:
    """A mask as [H, W] in {0, 1}: fitted to (width, height) and cut at one half.

    Raises:
        ImageError: nothing in it is white.
    """
    grey = mask.convert("L").resize(size, Image.Resampling.LANCZOS)
    white = torch.frombuffer(bytearray(grey.tobytes()), dtype=torch.uint8).view(size[1], size[0]) >= 128
    if not white.any():
        raise ImageError(
            f"the mask of a picture{named(mask)} has no white, so the picture would be read nowhere; leave it out"
        )
    return white.float()


def grids(masks: Sequence[Image.Image], place: Place, depth: int) -> dict[int, Tensor]:
    """The masks [n, N] for the layers of every level of a network, by their number of tokens."""
    if not masks:
        return {}
    whole = torch.stack([fitted(mask, place.size) for mask in masks])[:, None]
    _, height, width = place.model.latent.shape(*place.size)
    like = next(place.model.network.parameters())
    found: dict[int, Tensor] = {}
    for level in range(depth):
        h, w = (math.ceil(edge / 2**level) for edge in (height, width))
        found[h * w] = F.interpolate(whole, size=(h, w), mode="bicubic").flatten(1).to(like)
    return found
