"""Pictures whose edges meet: convolutions of the U-Net and the autoencoder see the left edge beyond the right one.

Axes: B rows, C channels, h w grid. Everything else in these networks sees no edges: attention has no places,
normalisation and layers of single pixels none either. So a picture goes round as its noise does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from safelight.adapters.fitting import unet_of
from safelight.errors import RequestError
from safelight.families.family import Model
from safelight.nn import surgery
from safelight.nn.resnet import Downsample
from safelight.nn.surgery import Change, Record

KIND = "tileable"
EDGES = {"x": "left and right", "y": "top and bottom", "xy": "all"}


@dataclass(frozen=True)
class Tileable:
    """Lets edges meet; nothing is loaded.

    Args:
        edges: ``x`` (left and right), ``y`` (top and bottom) or ``xy``.

    Raises:
        RequestError: no such edges.
    """

    edges: str = "xy"

    def __post_init__(self) -> None:
        if self.edges not in EDGES:
            raise RequestError(f"edges that meet are x, y or xy, not {self.edges!r}")

    @property
    def taught(self) -> tuple[str, ...]:
        """No words."""
        return ()

    def put_on(self, model: Model, scale: float = 1.0) -> WornEdges:
        """Lay it over a model: its U-Net and its autoencoder.

        Raises:
            RequestError: another kind of network, a scale other than 1, or edges that meet already.
        """
        if scale != 1.0:
            raise RequestError(f"edges meet or they do not; their scale is 1, not {scale:g}")
        roots = (unet_of("what lets edges meet", model), model.vae)
        record = Record(KIND, KIND)
        for root in roots:
            surgery.attach(root, record, {name: Around(self.edges, filled) for name, filled in padded(root)})
        return WornEdges(roots, self.edges)


@dataclass(frozen=True, eq=False)
class WornEdges:
    """Edges that meet in these networks, whose layers are changed where they are."""

    roots: tuple[nn.Module, ...]
    edges: str

    def over(self, model: Model) -> Model:
        """The model itself."""
        return model

    def told(self) -> Mapping[str, Any]:
        """What a recipe says of it."""
        return {"kind": KIND, "name": self.edges, "files": {}}

    def take_off(self) -> None:
        """Every layer has its own bits back."""
        for root in self.roots:
            surgery.detach(root, KIND)


class Around(Change):
    """A convolution that sees one edge beyond the other.

    Args:
        edges: see `Tileable`.
        filled: whether its input comes with a row and a column of zeros at its right and its bottom.
    """

    def __init__(self, edges: str, filled: bool) -> None:
        super().__init__(KIND)
        self.edges, self.filled = edges, filled

    def convolve(self, layer: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """[B, C, h, w] -> what the layer makes of it."""
        rest = {"y": layer.padding[0], "x": layer.padding[1]}
        for edge, axis in (("y", 2), ("x", 3)):
            if edge not in self.edges:
                continue
            if self.filled:
                x = torch.cat([x.narrow(axis, 0, x.shape[axis] - 1), x.narrow(axis, 0, 1)], dim=axis)
            else:
                x = around(x, axis, rest[edge])
                rest[edge] = 0
        return F.conv2d(x, weight, bias, layer.stride, (rest["y"], rest["x"]), layer.dilation, layer.groups)


def around(x: Tensor, axis: int, count: int) -> Tensor:
    """x with its last ``count`` rows or columns before it and its first behind it; all of them if it has fewer."""
    places = torch.arange(-count, x.shape[axis] + count, device=x.device) % x.shape[axis]
    return x.index_select(axis, places)


def padded(root: nn.Module) -> Iterator[tuple[str, bool]]:
    """The convolutions of a network that see beyond its edges, by name, and whether their input comes filled up."""
    for name, layer in root.named_modules():
        if isinstance(layer, Downsample) and layer.asymmetric:
            yield f"{name}.conv", True
        if isinstance(layer, nn.Conv2d) and any(layer.padding):
            yield name, False
