"""Stable Diffusion 1, 2 and XL as one `Family`: how a folder is read, and what the U-Net is told.

Axes: B rows, M text tokens, X their width, Z latent channels, h w grid. Source: Rombach et al. 2022, section 3.3;
Podell et al. 2023, section 2.2 (sizes and crops); the released pipelines' folders.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from safelight.encoders.chunks import Chunk
from safelight.encoders.emphasis import EMPHASES, lay, weighed
from safelight.encoders.learned import table, taught
from safelight.encoders.tokenizer import ClipTokenizer
from safelight.errors import ConfigError
from safelight.families.family import Defaults, Enlarge, Fact, Family, Model, Ported, Prompt, Rows, Words
from safelight.families.sd import facts, scheduler, shown
from safelight.families.sd.model import Added, UNet
from safelight.families.sd.parts import Parts, Reader, pooled_width, read_parts, read_tokenizers
from safelight.families.sd.single import read_single, read_vocabularies, single_index
from safelight.nn.embed import sinusoid
from safelight.nn.ports import NO_PORTS, Ports
from safelight.nn.transformer import TransformerBlock
from safelight.weights.folder import Index
from safelight.weights.notes import notes

PLAIN = frozenset({"StableDiffusionPipeline", "StableDiffusionImg2ImgPipeline", "StableDiffusionInpaintPipeline"})
OTHER = frozenset({"StableDiffusionDepth2ImgPipeline", "StableDiffusionUpscalePipeline"})
DISTILLED = frozenset({"LatentConsistencyModelPipeline", "LatentConsistencyModelImg2ImgPipeline"})
XL = frozenset(name.replace("Diffusion", "DiffusionXL") for name in PLAIN)
DISTILLED_STEPS = ("lcm", "lcm_boundary", "tcd")
"""Samplers that only models distilled to a few steps name: four, without guidance or with that of the released one."""


@dataclass(frozen=True)
class Told(Rows):
    """What the U-Net is told beside noisy latents and their time; a ``Cond``.

    Attributes:
        context: [B, M, X] text.
        pooled: [B, P] projected text, and times: [B, 6] sizes and crops (XL).
        scale: [B, E], the embedded scale of the guidance (networks that it was distilled into).
        shown: [B, ?, h, w], what stands beside the latents; see `shown`.
        labels: [B] whole numbers, the noise level of a small picture.
    """

    context: Tensor
    pooled: Tensor | None = None
    times: Tensor | None = None
    scale: Tensor | None = None
    shown: Tensor | None = None
    labels: Tensor | None = None

    def stretch(self, times: int) -> Told:
        """The text ``times`` over: attention takes the mean of equal tokens, so nothing changes but the length."""
        return replace(self, context=self.context.repeat(1, times, 1))


class Text(NamedTuple):
    """A prompt read by every encoder: context [1, M, X], pooled [1, P] or None, what was cut off, and chunks in M."""

    context: Tensor
    pooled: Tensor | None
    cut: tuple[str, ...]
    chunks: int


def load(index: Index) -> Model:
    """Read a folder.

    Raises:
        WeightsError, ConfigError: see `read_parts`; also a U-Net whose inputs mean something that is not known here.
    """
    parts = read_single(index) if index.folder.is_file() else read_parts(index)
    plan = scheduler.read_of(index.folder, parts.scheduler)
    latent = replace(parts.vae.config.latent(), preview=preview(index.folder))
    channels, unet = latent.channels, parts.unet
    if latent.preview and len(latent.preview) != channels + 1:
        raise ConfigError(f"{index.folder}: the preview has {len(latent.preview)} rows, not {channels + 1}")
    seen = shown.kind(index.folder, unet.config, channels)
    ranged = says_variance(index.folder, unet.config.out_channels, channels, plan)

    def predict(x: Tensor, t: Tensor, told: Told, ports: Ports = NO_PORTS) -> Tensor:
        x = x if told.shown is None else torch.cat([x, told.shown], dim=1)
        added = Added(pooled=told.pooled, times=told.times, labels=told.labels, guidance=told.scale)
        return unet(x, t, told.context, added=added, ports=ports)

    refines = told_numbers(parts) == facts.REFINED
    wave = unet.config.time_cond_proj_dim or 0

    size = unet.config.sample_size * latent.stride
    model = Model(
        family="sd",
        folder=index.folder,
        network=unet,
        encoders=tuple(reader.encoder for reader in parts.readers),
        vae=parts.vae,
        path=plan.path,
        prediction=plan.prediction,
        latent=latent,
        tasks=("image", "inpaint") if refines else ("text", "image", "inpaint"),
        defaults=Defaults(
            *(size, size, plan.levels, plan.start, plan.sampler, plan.options),
            strength=0.3 if refines else None,
            steps=4 if plan.sampler in DISTILLED_STEPS else None,
            guidance=None if plan.sampler not in DISTILLED_STEPS else 8.5 if wave else 1.0,
        ),
        encode=lambda prompt: encode(parts, prompt),
        predict=predict,
        ported=ported(unet, predict),
        tell=(lambda told, scale: tell(told, scale, wave)) if wave else None,
        ranged=ranged,
        facts=facts.names(told_numbers(parts)),
        skips=min(reader.encoder.config.num_hidden_layers for reader in parts.readers) - (2 if is_xl(parts) else 1),
        emphases=tuple(EMPHASES),
        tokenizers=tuple(reader.tokenizer for reader in parts.readers),
        files=parts.files,
    )
    if seen == shown.HOLE:
        return replace(model, tasks=("inpaint",), conceal=conceal)
    if seen == shown.DEPTH:
        return replace(model, deepen=lambda told, depth: replace(told, shown=depth))
    return model if seen == shown.NOTHING else enlarging(model, parts)


def enlarging(model: Model, parts: Parts) -> Model:
    """A model whose network is shown a small picture with noise on it, and told how much.

    Raises:
        ConfigError: nothing says on which path the noise lies.
    """
    if parts.low_res is None:
        raise ConfigError(f"{parts.index.folder}: names no low_res_scheduler; use the released folder")
    try:
        blurring = shown.Blurring.read(parts.low_res, parts.unet.config, parts.index.settings)
    except ConfigError as error:
        raise ConfigError(f"{parts.index.folder}: low_res_scheduler: {error}") from error

    def said(prompt: Prompt) -> Words:
        words = encode(parts, prompt)
        label = blurring.label(prompt, words.cond.context.device)
        return replace(words, cond=replace(words.cond, labels=label))

    def blur(told: Told, colours: Tensor, noise: Tensor) -> Told:
        assert told.labels is not None
        return replace(told, shown=blurring.noisy(colours, told.labels, noise).to(told.context.device))

    factor = model.latent.stride
    return replace(
        model,
        tasks=("upscale",),
        encode=said,
        enlarge=Enlarge(factor, factor, show=None, blur=blur),
        facts={**model.facts, "noise-level": Fact(1, blurring.noisiest, whole=True)},
    )


def says_variance(folder: Path, written: int, channels: int, plan: scheduler.Plan) -> bool:
    """Whether the U-Net says the variance of a step behind its prediction.

    Raises:
        ConfigError: the scheduler counts on a variance that it does not say.
    """
    if plan.options.get("variance") == "learned_range" and written == channels:
        raise ConfigError(f"{folder / 'scheduler'}: variance_type = 'learned_range', but the U-Net says no variance")
    return written != channels


def tokenizers(index: Index) -> dict[str, ClipTokenizer]:
    """The name of each text encoder and its tokenizer, read without the networks.

    Raises:
        WeightsError, ConfigError: see `read_tokenizers` and `read_vocabularies`.
    """
    return read_vocabularies(index) if index.folder.is_file() else read_tokenizers(index)


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


def told_numbers(parts: Parts) -> int:
    """How many sizes, crops and scores the U-Net is told: 6 (XL), 5 (its refiner) or none."""
    return facts.count(parts.unet.config, pooled_width(parts.readers[-1].encoder.config))


def encode(parts: Parts, prompt: Prompt) -> Words:
    """A prompt as the U-Net is told it: one row."""
    device = parts.unet.conv_in.weight.device
    xl = is_xl(parts)
    text = read_text(parts.readers, prompt, xl=xl, device=device)
    if not xl:
        return Words(Told(text.context), text.cut, text.chunks)
    times = facts.times(prompt, told_numbers(parts), device)
    told = Told(text.context, text.pooled, times)
    if prompt.negative and not prompt.text and parts.index.settings.get("force_zeros_for_empty_prompt", True):
        zeros = None if text.pooled is None else torch.zeros_like(text.pooled)
        told = replace(told, context=torch.zeros_like(told.context), pooled=zeros)
    return Words(told, text.cut, text.chunks)


def read_text(readers: Sequence[Reader], prompt: Prompt, *, xl: bool, device: torch.device) -> Text:
    """Ask every encoder and join what they say along the width.

    Stable Diffusion 1 and 2 take the last layer, XL the last but one without its normalisation; ``prompt.skip`` goes as
    many layers further down.
    """
    words = prompt.learned
    tokenizers = [taught(reader.tokenizer, words, reader.encoder.config.vocab_size) for reader in readers]
    laid = [lay(tokenizer, prompt.text, prompt.emphasis) for tokenizer in tokenizers]
    chunks = max(len(each.chunks) for each in laid)
    columns, pooled = [], None
    for place, (reader, each) in enumerate(zip(readers, laid)):
        learned = table(words, place, reader.encoder.text_model.embeddings.token_embedding.weight)
        column, pooled = read_column(reader, each.chunks, prompt, learned, xl=xl, device=device)
        # Two encoders may cut at other places; the one that is done first has nothing to say of what follows.
        nothing = lay(reader.tokenizer, "", "none").chunks * (chunks - len(each.chunks))
        column += read_column(reader, nothing, prompt, None, xl=xl, device=device)[0] if nothing else []
        columns.append(torch.cat(column, dim=1))
    return Text(torch.cat(columns, dim=-1), pooled, tuple(each.cut for each in laid if each.cut), chunks)


def read_column(
    reader: Reader, chunks: Sequence[Chunk], prompt: Prompt, learned: Tensor | None, *, xl: bool, device: torch.device
) -> tuple[list[Tensor], Tensor]:
    """What one encoder says of each chunk, [1, L, X] with the weights, and the pooled text of the first, [1, P].

    Args:
        learned: see `ClipText.forward`.
    """

    def read(ids: Sequence[int], seen: Sequence[bool] | None) -> tuple[Tensor, Tensor]:
        mask = None if seen is None else torch.tensor([seen], device=device)
        found = reader.encoder(torch.tensor([ids], device=device), mask, learned)
        pooled = found.projected if found.projected is not None else found.pooled
        if xl:
            return found.hidden[-2 - prompt.skip], pooled
        return (reader.encoder.normed(found.hidden[-1 - prompt.skip]) if prompt.skip else found.last), pooled

    return weighed(chunks, prompt.emphasis, reader.tokenizer.row(()), read)


def conceal(told: Told, mask: Tensor, latents: Tensor) -> Told:
    """Show an inpainting network where to paint: mask [1, 1, h, w], latents [1, Z, h, w] of the picture with a hole."""
    return replace(told, shown=torch.cat([mask, latents], dim=1))


SD = Family("sd", PLAIN | OTHER | DISTILLED | XL, load, single_index, tokenizers)
