"""Tiny MV-Adapters in released names, and the same at the reference: stock parts with processors written out here.

The processors know one set of views at a time, row by row and column by column, in plain loops and softmaxes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import diffusers
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from safelight.families.sd.model import Added, UNet
from safelight.multiview.layouts import Views
from safelight.multiview.mv_adapter.across import ACROSS
from safelight.multiview.mv_adapter.model import MvAdapter, layers_of, trunk_for
from safelight.multiview.mv_adapter.use import AS_TRAINED, MvUse, Strength, joined, look
from tests.parity.networks import CROSS_DOWN, CROSS_UP, DOWN, SD2, SDXL, UP, random, randomise, unets

THREE: dict[str, Any] = {"block_out_channels": (32, 64, 64), "attention_head_dim": (2, 4, 4), "layers_per_block": 1}
BASES: dict[str, dict[str, Any]] = {
    "sd21": {
        **SD2,
        **THREE,
        "down_block_types": (CROSS_DOWN, CROSS_DOWN, DOWN),
        "up_block_types": (UP, CROSS_UP, CROSS_UP),
    },
    "sdxl": {
        **SDXL,
        **THREE,
        "layers_per_block": 2,
        "transformer_layers_per_block": (1, 1, 2),
        "down_block_types": (DOWN, CROSS_DOWN, CROSS_DOWN),
        "up_block_types": (CROSS_UP, CROSS_UP, UP),
    },
}
TRUNKS: dict[str, dict[str, Any]] = {
    "sd21": {"channels": [32, 64, 64], "num_res_blocks": 1, "downscale_factor": 8, "adapter_type": "full_adapter"},
    "sdxl": {"channels": [32, 64, 64, 64], "downscale_factor": 16, "adapter_type": "full_adapter_xl"},
}
KINDS = {
    "t2mv": (3, "rows", False),
    "i2mv": (3, "rows", True),
    "tg2mv": (6, "faces", False),
    "ig2mv": (6, "faces", True),
}
"""Released kind -> views here, how they read each other, whether they read a reference."""
SIZE = {"sd21": (6, 10), "sdxl": (6, 4)}
"""Latents: h w, neither square nor even all the way down."""


def shapes(unet: nn.Module, trunk: nn.Module, *, refers: bool) -> dict[str, tuple[int, ...]]:
    """The names of a released file, written down from the public code, with their shapes."""
    found: dict[str, tuple[int, ...]] = {}
    for place in unet.attn_processors:
        if place.endswith("attn1.processor"):
            width = unet.get_submodule(place.removesuffix(".processor")).to_q.weight.shape[0]
            for branch in ("mv", "ref") if refers else ("mv",):
                found |= {f"{place}.to_{part}_{branch}.weight": (width, width) for part in "qkv"}
                found[f"{place}.to_out_{branch}.0.weight"] = (width, width)
                found[f"{place}.to_out_{branch}.0.bias"] = (width,)
    return found | {name: tuple(value.shape) for name, value in trunk.state_dict().items()}


@dataclass
class Case:
    """One base with one kind of adapter: ours and the reference, of the same random numbers."""

    base: str
    kind: str
    dtype: torch.dtype = torch.float64
    ours: UNet = field(init=False)
    theirs: Any = field(init=False)
    adapter: MvAdapter = field(init=False)
    trunk: Any = field(init=False)
    weights: dict[str, Tensor] = field(init=False)

    def __post_init__(self) -> None:
        self.count, self.reading, self.refers = KINDS[self.kind]
        self.ours, self.theirs = unets(BASES[self.base], self.dtype)
        self.trunk = diffusers.T2IAdapter(in_channels=6, **TRUNKS[self.base])
        randomise(self.trunk, 11)
        self.trunk.to(self.dtype).eval()
        self.weights = dict(self.trunk.state_dict())
        for number, (name, shape) in enumerate(shapes(self.theirs, self.trunk, refers=self.refers).items()):
            if name not in self.weights:
                spread = shape[-1] ** -0.5 if len(shape) > 1 else 0.3
                self.weights[name] = random(*shape, seed=900 + number, dtype=self.dtype) * spread
        self.adapter = MvAdapter(layers_of(self.ours), trunk_for(self.ours.config), refers=self.refers).to(self.dtype)
        self.adapter.load_state_dict(self.weights)
        self.adapter.eval()
        self.h, self.w = SIZE[self.base]

    def asked(self, sets: int = 2, count: int = 0) -> dict[str, Any]:
        """What a call for some sets of views is asked; every set has words, a level and a reference of its own."""
        count, xl = count or self.count, self.base == "sdxl"
        rows, dtype, words = sets * count, self.dtype, BASES[self.base]["cross_attention_dim"]
        return {
            "x": random(rows, 4, self.h, self.w, seed=1, dtype=dtype),
            "t": torch.tensor([3.25, 801.0])[:sets].repeat_interleave(count),
            "context": random(sets, 7, words, seed=2, dtype=dtype).repeat_interleave(count, 0),
            "pooled": random(sets, 16, seed=3, dtype=dtype).repeat_interleave(count, 0) if xl else None,
            "times": torch.tensor([[48.0, 32, 0, 0, 48, 32]]).repeat(rows, 1) if xl else None,
            "maps": random(rows, 6, 8 * self.h, 8 * self.w, seed=5, dtype=dtype).sigmoid(),
            "latents": random(sets, 4, self.h + 2, self.w, seed=6, dtype=dtype),  # of a shape of its own
            "count": count,
        }

    @torch.no_grad()
    def drawn(self, asked: dict[str, Any], strength: Strength = AS_TRAINED, free: bool = False) -> Tensor:
        """What ours predicts; ``free``: the first half of the sets are told of no reference."""
        count, reference = asked["count"], None
        if self.refers:
            first = self._first(asked)
            told = {name: asked[name][first] for name in ("pooled", "times") if asked[name] is not None}
            added = Added(**told) if told else None
            reference = look(self.adapter, self.ours, asked["latents"], asked["context"][first], added)
            if free:
                reference = joined([reference.nothing(), reference])
        views = Views(count, self.h, self.w)
        use = MvUse(self.adapter, views, self.adapter(asked["maps"]), reference, ACROSS[self.reading], strength)
        return self.called(asked, use)

    @torch.no_grad()
    def called(self, asked: dict[str, Any], use: MvUse | None) -> Tensor:
        """The U-Net with what a use adds, or alone."""
        added = None if asked["pooled"] is None else Added(pooled=asked["pooled"], times=asked["times"])
        ports = {} if use is None else {"ports": use.ports()}
        return self.ours(asked["x"], asked["t"], asked["context"], added=added, **ports)

    @torch.no_grad()
    def reference(self, asked: dict[str, Any], strength: Strength = AS_TRAINED, free: bool = False) -> Tensor:
        """What the reference predicts."""
        seen: dict[str, Tensor] = {}
        count = asked["count"]
        if self.refers:
            self._processors(lambda name: Writing(name, seen))
            self._ask(asked["latents"], torch.zeros(len(asked["latents"])), asked, self._first(asked))
            if free:
                seen = {name: torch.cat([torch.zeros_like(x), x]) for name, x in seen.items()}
        views = (count, self.h, self.w)
        self._processors(lambda name: Reading(name, self.weights, views, self.reading, seen, strength))
        said = [each * strength.maps for each in self.trunk(asked["maps"])]
        return self._ask(asked["x"], asked["t"], asked, slice(None), said)

    @staticmethod
    def _first(asked: dict[str, Any]) -> list[int]:
        """The first view of each set that has a reference: of all, or of the last half."""
        return list(range(0, len(asked["x"]), asked["count"]))[-len(asked["latents"]) :]

    def _processors(self, make: Any) -> None:
        plain = diffusers.models.attention_processor.AttnProcessor2_0
        self.theirs.set_attn_processor(
            {name: make(name) if name.endswith("attn1.processor") else plain() for name in self.theirs.attn_processors}
        )

    def _ask(self, x: Tensor, t: Tensor, asked: dict[str, Any], rows: Any, said: Any = None) -> Tensor:
        told = (
            None
            if asked["pooled"] is None
            else {"text_embeds": asked["pooled"][rows], "time_ids": asked["times"][rows]}
        )
        return self.theirs(
            x, t, asked["context"][rows], added_cond_kwargs=told, down_intrablock_additional_residuals=said
        ).sample


@cache
def case(base: str, kind: str, dtype: torch.dtype = torch.float64) -> Case:
    return Case(base, kind, dtype)


# The reference's processors


def softmaxed(heads: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention of [N, C] to [M, C], head by head."""
    parts = []
    for a, b, c in zip(q.chunk(heads, -1), k.chunk(heads, -1), v.chunk(heads, -1)):
        parts.append((a @ b.T / a.shape[-1] ** 0.5).softmax(-1) @ c)
    return torch.cat(parts, -1)


