"""Pictures at the edge of the program: fitted, turned into tensors and back.

Axes: [1, 3, H, W] in [-1, 1] for colours, [1, 1, H, W] in [0, 1] for masks.
"""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from safelight.encoders.clip_pixels import flat
from safelight.errors import ImageError


def to_tensor(picture: Image.Image, size: tuple[int, int]) -> Tensor:
    """A picture as [1, 3, H, W] in [-1, 1]: transparency over white, fitted to ``size`` (Lanczos) where it differs."""
    rgb = flat(picture)
    if rgb.size != size:
        rgb = rgb.resize(size, Image.Resampling.LANCZOS)
    return colours(np.array(rgb)[None])


def colours(pictures: np.ndarray) -> Tensor:
    """Pictures as bytes, uint8 [n, H, W, 3], to float32 [n, 3, H, W] in [-1, 1]."""
    return torch.from_numpy(np.array(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1


def to_mask(picture: Image.Image, size: tuple[int, int]) -> Tensor:
    """A mask as [1, 1, H, W]: 1 where it is white (repainted), 0 where black; at one half it is cut.

    Raises:
        ImageError: nothing in it is white, so nothing would be repainted.
    """
    grey = picture.convert("L")
    if grey.size != size:
        grey = grey.resize(size, Image.Resampling.NEAREST)
    mask = (torch.from_numpy(np.array(grey)) >= 128).float()[None, None]
    if not mask.any():
        raise ImageError("the mask has no white, so nothing would be repainted; white is repainted, black is kept")
    return mask


def to_depth(picture: Image.Image, size: tuple[int, int]) -> Tensor:
    """A map of depth as [1, 1, h, w], spread from -1 (its darkest, farthest) to 1 (its brightest, nearest).

    Raises:
        ImageError: it is of one brightness all over.
    """
    grey = picture if picture.mode.startswith(("I", "F")) else picture.convert("L")
    depth = torch.from_numpy(np.array(grey, np.float32))[None, None]
    depth = F.interpolate(depth, size=(size[1], size[0]), mode="bicubic", align_corners=False)
    low, high = depth.min(), depth.max()
    if not low < high:
        raise ImageError("the depth is the same all over, so it says nothing; bright is near, dark is far")
    return 2.0 * (depth - low) / (high - low) - 1.0


def to_picture(x: Tensor) -> Image.Image:
    """[1, 3, H, W] in [-1, 1] -> an RGB picture; what lies outside is cut, halves round to even."""
    bytes_ = ((x[0].float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return Image.fromarray(bytes_.permute(1, 2, 0).cpu().numpy(), "RGB")
