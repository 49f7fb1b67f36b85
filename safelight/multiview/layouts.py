"""Which tokens of several views read which in self-attention: layouts, fed to a U-Net through its port ``override``.

A layout only rearranges tokens and says who may read whom. Projections stay those of the layer, so no weight knows of
it, and a network that was trained on single pictures takes any of them.

Axes: B rows (one portrait each), D domains (colours, normals), V views of a domain, S = D * V slots of a row in the
order (domain, view), h w the grid of a layer, L = h * w tokens, C channels, G groups that do not see each other.
Sources: dense, Shi et al. 2308.16512 section 3.1 (MVDream); rows, Li et al. 2405.11616 section 3.2 (Era3D); front and
self, Lyu et al. 2412.17812 (FaceLift); joint domain, Long et al. 2310.15008 section 4.3 (Wonder3D); epipolar, Huang et
al. 2312.06725 (EpiDiff); temporal, Blattmann et al. 2311.15127 (as in every video model).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final, Protocol

import torch
from torch import Tensor

from safelight.core.camera import Camera
from safelight.errors import RequestError, UnknownNameError
from safelight.nn.attention import Attention, merge_heads, split_heads
from safelight.nn.perturb import grid
from safelight.nn.ports import SelfAttention

AXES: Final = "bdvhw"


@dataclass(frozen=True)
class Views:
    """What the tokens of a layer are: n views of each domain, on a grid that is named and never guessed.

    Args:
        n: V, 1 and above; slots of references count. h, w: the grid. domains: D, 1 and above.

    Raises:
        RequestError: one of them is not above 0.
    """

    n: int
    h: int
    w: int
    domains: int = 1

    def __post_init__(self) -> None:
        if min(self.n, self.h, self.w, self.domains) < 1:
            raise RequestError(f"views, their grid and their domains are at least 1 each, not {self}")

    @property
    def slots(self) -> int:
        """S: rows of the network's batch for one portrait."""
        return self.n * self.domains

    def at(self, tokens: int) -> Views:
        """The same views on the grid of a layer with so many tokens, which was halved, rounded up, some times.

        Raises:
            RequestError: no number of halvings gives so many tokens.
        """
        h, w = grid(tokens, (self.h, self.w))
        return replace(self, h=h, w=w)


class Layout(Protocol):
    """A rearrangement with its way back, ``back(q(x)) == x``, and who may read whom after it."""

    def q(self, x: Tensor, views: Views) -> Tensor:
        """Those who read: [B * S, L, C] -> [G, Lq, C]."""

    def kv(self, x: Tensor, views: Views) -> Tensor:
        """What is read: [B * S, L, C] -> [G, Lk, C]."""

    def back(self, y: Tensor, views: Views) -> Tensor:
        """The inverse of ``q``: [G, Lq, C] -> [B * S, L, C]."""

    def mask(self, views: Views, readers: Tensor) -> Tensor | None:
        """True where one may read: [Lq', Lk], or [B, 1, Lq', Lk], for the readers [Lq'] of each group; None for all."""


@dataclass(frozen=True)
class Grouping:
    """Tokens that share the axes ``apart`` are one group, which reads itself.

    Args:
        apart, together: letters of ``bdvhw``, each once; b stands apart.
    """

    apart: str
    together: str

    def q(self, x: Tensor, views: Views) -> Tensor:
        """See `Layout.q`."""
        x = x.reshape(-1, views.domains, views.n, views.h, views.w, x.shape[-1])
        x = x.permute(*(AXES.index(axis) for axis in self.apart + self.together), 5)
        return x.flatten(0, len(self.apart) - 1).flatten(1, len(self.together))

    kv = q

    def back(self, y: Tensor, views: Views) -> Tensor:
        """See `Layout.back`."""
        order, sizes = self.apart + self.together, dict(zip("dvhw", (views.domains, views.n, views.h, views.w)))
        x = y.reshape(*(sizes.get(axis, -1) for axis in order), y.shape[-1])
        return x.permute(*(order.index(axis) for axis in AXES), 5).flatten(3, 4).flatten(0, 2)

    def mask(self, views: Views, readers: Tensor) -> Tensor | None:
        """All of the group may be read."""
        return None


DENSE: Final = Grouping("bd", "vhw")