class Writing:
    """Plain attention that keeps what it is shown."""

    def __init__(self, name: str, kept: dict[str, Tensor]) -> None:
        self.name, self.kept = name, kept

    def __call__(self, attn: Any, x: Tensor, *_: Any, **__: Any) -> Tensor:
        self.kept[self.name] = x
        own = [softmaxed(attn.heads, attn.to_q(row), attn.to_k(row), attn.to_v(row)) for row in x]
        return attn.to_out[0](torch.stack(own))


class Reading:
    """Plain attention, and the two branches."""

    def __init__(
        self,
        name: str,
        weights: Mapping[str, Tensor],
        views: tuple[int, int, int],
        reading: str,
        seen: Mapping[str, Tensor],
        strength: Strength,
    ) -> None:
        self.name, self.weights, self.views, self.reading = name, weights, views, reading
        self.seen, self.strength = seen, strength

    def _project(self, what: str, x: Tensor) -> Tensor:
        stem = f"{self.name}.to_{what}"
        return F.linear(x, self.weights[f"{stem}.weight"], self.weights.get(f"{stem}.bias"))

    def __call__(self, attn: Any, x: Tensor, *_: Any, **__: Any) -> Tensor:
        own = [softmaxed(attn.heads, attn.to_q(row), attn.to_k(row), attn.to_v(row)) for row in x]
        out = attn.to_out[0](torch.stack(own))
        count, h, w = self.views
        while h * w > x.shape[1]:
            h, w = -(-h // 2), -(-w // 2)
        grids = [self._project(f"{part}_mv", x).reshape(-1, count, h, w, x.shape[-1]) for part in "qkv"]
        seen = by_rows(attn.heads, *grids) if self.reading == "rows" else by_faces(attn.heads, *grids)
        out = out + self.strength.views * self._project("out_mv.0", seen.reshape(x.shape))
        if self.name in self.seen:
            shown = self.seen[self.name].repeat_interleave(count, 0)
            q, k, v = (self._project(f"{part}_ref", y) for part, y in zip("qkv", (x, shown, shown)))
            read = torch.stack([softmaxed(attn.heads, *each) for each in zip(q, k, v)])
            out = out + self.strength.reference * self._project("out_ref.0", read)
        return out


def by_rows(heads: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """[B, V, h, w, C]: row i of every view reads row i of all."""
    out = torch.zeros_like(q)
    for b in range(q.shape[0]):
        for i in range(q.shape[2]):
            line = [x[b, :, i].flatten(0, 1) for x in (q, k, v)]
            out[b, :, i] = softmaxed(heads, *line).reshape(out[b, :, i].shape)
    return out


def by_faces(heads: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """[B, 6, h, w, C]: front, right, back, left by rows; front (from behind), back, above, below by columns."""
    out = torch.zeros_like(q)
    level = by_rows(heads, q[:, :4], k[:, :4], v[:, :4])
    out[:, [1, 3]] = level[:, [1, 3]]
    w = q.shape[3]
    for b in range(q.shape[0]):
        for j in range(w):
            places = [(0, w - 1 - j), (2, j), (4, j), (5, j)]
            line = [torch.cat([x[b, face, :, column] for face, column in places]) for x in (q, k, v)]
            for (face, column), found in zip(places, softmaxed(heads, *line).chunk(4)):
                both = face in (0, 2)
                out[b, face, :, column] = (found + level[b, face, :, column]) / 2 if both else found
    return out
