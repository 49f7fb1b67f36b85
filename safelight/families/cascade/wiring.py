"""Stable Cascade as one `Family`: a prior draws features of a picture, a decoder its latents, stage A its pixels.

Both networks read CLIP's text; what the prior drew is shown to the decoder. The prior can be told a picture too, as
CLIP sees it, so that it draws others like it; without one it is told zeros, as in its training.

Axes: B rows, M text tokens, C their width, P width of the pooled text, Z channels, h w grid. Source: Pernias et al.
2023, "Würstchen", section 3; the released pipelines.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from safelight.encoders.chunks import Chunk
from safelight.encoders.emphasis import EMPHASES, lay, weighed
from safelight.encoders.tokenizer import ClipTokenizer
from safelight.errors import ConfigError, RequestError
from safelight.families.cascade.model import CascadeConfig
from safelight.families.cascade.parts import COMBINED, DECODER, Stage, read_stage_a, read_stages, read_tokenizers
from safelight.families.cascade.single import read_files, read_vocabulary, stage_index
from safelight.families.family import Defaults, Enlarge, Family, Model, Prompt, Rows, Words
from safelight.vae.latent import LatentSpec
from safelight.vae.stage_a import StageA
from safelight.weights.folder import Index

EDGE = 1024
PIXELS, SPREAD = 42.67, 10.67
"""Pixels of the picture per place that the prior draws, and latents of the decoder: what the released folders say."""


@dataclass(frozen=True)
class Told(Rows):
    """What a network is told beside what it denoises and its time; a ``Cond``.

    Attributes:
        text: [B, M, C] (prior). pooled: [B, P], of the first chunk of the text.
        heard: [B, M] booleans, False where the text is only filled up to the length of another.
        sight: [B, 1], 1, or 0 for the negative prompt of a decoder, which is shown nothing.
        shown: [B, Z, h, w], what the prior drew (decoder).
        image: [B, I], a picture as CLIP projects it, zeros for none (prior).
    """

    text: Tensor
    pooled: Tensor
    heard: Tensor
    sight: Tensor
    shown: Tensor | None = None
    image: Tensor | None = None

    def stretch(self, times: int) -> Told:
        """The same text filled up to ``times`` its length with what is not heard.

        To tell it over and over would change it here: the grid, the pooled text and the image are read with it, in one
        mean.
        """
        room = (times - 1) * self.text.shape[1]
        return replace(self, text=F.pad(self.text, (0, 0, 0, room)), heard=F.pad(self.heard, (0, room), value=False))


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
    """Read a decoder's folder with its prior's beside it, a folder that holds both, or the files of the stages.

    Raises:
        WeightsError, ConfigError: see `read_stages`, `read_stage_a` and `read_files`; also networks that do not fit
            together.
    """
    if index.folder.is_file():
        prior, decoder, vae, files = read_files(index)
    else:
        (prior, decoder), (vae, files) = read_stages(index), read_stage_a(index)
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
        heard = told.heard if told.text.shape[1] > prior.tokenizer.length else None  # one chunk is never filled up
        return prior.unet(x, t, told.pooled, text=told.text, image=told.image, heard=heard)

    second = replace(
        _model(index.folder, decoder, vae, latent, draw_on),
        tasks=("upscale",),
        defaults=_defaults(decoder, steps=10, guidance=1.0),
        enlarge=Enlarge(1, latent.stride * drawn.patch_size, show),
    )
    return replace(
        _model(index.folder, prior, vae, features, draw),
        tasks=("text", "vary") if prior.viewer else ("text",),
        after=second,
        files=(*prior.files, *decoder.files, *files),
    )


def _model(folder: Path, stage: Stage, vae: StageA, latent: LatentSpec, predict: Callable[..., Tensor]) -> Model:
    """A model of one of the two networks, which draws from text as the prior does."""
    return Model(
        family="cascade",
        folder=folder,
        network=stage.unet,
        encoders=(stage.encoder, *([stage.viewer.encoder] if stage.viewer else [])),
        vae=vae,
        path=stage.path,
        prediction="eps",
        latent=latent,
        tasks=("text",),
        defaults=_defaults(stage, steps=20, guidance=4.0),
        encode=lambda prompt: encode(stage, prompt),
        predict=predict,
        emphases=tuple(EMPHASES),
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

    What the text is filled up with is read too, but no token looks at it. The decoder is told the projected text alone:
    that of the first chunk, as everywhere, in which no weight shows.
    """
    laid = lay(stage.tokenizer, prompt.text, prompt.emphasis)
    empty = stage.tokenizer.row(())
    if stage.unet.config.clip_text_in_channels is None:
        z, pooled = _read(stage, laid.chunks[0], laid.chunks[0].ids, None)
        column = [z]
    else:
        said = [weighed([each], prompt.emphasis, empty, partial(_read, stage, each)) for each in laid.chunks]
        column, pooled = [each[0] for each, _ in said], said[0][1]
    text, sight = torch.cat(column, dim=1), pooled.new_full((1, 1), 0.0 if prompt.negative else 1.0)
    heard = torch.ones(text.shape[:2], dtype=torch.bool, device=text.device)
    told = Told(text, pooled, heard, sight, image=_seen(stage, prompt, pooled))
    return Words(told, (laid.cut,) if laid.cut else (), len(column))


def _seen(stage: Stage, prompt: Prompt, like: Tensor) -> Tensor | None:
    """The picture of a prompt as the prior is told it, [1, I]; zeros without one, and where guidance leads away."""
    width = stage.unet.config.clip_image_in_channels
    if width is None:
        return None
    if prompt.picture is None or prompt.negative or stage.viewer is None:
        return like.new_zeros(1, width)
    return stage.viewer.see([prompt.picture]).projected


def _read(stage: Stage, chunk: Chunk, ids: Sequence[int], seen: Sequence[bool] | None) -> tuple[Tensor, Tensor]:
    """What the encoder says of a row, [1, L, C] and [1, P]: the row of ``chunk``, or else that of the empty prompt."""
    device = next(stage.encoder.parameters()).device
    used = len(chunk.tokens) + 2 if tuple(ids) == chunk.ids else 2
    mask = torch.arange(len(ids), device=device) < used
    if seen is not None:
        mask &= torch.tensor(seen, device=device)
    read = stage.encoder(torch.tensor([ids], device=device), mask[None])
    assert read.projected is not None, "the stages were checked to have a projection"
    return read.hidden[-1], read.projected


def show(told: Told, features: Tensor) -> Told:
    """Show a decoder what the prior drew, [1, Z, h, w]; under the negative prompt nothing, which is zeros."""
    return replace(told, shown=told.sight[:, :, None, None].to(features) * features)


def tokenizers(index: Index) -> dict[str, ClipTokenizer]:
    """The name of the prior's text encoder and its tokenizer, read without the networks.

    Raises:
        WeightsError, ConfigError: see `read_tokenizers` and `read_vocabulary`.
    """
    return read_vocabulary(index) if index.folder.is_file() else read_tokenizers(index)


CASCADE = Family("cascade", frozenset({COMBINED, DECODER}), load, stage_index, tokenizers)