@dataclass(frozen=True)
class RowsAndColumns(Grouping):
    """Each token reads its row and its column in every view, with one softmax over both.

    Costs more than `DENSE`, of whose matrix it is a part: the mask comes on top.
    """

    apart: str = field(default=DENSE.apart, init=False)
    together: str = field(default=DENSE.together, init=False)

    def mask(self, views: Views, readers: Tensor) -> Tensor | None:
        """See `Layout.mask`."""
        all_of_them = torch.arange(views.n * views.h * views.w, device=readers.device)
        row, column = readers // views.w % views.h, readers % views.w
        rows, columns = all_of_them // views.w % views.h, all_of_them % views.w
        return (row[:, None] == rows) | (column[:, None] == columns)


@dataclass(frozen=True)
class FrontAndSelf(Grouping):
    """Each view reads itself and one other, the front.

    Args:
        front: its number, 0 (the first) to V - 1; negative ones count from the last, where a reference may stand.
    """

    front: int = 0
    apart: str = field(default="bdv", init=False)
    together: str = field(default="hw", init=False)

    def kv(self, x: Tensor, views: Views) -> Tensor:
        """The front's tokens, then its own; the front has its own twice, which changes no softmax."""
        if not -views.n <= self.front < views.n:
            raise RequestError(f"view {self.front} was to be the front of {views.n} views; name one of them")
        apart = x.reshape(-1, views.n, *x.shape[1:])
        front = apart[:, [self.front]].expand_as(apart)
        return torch.cat([front, apart], dim=2).flatten(0, 1)


@dataclass(frozen=True)
class Temporal(Grouping):
    """Each token reads the same pixel in all views of its domain, as video models read frames.

    Args:
        causal: in its own and earlier views only; then later views change nothing in earlier ones.
    """

    causal: bool = False
    apart: str = field(default="bdhw", init=False)
    together: str = field(default="v", init=False)

    def mask(self, views: Views, readers: Tensor) -> Tensor | None:
        """See `Layout.mask`."""
        return readers[:, None] >= torch.arange(views.n, device=readers.device) if self.causal else None


