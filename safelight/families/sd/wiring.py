"""Stable Diffusion 1, 2 and XL as one `Family`: how a folder is read, and what the U-Net is told.

Axes: B rows, M text tokens, X their width, Z latent channels, h w grid. Source: Rombach et al. 2022, section 3.3;
Podell et al. 2023, section 2.2 (sizes and crops); the released pipelines' folders.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from safelight.errors import ConfigError
from safelight.families.family import Defaults, Family, Model, Ported, Prompt, Words
from safelight.families.sd import scheduler
from safelight.families.sd.model import Added, UNet
from safelight.families.sd.parts import Parts, Reader, read_parts
from safelight.families.sd.single import read_single, single_index
from safelight.nn.embed import sinusoid
from safelight.nn.ports import NO_PORTS, Ports
from safelight.nn.transformer import TransformerBlock
from safelight.weights.folder import Index
from safelight.weights.notes import notes

PIPELINES = frozenset({"StableDiffusionPipeline", "StableDiffusionImg2ImgPipeline", "StableDiffusionInpaintPipeline"})
XL_PIPELINES = frozenset(name.replace("Diffusion", "DiffusionXL") for name in PIPELINES)


@dataclass(frozen=True)
class Told:
    """What the U-Net is told beside noisy latents and their time; a ``Cond``.

    Attributes:
        context: [B, M, X] text.
        pooled: [B, P] projected text, and times: [B, 6] sizes and crops (XL).
        scale: [B, E], the embedded scale of the guidance (networks that it was distilled into).
        shown: [B, Z + 1, h, w], the mask (1 = to repaint) and the latents of the picture with a hole (inpainting).
    """

    context: Tensor
    pooled: Tensor | None = None
    times: Tensor | None = None
    scale: Tensor | None = None
    shown: Tensor | None = None

    def cat(self, others: Sequence[Told]) -> Told:
        """The rows of this record followed by those of the others."""
        records = [self, *others]
        joined: dict[str, Tensor] = {}
        for field in fields(self):
            tensors = [tensor for record in records if (tensor := getattr(record, field.name)) is not None]
            if tensors:
                joined[field.name] = torch.cat(tensors)
        return Told(**joined)

    def repeat(self, rows: int) -> Told:
        """A record of one row as ``rows`` equal ones."""
        return self.cat([self] * (rows - 1))

    def to(self, like: Tensor) -> Told:
        """The same record on the device, and in the number format, of ``like``."""
        moved = {
            f.name: t.to(like.device, like.dtype) for f in fields(self) if (t := getattr(self, f.name)) is not None
        }
        return Told(**moved)


class Text(NamedTuple):
    """A prompt read by every encoder: context [1, M, X], pooled [1, P] or None, and what was cut off."""

    context: Tensor
    pooled: Tensor | None
    cut: tuple[str, ...]


def load(index: Index) -> Model:
    """Read a folder.

    Raises:
        WeightsError, ConfigError: see `read_parts`; also a U-Net whose inputs mean something that is not known here.
    """
    parts = read_single(index) if index.folder.is_file() else read_parts(index)
    try:
        plan = scheduler.read(parts.scheduler)
    except ConfigError as error:
        raise ConfigError(f"{index.folder / 'scheduler'}: {error}") from error
    latent = replace(parts.vae.config.latent(), preview=preview(index.folder))
    channels, unet = latent.channels, parts.unet
    if latent.preview and len(latent.preview) != channels + 1:
        raise ConfigError(f"{index.folder}: the preview has {len(latent.preview)} rows, not {channels + 1}")
    if unet.config.in_channels not in (channels, 2 * channels + 1):
        raise ConfigError(
            f"{index.folder}: the U-Net reads {unet.config.in_channels} channels; known are {channels} (latents) and "
            f"{2 * channels + 1} (with a mask and a masked picture)"
        )
    shown = unet.config.in_channels != channels

    def predict(x: Tensor, t: Tensor, told: Told, ports: Ports = NO_PORTS) -> Tensor:
        x = x if told.shown is None else torch.cat([x, told.shown], dim=1)
        added = Added(pooled=told.pooled, times=told.times, guidance=told.scale)
        return unet(x, t, told.context, added=added, ports=ports)

    wave = unet.config.time_cond_proj_dim or 0

    size = unet.config.sample_size * latent.stride
    return Model(
        family="sd",
        folder=index.folder,
        network=unet,
        encoders=tuple(reader.encoder for reader in parts.readers),
        vae=parts.vae,
        path=plan.path,
        prediction=plan.prediction,
        latent=latent,
        tasks=("inpaint",) if shown else ("text", "image", "inpaint"),
        defaults=Defaults(size, size, plan.levels, plan.start, plan.sampler, plan.options),
        encode=lambda prompt: encode(parts, prompt),
        predict=predict,
        conceal=conceal if shown else None,
        ported=ported(unet, predict),
        tell=(lambda told, scale: tell(told, scale, wave)) if wave else None,
        skips=min(reader.encoder.config.num_hidden_layers for reader in parts.readers) - (2 if is_xl(parts) else 1),
        files=parts.files,
    )


def ported(unet: UNet, predict: Callable[[Tensor, Tensor, Told, Ports], Tensor]) -> Ported:
    """What guidance may perturb in a U-Net; by default its middle, as the papers do."""
    blocks = [layer for layer in unet.modules() if isinstance(layer, TransformerBlock)]
    selves = tuple(block.attn1.name for block in blocks if not block.only_cross)
    return Ported(predict, selves, tuple(block.name for block in blocks), "mid_block")


def tell(told: Told, scale: float, width: int) -> Told:
    """The scale of the guidance as a latent consistency network is told it: Luo et al. 2023, section 4.3."""
    wave = sinusoid(torch.tensor([1000.0 * (scale - 1.0)]), width, cosine_first=False, shift=1.0)
    return replace(told, scale=wave.to(told.context.device).expand(len(told.context), -1))


def preview(folder: Path) -> tuple[tuple[float, float, float], ...]:
    """The linear look at latents that our own models bring in ``safelight.json``; empty for other folders."""
    return tuple((float(r), float(g), float(b)) for r, g, b in notes(folder).get("preview", ()))


def is_xl(parts: Parts) -> bool:
    """Whether the U-Net is told sizes and a pooled text, as XL's is."""
    return parts.unet.config.addition_embed_type is not None


