"""Read the parts of a released Stable Diffusion folder (1, 2, XL): built without weights, then mapped from the files.

A folder holds ``model_index.json`` and a folder per part: ``unet``, ``vae``, ``text_encoder``, ``tokenizer`` and
``scheduler``; XL has ``text_encoder_2`` and ``tokenizer_2`` too, and its refiner only those.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from safelight.encoders.clip import ClipText, ClipTextConfig
from safelight.encoders.tokenizer import ClipTokenizer
from safelight.errors import ConfigError, WeightsError
from safelight.families.sd.model import UNet, UNetConfig
from safelight.vae.kl import AutoencoderKL, KLConfig
from safelight.weights.folder import Index, read_json, weight_files
from safelight.weights.load import Rename, load_into

Net = TypeVar("Net", bound=nn.Module)

OLD_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
"""Names of the autoencoder's attention in the oldest released files, which are still the most downloaded ones."""


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
    """

    index: Index
    unet: UNet
    vae: AutoencoderKL
    readers: tuple[Reader, ...]
    scheduler: Mapping[str, Any]
    files: tuple[Path, ...]


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
    names = [part for part in ("text_encoder", "text_encoder_2") if part in index.parts]
    if not names:
        raise WeightsError(f"{folder / 'model_index.json'}: names no text_encoder; prompts cannot be read")
    scheduler = folder / "scheduler" / "scheduler_config.json"
    readers = [Reader(_tokenizer(folder, name), load_text(folder / name)) for name in names]
    unet, vae = load_unet(folder / "unet"), load_vae(folder / "vae")
    width = sum(reader.encoder.config.hidden_size for reader in readers)
    if unet.config.cross_attention_dim != width:
        asked = unet.config.cross_attention_dim
        raise ConfigError(f"{folder}: the U-Net reads text of width {asked}, the text encoders write {width}")
    if unet.config.out_channels not in (vae.config.latent_channels, 2 * vae.config.latent_channels):
        raise ConfigError(f"{folder}: the U-Net writes {unet.config.out_channels} channels, not the autoencoder's")
    read = [folder / "model_index.json", scheduler]
    for part in ("unet", "vae", *names):
        read += [folder / part / "config.json", *weight_files(folder / part)]
    return Parts(index, unet, vae, tuple(readers), read_json(scheduler), tuple(read))


def load_unet(folder: Path) -> UNet:
    """The U-Net of a part's folder. Raises: see `read_parts`."""
    return _load(folder, lambda raw: UNet(UNetConfig.from_dict(raw)))


def load_vae(folder: Path) -> AutoencoderKL:
    """The autoencoder of a part's folder, old names of its attention included. Raises: see `read_parts`."""
    return _load(folder, lambda raw: AutoencoderKL(KLConfig.from_dict(raw)), rename=vae_name)


def load_text(folder: Path) -> ClipText:
    """The text encoder of a part's folder, with or without the prefix ``text_model.``. Raises: see `read_parts`."""
    return _load(folder, lambda raw: ClipText(ClipTextConfig.from_dict(raw)), rename=text_name)


def vae_name(name: str) -> str:
    """A released name of the autoencoder -> ours."""
    stem, _, leaf = name.rpartition(".")
    owner, _, last = stem.rpartition(".")
    return f"{owner}.{OLD_ATTENTION[last]}.{leaf}" if last in OLD_ATTENTION and ".attentions." in name else name


def text_name(name: str) -> str | None:
    """A released name of a text encoder -> ours; the list of positions 0..76 that old files hold says nothing."""
    if name.endswith("embeddings.position_ids"):
        return None
    return name if name.startswith(("text_model.", "text_projection.")) else f"text_model.{name}"


def _load(folder: Path, build: Callable[[Mapping[str, Any]], Net], rename: Rename | None = None) -> Net:
    raw = read_json(folder / "config.json")
    try:
        with torch.device("meta"):
            network = build(raw)
        load_into(network, weight_files(folder), rename=rename)
    except ConfigError as error:
        raise ConfigError(f"{folder / 'config.json'}: {error}") from error
    except WeightsError as error:
        raise error if str(folder) in str(error) else WeightsError(f"{folder}: {error}") from error
    return network.eval()


def _tokenizer(folder: Path, encoder: str) -> ClipTokenizer:
    return ClipTokenizer.from_folder(folder / encoder.replace("text_encoder", "tokenizer"))