@dataclass(frozen=True, eq=False)
class Epipolar(Grouping):
    """Each token reads its own view, and in the others what lies near the line on which they see what it sees.

    Costs more than `DENSE`, of whose matrix it is a part: the mask comes on top.

    Args:
        cameras: [V] for all rows, or [B, V]; their pictures show what the latents show.
        reach: how far from the line is near, in tokens of the layer.
    """

    cameras: Camera
    reach: float = 1.0
    apart: str = field(default=DENSE.apart, init=False)
    together: str = field(default=DENSE.together, init=False)

    def mask(self, views: Views, readers: Tensor) -> Tensor | None:
        """See `Layout.mask`.

        Raises:
            RequestError: there are not as many cameras as views, or two views share their centre of projection.
        """
        if not self.cameras.shape or self.cameras.shape[-1] != views.n:
            raise RequestError(f"{views.n} views need as many cameras, not {list(self.cameras.shape)}")
        seen = self.cameras.resized((views.h, views.w))
        pixels = torch.arange(views.h * views.w, device=readers.device)
        at = torch.stack([pixels % views.w + 0.5, pixels // views.w + 0.5, torch.ones_like(pixels)], -1)
        at = at.to(seen.position.dtype)
        mine, reader = at[readers % len(pixels)][:, None], readers // len(pixels)
        near = []
        for there in range(views.n):
            line = mine @ _lines(seen, there).to(readers.device)[..., reader, :, :].mT  # [*B, Lq', 1, 3]
            near.append((line @ at.mT).abs()[..., 0, :] <= self.reach * line[..., :2].norm(dim=-1))
        found = torch.cat(near, dim=-1)
        # The domains of a row stand one after the other among the groups.
        return found if found.ndim == 2 else found.repeat_interleave(views.domains, 0)[:, None]


def _lines(cameras: Camera, there: int) -> Tensor:
    """[*B, V, 3, 3]: the fundamental matrices from every view to one; zeros from itself, so that all is near there."""
    count, before = cameras.shape[-1], (slice(None),) * (len(cameras.shape) - 1)
    made = torch.zeros(*cameras.shape, 3, 3).to(cameras.position)
    others = [view for view in range(count) if view != there]
    if others:
        made[..., others, :, :] = cameras[(*before, others)].fundamental(cameras[(*before, slice(there, there + 1))])
    return made


@dataclass(frozen=True)
class Row:
    """A row of the table.

    Attributes:
        make: makes the layout of its options; of cameras too, where it ``needs_cameras``.
        what: each token reads, in words. who: has it.
        counts: whether it knows views by their numbers, so that some of the views would be others to it.
    """

    make: Callable[..., Layout]
    what: str
    who: str
    needs_cameras: bool = False
    counts: bool = False


LAYOUTS: Final[dict[str, Row]] = {
    "self": Row(lambda: Grouping("bdv", "hw"), "its own view", "every single-view model, Zero123"),
    "dense": Row(lambda: DENSE, "all views of its domain", "MVDream, ImageDream, GAF, Wonder3D, SEVA, CAP4D"),
    "rows": Row(lambda: Grouping("bdh", "vw"), "its row in all views", "Era3D, MV-Adapter"),
    "columns": Row(lambda: Grouping("bdw", "vh"), "its column in all views", "MV-Adapter's views from above"),
    "rows-columns": Row(RowsAndColumns, "its row and its column in all views", "an ablation"),
    "front-self": Row(FrontAndSelf, "its own view and the front", "FaceLift", counts=True),
    "same-pixel": Row(lambda: Grouping("bhw", "dv"), "its pixel in all views and domains", "an ablation"),
    "temporal": Row(Temporal, "its pixel in all views of its domain, or in earlier ones", "SV3D, video models"),
    "joint-domain": Row(lambda: Grouping("bv", "dhw"), "its view in all domains", "Wonder3D, Era3D"),
    "epipolar": Row(Epipolar, "its own view, and near its line in the others", "EpiDiff", True, counts=True),
}


def layout(name: str, cameras: Camera | None = None, slot: bool = False) -> Layout:
    """The layout of that name with its usual options.

    Args:
        slot: whether a reference stands behind the views; it is then the front.

    Raises:
        UnknownNameError: there is none of that name. RequestError: it needs cameras.
    """
    if name not in LAYOUTS:
        raise UnknownNameError("layout of views", name, LAYOUTS)
    row = LAYOUTS[name]
    if row.needs_cameras and cameras is None:
        raise RequestError(f"the layout {name!r} reads along the lines of cameras; give them, or choose another")
    made = row.make(cameras) if row.needs_cameras else row.make()
    return replace(made, front=-1) if slot and isinstance(made, FrontAndSelf) else made


def override(layout: Layout, views: Views, chunk: int = 0) -> SelfAttention:
    """What stands in the port ``override`` so that every self-attention layer reads as the layout says.

    Args:
        views: on the grid of the latents. chunk: see `read`.
    """

    def across(name: str, layer: Attention, x: Tensor) -> Tensor:
        projected = layer.to_q(x), layer.to_k(x), layer.to_v(x)
        return layer.to_out[0](read(layer, layout, views.at(x.shape[1]), *projected, chunk=chunk))

    return across


def read(layer: Attention, layout: Layout, views: Views, q: Tensor, k: Tensor, v: Tensor, *, chunk: int = 0) -> Tensor:
    """What projected queries read of projected keys and values: three of [B * S, L, C] -> [B * S, L, C].

    Args:
        layer: says how many heads there are, and how they read; its own projections are not used.
        views: on the grid of the layer.
        chunk: queries of each group that are answered at once, 0 for all: the matrix of a dense layout, and its mask,
            have so many rows. Each query's softmax is its own, so the answer is the same to rounding (1e-12 in
            float64), which is not to say to the bit: a kernel may add up otherwise for another number of rows.

    Raises:
        RequestError: the batch is no whole number of rows.
    """
    if len(q) % views.slots:
        raise RequestError(f"{len(q)} pictures are no whole number of sets of {views.slots} views")
    asked = split_heads(layout.q(q, views), layer.heads)
    keys, values = (split_heads(layout.kv(each, views), layer.heads) for each in (k, v))
    count = asked.shape[2]
    made = []
    for begin in range(0, count, chunk or count):
        end = min(begin + (chunk or count), count)
        mask = layout.mask(views, torch.arange(begin, end, device=q.device))
        made.append(layer.read(asked[:, :, begin:end], keys, values, mask))
    return layout.back(merge_heads(torch.cat(made, dim=2) if len(made) > 1 else made[0]), views)
