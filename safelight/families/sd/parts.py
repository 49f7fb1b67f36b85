"""Everything in a released Stable Diffusion folder (1, 2, XL), loaded, and the parts checked against each other.

A folder holds ``model_index.json`` and a folder per part: ``unet``, ``vae``, ``text_encoder``, ``tokenizer`` and
``scheduler``; XL has ``text_encoder_2`` and ``tokenizer_2`` too, its refiner has those only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safelight.encoders.checkpoints import load_clip_text
from safelight.encoders.clip import ClipText, ClipTextConfig
from safelight.encoders.tokenizer import ClipTokenizer
from safelight.errors import ConfigError, WeightsError
from safelight.families.sd import facts
from safelight.families.sd.checkpoints import load_unet
from safelight.families.sd.model import UNet, UNetConfig
from safelight.vae.checkpoints import load_kl
from safelight.vae.kl import AutoencoderKL
from safelight.weights.folder import Index, read_json, weight_files


@dataclass(frozen=True)
class Reader:
    """How one text is read: numbers by the tokenizer, vectors by the encoder."""

    tokenizer: ClipTokenizer
    encoder: ClipText


@dataclass(frozen=True)
class Parts:
    """Everything in a folder, loaded: tensors mapped, in the dtype of the file, on the CPU, in evaluation mode.

    Attributes:
        index: what ``model_index.json`` says.
        unet, vae: the networks.
        readers: the text encoders in the order of their numbers; none is left out but those the model lacks.
        scheduler: ``scheduler_config.json`` as read.
        files: every file that was read, for hashes.
        low_res: ``scheduler_config.json`` of the noise on a small picture, where the U-Net is shown one.
    """

    index: Index
    unet: UNet
    vae: AutoencoderKL
    readers: tuple[Reader, ...]
    scheduler: Mapping[str, Any]
    files: tuple[Path, ...]
    low_res: Mapping[str, Any] | None = None


def read_parts(index: Index) -> Parts:
    """Load every part of a folder whose index was read with `safelight.weights.folder.read_index`.

    Raises:
        WeightsError: a part is missing, or its weights are unreadable or of another shape than its config says.
        ConfigError: a part is of a kind or a shape that this family does not have.
    """
    folder = index.folder
    for part in ("unet", "vae", "scheduler"):
        if part not in index.parts:
            raise WeightsError(f"{folder / 'model_index.json'}: names no {part}; is this Stable Diffusion 1, 2 or XL?")
    names = encoders_of(index)
    scheduler = folder / "scheduler" / "scheduler_config.json"
    readers = tuple(
        fitting(
            ClipTokenizer.from_folder(folder / tokenizer_of(name)),
            load_clip_text(folder / name, index.variant, pickles=index.pickles),
            folder / tokenizer_of(name),
        )
        for name in names
    )
    unet = load_unet(folder / "unet", index.variant, pickles=index.pickles)
    vae = load_kl(folder / "vae", index.variant, pickles=index.pickles)
    check_parts(folder, unet, vae, readers)
    read = [folder / "model_index.json", scheduler]
    for part in ("unet", "vae", *names):
        read += [folder / part / "config.json", *weight_files(folder / part, index.variant, pickles=index.pickles)]
    for name in names:
        read += sorted(file for file in (folder / tokenizer_of(name)).iterdir() if file.is_file())
    low_res = folder / "low_res_scheduler" / "scheduler_config.json" if "low_res_scheduler" in index.parts else None
    read += [low_res] if low_res else []
    noise = read_json(low_res) if low_res else None
    return Parts(index, unet, vae, readers, read_json(scheduler), tuple(read), noise)


def encoders_of(index: Index) -> list[str]:
    """The names of the text encoders of a folder, in order; WeightsError where it has none."""
    names = [part for part in ("text_encoder", "text_encoder_2") if part in index.parts]
    if not names:
        raise WeightsError(f"{index.folder / 'model_index.json'}: names no text_encoder; prompts cannot be read")
    return names


def read_tokenizers(index: Index) -> dict[str, ClipTokenizer]:
    """The name of each text encoder of a folder and its tokenizer, read without the networks.

    Raises:
        WeightsError: the folder names no text encoder, or a file of a tokenizer is missing.
        ConfigError: a tokenizer's file says what cannot be.
    """
    return {name: ClipTokenizer.from_folder(index.folder / tokenizer_of(name)) for name in encoders_of(index)}


def check_parts(folder: Path, unet: UNet, vae: AutoencoderKL, readers: Sequence[Reader]) -> None:
    """Check that the parts speak of the same things: width of text, channels of latents, what XL is told.

    Raises:
        ConfigError: they do not; the message begins with ``folder``.
    """
    width = sum(reader.encoder.config.hidden_size for reader in readers)
    if unet.config.cross_attention_dim != width:
        asked = unet.config.cross_attention_dim
        raise ConfigError(f"{folder}: the U-Net reads text of width {asked}, the text encoders write {width}")
    # As many again where it says the variance of a step, too.
    if unet.config.out_channels not in (vae.config.latent_channels, 2 * vae.config.latent_channels):
        raise ConfigError(f"{folder}: the U-Net writes {unet.config.out_channels} channels, not the autoencoder's")
    if unet.config.addition_embed_type:
        _told(folder, unet.config, readers[-1].encoder.config)


def fitting(tokenizer: ClipTokenizer, encoder: ClipText, place: Path) -> Reader:
    """A tokenizer and an encoder that can read what it writes.

    Raises:
        ConfigError: it cannot; the message begins with the ``place`` of the tokenizer.
    """
    config = encoder.config
    if tokenizer.highest >= config.vocab_size or tokenizer.length > config.max_position_embeddings:
        raise ConfigError(
            f"{place}: writes {tokenizer.length} numbers up to {tokenizer.highest}; the encoder reads "
            f"{config.max_position_embeddings} below {config.vocab_size}"
        )
    return Reader(tokenizer, encoder)


def _told(folder: Path, unet: UNetConfig, encoder: ClipTextConfig) -> None:
    """Check that XL's U-Net is told what this program tells it: the pooled text and six sizes, or its refiner five."""
    pooled, asked = pooled_width(encoder), unet.projection_class_embeddings_input_dim
    known = [pooled + count * (unet.addition_time_embed_dim or 0) for count in (6, facts.REFINED)]
    if asked not in known:
        raise ConfigError(
            f"{folder}: the U-Net is told {asked} numbers beside the text, pooled text and six sizes are {known[0]}; "
            f"a refiner's four and a score are {known[1]}"
        )


def pooled_width(encoder: ClipTextConfig) -> int:
    """How wide the pooled text of an encoder is."""
    return encoder.projection_dim if encoder.projection else encoder.hidden_size


def tokenizer_of(encoder: str) -> str:
    """The folder of the tokenizer that belongs to a text encoder's."""
    return encoder.replace("text_encoder", "tokenizer")
