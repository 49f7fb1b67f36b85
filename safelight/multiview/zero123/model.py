"""Zero123: views that are drawn each for itself, from one picture and the camera's way from it to the view.

The U-Net of Stable Diffusion's image variations is shown the picture beside the noisy latents, and told one token:
CLIP's projection of the picture with four numbers of the camera's way, through one linear layer.

Axes: B rows (one portrait each), V views, [B, Z, V, h, w] latents, P width of CLIP's projection, X of what the U-Net
reads.
Source: Liu et al. 2303.11328, section 3.2; the released code and its diffusers port.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from safelight.adapters.picture import check_hint
from safelight.core.camera import Camera
from safelight.encoders.clip_pixels import MEAN, STD, flat
from safelight.encoders.clip_vision import ClipVision
from safelight.errors import RequestError
from safelight.families.family import Rows
from safelight.families.sd.model import UNet
from safelight.families.sd.scheduler import Plan
from safelight.multiview.bounds import checked
from safelight.multiview.encode import encoder
from safelight.nn.ports import NO_PORTS, Ports
from safelight.vae.kl import AutoencoderKL
from safelight.vae.latent import LatentSpec

WAY: Final = 4
"""Numbers of the camera's way from the picture to a view."""
DISTANCES: Final = (1.5, 2.2)
FOV: Final = 49.13434264120263
"""From where, and how wide, the pictures of its training were taken: 2 atan(16 / 35)."""


@dataclass(frozen=True)
class Told(Rows):
    """What the network is told and shown of the views of each row; a ``Cond``.

    Attributes:
        context: [B, V, 1, X], one token a view.
        shown: [B, Z, h, w], the latents of the picture as the autoencoder gives them, not scaled.
    """

    context: Tensor
    shown: Tensor

    def stretch(self, times: int) -> Told:
        """The same: one token is never told twice over."""
        return self