def encode(parts: Parts, prompt: Prompt) -> Words:
    """A prompt as the U-Net is told it: one row."""
    device = parts.unet.conv_in.weight.device
    xl = is_xl(parts)
    text = read_text(parts.readers, prompt, xl=xl, device=device)
    if not xl:
        return Words(Told(text.context), text.cut)
    width, height = prompt.size
    times = torch.tensor([[height, width, 0, 0, height, width]], dtype=torch.float32, device=device)
    told = Told(text.context, text.pooled, times)
    if prompt.negative and not prompt.text and parts.index.settings.get("force_zeros_for_empty_prompt"):
        zeros = None if text.pooled is None else torch.zeros_like(text.pooled)
        told = replace(told, context=torch.zeros_like(told.context), pooled=zeros)
    return Words(told, text.cut)


@torch.no_grad()
def read_text(readers: Sequence[Reader], prompt: Prompt, *, xl: bool, device: torch.device) -> Text:
    """Ask every encoder and join what they say along the width.

    Stable Diffusion 1 and 2 take the last layer, XL the last but one without its normalisation; ``prompt.skip`` goes as
    many layers further down.
    """
    columns, pooled, cut = [], None, []
    for reader in readers:
        tokens = reader.tokenizer.encode(prompt.text)
        read = reader.encoder(torch.tensor([tokens.ids], device=device))
        if xl:
            columns.append(read.hidden[-2 - prompt.skip])
            pooled = read.projected if read.projected is not None else read.pooled
        else:
            columns.append(reader.encoder.normed(read.hidden[-1 - prompt.skip]) if prompt.skip else read.last)
        cut += [tokens.cut] if tokens.cut else []
    return Text(torch.cat(columns, dim=-1), pooled, tuple(cut))


def conceal(told: Told, mask: Tensor, latents: Tensor) -> Told:
    """Show an inpainting network where to paint: mask [1, 1, h, w], latents [1, Z, h, w] of the picture with a hole."""
    return replace(told, shown=torch.cat([mask, latents], dim=1))


SD = Family("sd", PIPELINES | XL_PIPELINES, load, single_index)
