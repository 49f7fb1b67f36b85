"""What the rest of the program knows of an autoencoder's latents: their shape, their scale, and a cheap preview.

Axes: B rows, Z latent channels, h w grid. Source: Rombach et al. 2022, section 4.3 and appendix G (scaling to unit
variance); a linear preview is the least-squares fit of small pictures from latents.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from safelight.errors import RequestError


@dataclass(frozen=True)
class LatentSpec:
    """Facts about the latents of one autoencoder.

    Attributes:
        channels: Z. stride: pixels per latent along an edge.
        scale, shift: a U-Net sees (z - shift) * scale of the autoencoder's latents z.
        preview: Z + 1 rows of red, green, blue: what one unit of each channel (as the U-Net sees it) adds to the
            colour in [-1, 1], then the colour of zeros. Empty means that no preview is known.
    """

    channels: int
    stride: int
    scale: float
    shift: float = 0.0
    preview: tuple[tuple[float, float, float], ...] = ()

    def shape(self, width: int, height: int) -> tuple[int, int, int]:
        """(Z, h, w) of the latents of a picture of ``width`` x ``height`` pixels.

        Raises:
            RequestError: an edge is not a positive multiple of the stride; the message names the nearest sizes.
        """
        for name, edge in (("width", width), ("height", height)):
            if edge < self.stride or edge % self.stride:
                low = max(edge // self.stride, 1) * self.stride
                raise RequestError(
                    f"{name} {edge} is not a multiple of {self.stride}; the nearest are {low} and {low + self.stride}"
                )
        return self.channels, height // self.stride, width // self.stride

    def nearest(self, edge: float, multiple: int = 1) -> int:
        """The edge, in pixels, that can be drawn and is nearest to this one; it must be a multiple of that too."""
        step = math.lcm(self.stride, multiple)
        return max(math.floor(edge / step + 0.5), 1) * step

    def scaled(self, z: Tensor) -> Tensor:
        """The autoencoder's latents -> those a U-Net sees, of about unit variance."""
        return (z - self.shift) * self.scale

    def unscaled(self, x: Tensor) -> Tensor:
        """The inverse of `scaled`."""
        return x / self.scale + self.shift

    def picture(self, x: Tensor) -> Tensor | None:
        """A cheap look at latents as the U-Net sees them: [B, Z, h, w] -> [B, 3, h, w] in [-1, 1], or None."""
        if not self.preview:
            return None
        rows = torch.tensor(self.preview, dtype=x.dtype, device=x.device)
        colours = torch.einsum("bzhw,zc->bchw", x, rows[:-1])
        return (colours + rows[-1][None, :, None, None]).clamp(-1, 1)