class Projection(nn.Module):
    """[..., P + 4] -> [..., X]: one token of a picture and of the camera's way from it.

    It begins as if there were no camera: the picture's part is passed on, the way's is 0, as training began with it.
    """

    def __init__(self, projected: int, width: int) -> None:
        super().__init__()
        self.projection = nn.Linear(projected + WAY, width)
        nn.init.eye_(self.projection.weight)
        nn.init.zeros_(self.projection.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.projection(x)


@dataclass(frozen=True)
class Zero123:
    """A loaded checkpoint. Frozen: several threads may draw from it at once.

    Attributes:
        folder: the folder or file that it was read from. files: all that were read.
        unet, vae, viewer, projection: the networks; ``viewer`` is CLIP's image encoder.
        plan: path, prediction and schedule.
        camera: name of the encoder of the camera's way, see `safelight.multiview.encode`.
        together: views that are shown to the network at once, 0 for all: they do not see each other, so this changes
            memory and rounding only.
    """

    folder: Path
    unet: UNet
    vae: AutoencoderKL
    viewer: ClipVision
    projection: Projection
    plan: Plan
    camera: str = "zero123"
    together: int = 0
    files: tuple[Path, ...] = ()

    @property
    def latent(self) -> LatentSpec:
        """Shape and scale of what is drawn."""
        return self.vae.config.latent()

    @property
    def edge(self) -> int:
        """Pixels a side of the picture and of each view."""
        return self.unet.config.sample_size * self.latent.stride

    @property
    def modules(self) -> tuple[nn.Module, ...]:
        """All networks."""
        return (self.unet, self.vae, self.viewer, self.projection)

    def doubts(self, cameras: Camera, reference: Camera) -> tuple[str, ...]:
        """What to expect of cameras that are not those of its training; nothing of those that are."""
        found = []
        distances = torch.cat([cameras.angles()[2].reshape(-1), reference.angles()[2].reshape(-1)])
        low, high = DISTANCES
        if bool(((distances < low - 0.01) | (distances > high + 0.01)).any()):
            span = f"{float(distances.min()):.2f} to {float(distances.max()):.2f}"
            found.append(
                f"cameras stand at distances of {span}; Zero123 was trained from {low} to {high} around a thing 1 wide:"
                " expect another size than asked for, and scale the scene instead"
            )
        fovs = torch.rad2deg(2.0 * torch.atan(cameras.size[0] / (2.0 * cameras.focal[..., 1].reshape(-1))))
        if cameras.projection != "perspective" or bool(((fovs - FOV).abs() > 1.0).any()):
            found.append(
                f"Zero123 is told no lens, and was trained with one of {FOV:.2f} degrees: expect pictures of that lens"
            )
        return tuple(found)

    @torch.no_grad()
    def tell(self, picture: Image.Image, cameras: Camera, reference: Camera) -> Mapping[str, Told]:
        """What the network is told, for ``cond``, and for ``uncond``: zeros behind the projection, and zero latents.

        Args:
            picture: a square one; transparency over white, as the network was trained.
            cameras: [V] of the views. reference: the camera of the picture.

        Raises:
            ImageError: a picture of another shape, or of no colours.
            RequestError: no or too many cameras, or one inside what is drawn.
        """
        way = encoder(self.camera).function(checked(cameras), reference)
        pixels = colours(picture, self.edge)
        weight, first = self.projection.projection.weight, next(self.vae.parameters())
        seen = self.viewer(self._clipped(pixels)).projected
        assert seen is not None
        seen = seen.to(weight).expand(len(way), -1)
        context = self.projection(torch.cat([seen, way.to(weight)], dim=-1))[None, :, None]
        shown = self.vae.encode(pixels.to(first.device, first.dtype)).mode()
        cond = Told(context, shown)
        return {"cond": cond, "uncond": Told(torch.zeros_like(context), torch.zeros_like(shown))}

    def _clipped(self, pixels: Tensor) -> Tensor:
        """[1, 3, H, W] in [-1, 1] as CLIP is shown it here: corners on corners, and no smoothing before."""
        size = (self.viewer.config.image_size,) * 2
        fitted = (F.interpolate(pixels, size, mode="bicubic", align_corners=True) + 1.0) / 2.0
        mean, std = (torch.tensor(three, dtype=fitted.dtype)[:, None, None] for three in (MEAN, STD))
        weight = self.viewer.vision_model.embeddings.class_embedding
        return ((fitted - mean) / std).to(weight.device, weight.dtype)

    def predict(self, x: Tensor, t: Tensor, told: Told, ports: Ports = NO_PORTS) -> Tensor:
        """What the network says of noisy views: [B, Z, V, h, w], labels t [B] -> [B, Z, V, h, w].

        Raises:
            RequestError: it was told of another number of views.
        """
        rows, views = len(x), x.shape[2]
        if told.context.shape[:2] != (rows, views):
            known = list(told.context.shape[:2])
            raise RequestError(f"the network was told of {known} rows and views, and is shown {[rows, views]}")
        shown = told.shown[:, :, None].expand(-1, -1, views, -1, -1)
        asked = torch.cat([x, shown], dim=1).transpose(1, 2).flatten(0, 1)
        labels, context = t.repeat_interleave(views), told.context.flatten(0, 1)
        step = self.together or len(asked)
        made = [
            self.unet(asked[at : at + step], labels[at : at + step], context[at : at + step], ports=ports)
            for at in range(0, len(asked), step)
        ]
        return torch.cat(made).unflatten(0, (rows, views)).transpose(1, 2)

    @torch.no_grad()
    def decode(self, x: Tensor) -> Iterator[Tensor]:
        """The views of [1, Z, V, h, w], one after the other as they are decoded: [1, 3, H, W] in about [-1, 1] each."""
        weight = next(self.vae.parameters())
        for view in x.unbind(2):
            yield self.vae.decode(self.latent.unscaled(view).to(weight.dtype))


def colours(picture: Image.Image, edge: int) -> Tensor:
    """A square picture as float32 [1, 3, edge, edge] in [-1, 1], over white; fitted (Lanczos) where its size differs.

    Raises:
        ImageError: it is of another shape, or holds no colours.
    """
    check_hint(picture, (edge, edge), "the picture that views are drawn of")
    seen = flat(picture)
    if seen.size != (edge, edge):
        seen = seen.resize((edge, edge), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.array(seen)[None]).permute(0, 3, 1, 2).float() / 127.5 - 1.0
