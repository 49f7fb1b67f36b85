"""Stable Cascade as one `Family`: a prior draws features of a picture, a decoder its latents, stage A its pixels.

Both networks read CLIP's text; what the prior drew is shown to the decoder. The prior can be told an image too; no task
here does that, so it is told zeros, as in its training.

Axes: B rows, M text tokens, C their width, P width of the pooled text, Z channels, h w grid. Source: Pernias et al.
2023, "Würstchen", section 3; the released pipelines.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from safelight.errors import ConfigError, PromptError, RequestError
from safelight.families.cascade.model import CascadeConfig
from safelight.families.cascade.parts import COMBINED, DECODER, Stage, read_stage_a, read_stages
from safelight.families.family import Defaults, Enlarge, Family, Model, Prompt, Words, joined, moved
from safelight.vae.latent import LatentSpec
from safelight.weights.folder import Index

EDGE = 1024
PIXELS, SPREAD = 42.67, 10.67
"""Pixels of the picture per place that the prior draws, and latents of the decoder: what the released folders say."""


@dataclass(frozen=True)
class Told:
    """What a network is told beside what it denoises and its time; a ``Cond``.

    Attributes:
        text: [B, M, C] (prior). pooled: [B, P].
        sight: [B, 1], 1, or 0 for the negative prompt of a decoder, which is shown nothing.
        shown: [B, Z, h, w], what the prior drew (decoder).
    """

    text: Tensor
    pooled: Tensor
    sight: Tensor
    shown: Tensor | None = None

    def cat(self, others: Sequence[Told]) -> Told:
        """The rows of this record followed by those of the others."""
        return Told(**joined([self, *others]))

    def repeat(self, rows: int) -> Told:
        """A record of one row as ``rows`` equal ones."""
        return self.cat([self] * (rows - 1))

    def to(self, like: Tensor) -> Told:
        """The same record on the device, and in the number format, of ``like``."""
        return Told(**moved(self, like))

    def stretch(self, times: int) -> Told:
        """The same record: its text is always of one length.

        Raises:
            PromptError: another length is asked for.
        """
        if times != 1:
            raise PromptError("Stable Cascade reads 77 tokens and no more; shorten the prompt")
        return self


@dataclass(frozen=True)
class Features(LatentSpec):
    """Facts about what the prior draws.

    Attributes:
        pixels: of the picture per place. spread: latents of the decoder per place. patch: pixels per latent.
        grain: latents along an edge of what the decoder takes as one; pictures have whole ones.
    """

    pixels: float = PIXELS
    spread: float = SPREAD
    patch: int = 4
    grain: int = 2

    def shape(self, width: int, height: int) -> tuple[int, int, int]:
        """(Z, h, w) of the features of a picture of ``width`` x ``height`` pixels.

        Raises:
            RequestError: no features lead to a picture of that size; the message names the nearest sizes.
        """
        for name, edge in (("width", width), ("height", height)):
            near = self.near(edge)
            if edge != near[0]:
                told = ", ".join(map(str, sorted(near[:3])))
                raise RequestError(f"{name} {edge} is none that it draws; the nearest are {told}")
        return self.channels, self.places(height), self.places(width)

    def nearest(self, edge: float, multiple: int = 1) -> int:
        """The edge, in pixels, that can be drawn and is nearest to this one; it must be a multiple of that too."""
        return next(size for size in self.near(edge) if size % multiple == 0)

    def near(self, edge: float) -> list[int]:
        """Edges near this one that can be drawn, the nearest first.

        Raises:
            RequestError: none is.
        """
        middle = self.places(edge)
        sizes = {self.drawn(places) for places in range(max(middle - 4, 1), middle + 5)}
        whole = [size for size in sizes if size % (self.patch * self.grain) == 0]
        fit = [size for size in whole if self.drawn(self.places(size)) == size]
        if not fit:
            raise RequestError(f"no picture with edges of about {edge:g} pixels can be drawn from whole places")
        return sorted(fit, key=lambda size: (abs(size - edge), size))

    def places(self, edge: float) -> int:
        """Places along an edge of a picture."""
        return math.ceil(edge / self.pixels)

    def drawn(self, places: int) -> int:
        """Pixels along the edge of the picture that is drawn from so many places."""
        return int(places * self.spread) * self.patch


def load(index: Index) -> Model:
    """Read a decoder's folder with its prior's beside it, or a folder that holds both.

    Raises:
        WeightsError, ConfigError: see `read_stages` and `read_stage_a`; also networks that do not fit together.
    """
    prior, decoder = read_stages(index)
    vae, files = read_stage_a(index)
    latent, drawn, seen = vae.config.latent(), decoder.unet.config, prior.unet.config
    _check(index.folder, seen, drawn, latent.channels)
    features = Features(
        channels=seen.out_channels,
        stride=1,
        scale=1.0,
        pixels=_number(prior.settings, "resolution_multiple", PIXELS),
        spread=_number(decoder.settings, "latent_dim_scale", SPREAD),
        patch=latent.stride,
        grain=drawn.patch_size,
    )

    def draw_on(x: Tensor, t: Tensor, told: Told) -> Tensor:
        return decoder.unet(x, t, told.pooled, effnet=told.shown)

    def draw(x: Tensor, t: Tensor, told: Told) -> Tensor:
        image = x.new_zeros(len(x), seen.clip_image_in_channels or 0)
        return prior.unet(x, t, told.pooled, text=told.text, image=image)

    second = Model(
        family="cascade",
        folder=index.folder,
        network=decoder.unet,
        encoders=(decoder.encoder,),
        vae=vae,
        path=decoder.path,
        prediction="eps",
        latent=latent,
        tasks=("upscale",),
        defaults=_defaults(decoder, steps=10, guidance=1.0),
        encode=lambda prompt: encode(decoder, prompt),
        predict=draw_on,
        enlarge=Enlarge(1, latent.stride * drawn.patch_size, show),
    )
    return Model(
        family="cascade",
        folder=index.folder,
        network=prior.unet,
        encoders=(prior.encoder,),
        vae=vae,
        path=prior.path,
        prediction="eps",
        latent=features,
        tasks=("text",),
        defaults=_defaults(prior, steps=20, guidance=4.0),
        encode=lambda prompt: encode(prior, prompt),
        predict=draw,
        after=second,
        files=(*prior.files, *decoder.files, *files),
    )


def _check(folder: Path, seen: CascadeConfig, drawn: CascadeConfig, channels: int) -> None:
    """Check that the prior (``seen``), the decoder and stage A speak of the same things."""
    if drawn.effnet_in_channels != seen.out_channels or seen.in_channels != seen.out_channels:
        raise ConfigError(
            f"{folder}: the decoder is shown {drawn.effnet_in_channels} channels, the prior reads "
            f"{seen.in_channels} and draws {seen.out_channels}; all three must be one"
        )
    if not drawn.in_channels == drawn.out_channels == channels:
        raise ConfigError(f"{folder}: the decoder draws {drawn.out_channels} channels, not stage A's")
    if seen.clip_text_in_channels is None:
        raise ConfigError(f"{folder}: the prior reads no text (clip_text_in_channels)")


def _defaults(stage: Stage, *, steps: int, guidance: float) -> Defaults:
    return Defaults(
        width=EDGE,
        height=EDGE,
        levels=stage.path.even,
        start=lambda noise, levels: noise,
        sampler="ddpm",
        quiet=True,
        steps=steps,
        guidance=guidance,
    )


def _number(settings: Mapping[str, Any], name: str, usual: float) -> float:
    value = settings.get(name, usual)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 1.0 <= value <= 1000.0:
        raise ConfigError(f"model_index.json: {name} = {value!r} is no number from 1 to 1000")
    return float(value)


@torch.no_grad()
def encode(stage: Stage, prompt: Prompt) -> Words:
    """A prompt as a network is told it: the last layer before its normalisation, and the projected text.

    What the text is filled up with is read too, but no token looks at it.
    """
    tokens = stage.tokenizer.encode(prompt.text)
    device = next(stage.encoder.parameters()).device
    places = torch.arange(len(tokens.ids), device=device)
    read = stage.encoder(torch.tensor([tokens.ids], device=device), (places < tokens.used)[None])
    assert read.projected is not None, "the stages were checked to have a projection"
    sight = read.projected.new_full((1, 1), 0.0 if prompt.negative else 1.0)
    return Words(Told(read.hidden[-1], read.projected, sight), (tokens.cut,) if tokens.cut else ())


def show(told: Told, features: Tensor) -> Told:
    """Show a decoder what the prior drew, [1, Z, h, w]; under the negative prompt nothing, which is zeros."""
    return replace(told, shown=told.sight[:, :, None, None].to(features) * features)


CASCADE = Family("cascade", frozenset({COMBINED, DECODER}), load)
