"""Teach a U-Net to draw views of a person from their portrait.

Axes: N people, K views of each, B sets of a step, V views of a set, latents [B, Z, V, h, w]. View 0 of a person is the
portrait: it stands, clean, in a slot of its own. Source: Wang & Shi 2312.02201, section 3 (the slot); Shi et al.
2308.16512, section 3.2 (single views and sets by turns); Tang et al. 2412.10209, section 3.3 (normals).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from safelight.core.path import VP, Level
from safelight.core.prediction import noised
from safelight.errors import ConfigError
from safelight.families.sd.model import UNet, UNetConfig
from safelight.figurines.render import view_camera
from safelight.multiview.encode import encoder
from safelight.multiview.layouts import layout
from safelight.multiview.network import Conditions, ViewNetwork, beside
from safelight.multiview.presets import preset
from safelight.train.figurines.denoising import Drawing
from safelight.train.objective import draw_shares, error
from safelight.train.order import first_weights, generator, rows

NO_TEXT = 8
"""Width of the one token of zeros that stands where a U-Net reads a text."""


@dataclass(frozen=True)
class Viewing(Drawing):
    """The U-Net's shape and what it is taught; see `safelight.train.figurines.denoising.Drawing`.

    Attributes:
        empty: share of sets whose portrait is hidden, 0 to 1: what guidance leads away from.
        layout: who reads whom in self-attention, a name of `safelight.multiview.layouts.LAYOUTS`; with ``self`` nobody
            reads the portrait: pictures of anybody, for others to begin from.
        camera: how cameras are told, a name of `safelight.multiview.encode.ENCODERS`, such as ``plucker`` for maps of
            rays beside the latents; empty: not at all.
        counts: how many views a set may have, each as often.
        single: share of the run, 0 to 1, at whose beginning sets have one view.
        normals: whether coarse normals are shown beside the latents.
        bare: share of sets whose normals are hidden, 0 to 1.

    Raises:
        ConfigError: a number out of its range. UnknownNameError: no such layout or prediction.
    """

    channels: tuple[int, ...] = (64, 96, 128)
    attended: tuple[int, ...] = (1, 2)
    layout: str = "dense"
    camera: str = "pose16"
    counts: tuple[int, ...] = (1, 2, 4)
    single: float = 0.25
    normals: bool = False
    bare: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        layout(self.layout)
        if self.camera and encoder(self.camera).needs:
            raise ConfigError(f"camera = {self.camera!r} needs {encoder(self.camera).needs}, of which scenes have none")
        if not self.counts or min(self.counts) < 1:
            raise ConfigError(f"counts = {list(self.counts)} must name numbers of views, 1 and up")
        for name in ("single", "bare"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} = {getattr(self, name)} must lie between 0 and 1")

    @property
    def preset(self) -> str:
        """The name of what is made, in `safelight.multiview.presets`."""
        return "figurines-views-normals" if self.normals else "figurines-views"

    @property
    def vector(self) -> bool:
        """Whether cameras are told as numbers, beside the time."""
        return bool(self.camera) and not encoder(self.camera).maps

    def changes(self, size: int) -> dict[str, str | int]:
        """What a model of pictures of this ``size`` has otherwise than its preset."""
        usual = preset(self.preset)
        mine: dict[str, str | int] = {"layout": self.layout, "size": size, "camera": self.camera}
        return {name: value for name, value in mine.items() if value != getattr(usual, name)}

    def config(self, latent: int, size: int, context: int = NO_TEXT) -> UNetConfig:
        """The released configuration, told cameras where Stable Diffusion's is told classes."""
        plain = super().config(latent, size, context)
        channels = encoder(self.camera).channels if self.camera else 0
        said = {"class_embed_type": "projection", "projection_class_embeddings_input_dim": channels}
        shown = latent * (1 + self.normals) + (0 if self.vector else channels)
        return UNetConfig.from_dict({**vars(plain), **(said if self.vector else {}), "in_channels": shown})


@dataclass(frozen=True)
class Latents:
    """What is learned from: scaled latents [N, 1 + K, Z, h, w] of pictures and of coarse normals, on one device, and
    what the network is told of their cameras, [N, 1 + K, C] or maps [N, 1 + K, C, h, w]; None: nothing. ``places``
    [N, 1 + K, h, w] say how much each place of a picture counts; None: all the same.
    """

    pictures: Tensor
    normals: Tensor
    cameras: Tensor | None
    places: Tensor | None = None


def told_of(orbits: Tensor, size: int, camera: str) -> Tensor | None:
    """What the network is told of cameras [..., 4] as in `scenes.orbits`: [..., C], or maps [..., C, h, w].

    Args:
        size: of the latents, a side. camera: see `Viewing`.
    """
    if not camera:
        return None
    azimuths, elevations, right, up = orbits.reshape(-1, 4).unbind(-1)
    told: Tensor = encoder(camera).function(view_camera(azimuths, elevations, size, (right, up)))
    return told.unflatten(0, orbits.shape[:-1]).float()


