"""Ways to make a network worse on purpose, row by row: what some guidance leads away from.

A call may hold rows with different perturbations and rows with none. Each layer that is touched is computed plainly for
all rows and again with every perturbation for all rows, and every row takes its own: so a row's bits depend on the
width of the call, never on what its neighbours are asked.

Axes: B rows, N = h * w tokens of a layer, C channels, H W the grid of the latents.
Sources: identity attention, Ahn et al. 2403.17377 section 4.1 (PAG); smoothed queries, Hong 2408.00760 section 4 (SEG);
skipped blocks, Stable Diffusion 3.5 (SLG); attention as a mask, Hong et al. 2210.00939 section 4 (SAG).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from safelight.errors import RequestError
from safelight.nn.attention import Attention, attended, split_heads
from safelight.nn.ports import NO_PORTS, Ports

KINDS = ("identity", "skip", "smooth")


@dataclass(frozen=True)
class Perturbation:
    """What a network does otherwise for one row.

    Args:
        kind: ``identity`` lets every token of a self-attention read itself alone, ``smooth`` blurs its queries over the
            picture, ``skip`` passes a whole block by.
        layers: dotted names of the self-attention layers, or of the blocks to skip.
        blur: standard deviation of the blur in tokens, above 0; inf gives every token the mean of the queries.
    """

    kind: str
    layers: frozenset[str]
    blur: float = math.inf

    def attention(self, layer: Attention, x: Tensor, size: tuple[int, int]) -> Tensor:
        """What stands in for the output of a self-attention layer: [B, N, C] -> [B, N, C]."""
        if self.kind == "identity":
            return layer.to_out[0](layer.to_v(x))
        queries = layer.to_q(x)
        if self.blur == math.inf:
            queries = queries.mean(dim=1, keepdim=True).expand_as(queries)
        else:
            picture = queries.transpose(1, 2).unflatten(2, grid(x.shape[1], size))
            queries = blurred(picture, self.blur, math.ceil(6.0 * self.blur) // 2).flatten(2).transpose(1, 2)
        return layer.mix(queries, layer.to_k(x), layer.to_v(x))


def ports(rows: Sequence[Perturbation | None], x: Tensor) -> Ports:
    """The ports that give every row of a call its own perturbation.

    Args:
        rows: one for each row, None for a row that is left alone.
        x: [B, Z, H, W], the latents that are shown.
    """
    kinds = list(dict.fromkeys(each for each in rows if each is not None))
    if not kinds:
        return NO_PORTS
    size = (x.shape[-2], x.shape[-1])
    mine = [torch.tensor([each == one for each in rows], device=x.device)[:, None, None] for one in kinds]

    def override(name: str, layer: Attention, y: Tensor) -> Tensor:
        out = layer(y)
        for kind, own in zip(kinds, mine):
            if kind.kind != "skip" and name in kind.layers:
                out = torch.where(own, kind.attention(layer, y, size), out)
        return out

    def passage(name: str, entered: Tensor, left: Tensor) -> Tensor:
        for kind, own in zip(kinds, mine):
            if kind.kind == "skip" and name in kind.layers:
                left = torch.where(own, entered, left)
        return left

    return Ports(override=override, passage=passage)


class Watch:
    """Looks at one self-attention layer while the network works, and changes nothing.

    Attributes:
        seen: [B, 1, h, w] after the call: how much each token is looked at, 1 on average.
    """

    def __init__(self, layer: str, size: tuple[int, int]) -> None:
        self.layer, self.size = layer, size
        self.seen: Tensor | None = None

    def over(self, inner: Ports) -> Ports:
        """Ports that do what ``inner`` does, and look."""

        def override(name: str, layer: Attention, y: Tensor) -> Tensor:
            if name == self.layer:
                q, k = (split_heads(part, layer.heads) for part in (layer.to_q(y), layer.to_k(y)))
                if layer.upcast and q.dtype in (torch.float16, torch.bfloat16):
                    q, k = q.float(), k.float()
                self.seen = attended(q, k)[:, None].unflatten(2, grid(y.shape[1], self.size))
            return layer(y) if inner.override is None else inner.override(name, layer, y)

        return replace(inner, override=override)


def degraded(x: Tensor, x0: Tensor, alpha: Tensor, seen: Tensor) -> Tensor:
    """x [B, Z, H, W] with what the network looks at most blurred out of its prediction, at the same noise.

    With x0 the network's prediction and eps the noise that goes with it, this is alpha x0' + sigma eps, where x0' is x0
    blurred (9 x 9, standard deviation 1) wherever a token is looked at by more than the average.

    Args:
        alpha: [B, 1, 1, 1] of each row's level. seen: [B, 1, h, w], see `Watch`.
    """
    mask = F.interpolate((seen > 1.0).to(x.dtype), x.shape[-2:])
    return x + alpha * mask * (blurred(x0, 1.0, 4) - x0)


def blurred(x: Tensor, deviation: float, reach: int) -> Tensor:
    """[B, C, h, w] blurred by a Gaussian that ends ``reach`` pixels from its middle, reflected at the edges.

    Where the picture is too small for that, the Gaussian ends at half of its edge.
    """
    for axis in (-2, -1):
        edge = x.shape[axis]
        half = min(reach, edge // 2)
        half = half if half < edge else 0  # a single pixel has no neighbours to reflect
        weights = [math.exp(-0.5 * (i / deviation) ** 2) for i in range(-half, half + 1)]
        total = sum(weights)
        kernel = x.new_tensor([weight / total for weight in weights]).reshape(1, 1, -1)
        line = x.movedim(axis, -1)
        flat = F.pad(line.reshape(-1, 1, edge), (half, half), mode="reflect") if half else line.reshape(-1, 1, edge)
        x = F.conv1d(flat, kernel).reshape(line.shape).movedim(-1, axis)
    return x


def grid(tokens: int, size: tuple[int, int]) -> tuple[int, int]:
    """(h, w) of a layer with so many tokens, whose picture was halved some times, rounded up, from ``size``.

    Raises:
        RequestError: no number of halvings gives so many tokens.
    """
    height, width = size
    while height * width > tokens:
        height, width = (height + 1) // 2, (width + 1) // 2
    if height * width != tokens:
        raise RequestError(f"{tokens} tokens are no grid of a picture of {size[1]} x {size[0]} latents")
    return height, width