class Seeing:
    """The task: say, of the noisy views of a person and their portrait, what the prediction should be.

    Args:
        steps: of the whole run, of which ``viewing.single`` is a share.
        batch: pictures of a step, portraits included; a step has as many sets as fit.
    """

    def __init__(self, viewing: Viewing, latents: Latents, path: VP, batch: int, seed: int, steps: int) -> None:
        count = latents.pictures.shape[1] - 1
        if max(viewing.counts) > count:
            raise ConfigError(f"counts = {list(viewing.counts)}, but there are {count} views of each person")
        shape, device = latents.pictures.shape, latents.pictures.device
        with first_weights(seed):
            unet = UNet(viewing.config(shape[2], shape[3]))
            self.module = ViewNetwork(unet, layout(viewing.layout, slot=True), slot=True)
        self.module.to(device)
        for weight in self.module.parameters():
            if weight.dim() == 4:  # saves a fifth of a step on a processor
                weight.data = weight.data.contiguous(memory_format=torch.channels_last)
        self.viewing, self.latents, self.batch, self.seed = viewing, latents, batch, seed
        self.alone = int(viewing.single * steps)
        self.objective = viewing.objective()
        self.table: tuple[Level, ...] = tuple(path.trained(k) for k in range(path.steps))

    def count(self, step: int) -> int:
        """How many views the sets of a step have."""
        if step < self.alone:
            return 1
        at = torch.randint(len(self.viewing.counts), (1,), generator=generator(self.seed, step, "count"))
        return self.viewing.counts[int(at)]

    def loss(self, step: int, part: slice) -> Tensor:
        """The weighted error of the prediction.

        Raises:
            ConfigError: so few sets fit that the parts of a batch cannot be equally long.
        """
        views = self.count(step)
        sets = max(1, self.batch // (views + 1))
        length = part.stop - part.start
        if sets * length % self.batch:
            raise ConfigError(
                f"{sets} sets of {views} views do not divide into {self.batch // length} equal parts; "
                "lower accumulate or raise batch"
            )
        part = slice(part.start * sets // self.batch, part.stop * sets // self.batch)
        x0, told, places = self.example(step, sets, views)
        shares = draw_shares(self.objective, sets, generator(self.seed, step, "levels"))
        levels = [self.table[int(share * len(self.table))] for share in shares.clamp(max=1 - 1e-6).tolist()][part]
        eps = torch.randn(x0.shape, generator=generator(self.seed, step, "noise")).to(x0.device)[part]
        x0 = x0[part]
        t = torch.tensor([level.t for level in levels], device=x0.device)
        mine = Conditions(**{name: tensor[part] for name, tensor in vars(told).items() if tensor is not None})
        output = self.module(noised(x0, eps, levels), t, mine)
        places = None if places is None else places[part]
        return error(self.viewing.prediction, self.objective, output, x0, eps, levels, places)

    def example(self, step: int, sets: int, views: int) -> tuple[Tensor, Conditions, Tensor | None]:
        """Clean views [B, Z, V, h, w] of a step, what is told of them, and how much their places count [B, 1, V, h, w]:
        all the same where the portrait is hidden, since then it does not say what is seen where.
        """
        most = max(1, self.batch // 2)  # so that a step of any number of views goes on where the one before it was
        people = torch.tensor(rows(self.seed, step, most, len(self.latents.pictures)))[:sets]
        count = self.latents.pictures.shape[1] - 1
        draw = generator(self.seed, step, "views")
        chosen = torch.stack([torch.randperm(count, generator=draw)[:views] + 1 for _ in range(sets)])
        pictures = self.latents.pictures
        x0 = pictures[people[:, None], chosen].transpose(1, 2)
        hidden = torch.rand(sets, 2, generator=generator(self.seed, step, "hidden"))
        seen = (hidden[:, 0] >= self.viewing.empty).to(x0)[:, None, None, None]
        cameras, parts = self.latents.cameras, []
        if cameras is not None and not self.viewing.vector:
            parts.append((cameras[people[:, None], chosen].transpose(1, 2), cameras[people, 0]))
        if self.viewing.normals:
            shown = (hidden[:, 1] >= self.viewing.bare).to(x0)[:, None, None, None]
            normals, own = self.latents.normals, self.latents.normals[people, 0]
            parts.append((normals[people[:, None], chosen].transpose(1, 2) * shown[..., None], own * shown))
        told = Conditions(
            context=nothing(sets, x0),
            cameras=cameras[people[:, None], chosen] if cameras is not None and self.viewing.vector else None,
            reference=pictures[people, 0] * seen,
            **beside(parts),
        )
        if self.latents.places is None:
            return x0, told, None
        places = self.latents.places[people[:, None], chosen][:, None]
        return x0, told, torch.where(seen[..., None] > 0, places, 1.0)


def nothing(rows: int, like: Tensor) -> Tensor:
    """[rows, 1, `NO_TEXT`], what stands where a text would be read."""
    return like.new_zeros(rows, 1, NO_TEXT)
