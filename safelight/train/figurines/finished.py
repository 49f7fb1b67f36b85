"""The finished parts of a run, as later stages read them: text encoder, autoencoder, latents of all portraits.

Axes: N portraits, Z latent channels, h w grid.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from safelight.encoders.clip import ClipText
from safelight.encoders.tokenizer import ClipTokenizer
from safelight.errors import CheckpointError, WeightsError
from safelight.train.figurines import portraits
from safelight.train.figurines.autoencoder import Vae, encode_all
from safelight.train.figurines.plan import Plan
from safelight.train.run import AVERAGE as AVERAGE
from safelight.vae.kl import AutoencoderKL
from safelight.weights.load import load_into, read
from safelight.weights.safetensors import read_header
from safelight.weights.save import save

TEXT = "text."
"""What the names of the text encoder begin with, beside the heads that it was taught with."""
ENCODER = ("encoder.", "quant_conv.")
"""What the names of the autoencoder's first half begin with: the one that latents depend on."""


def needed(place: Path, what: str) -> Path:
    """A file of an earlier stage; CheckpointError says what to do first where it is missing."""
    if not place.exists():
        raise CheckpointError(f"{place}: is missing; {what} first")
    return place


def load_tokenizer(run: Path) -> ClipTokenizer:
    """The tokenizer that was made with the text encoder."""
    needed(run / "tokenizer" / "vocab.json", "train the text encoder")
    return ClipTokenizer.from_folder(run / "tokenizer")


def load_text(run: Path, plan: Plan, tokenizer: ClipTokenizer) -> ClipText:
    """The trained text encoder, without the heads it was taught with, for reading only.

    Raises:
        CheckpointError: it is not trained yet, or of another shape than the plan says.
    """
    place = needed(run / "text" / AVERAGE, "train the text encoder")
    text = ClipText(plan.words.config(tokenizer.end + 1))
    try:
        load_into(text, place, rename=lambda name: name.removeprefix(TEXT) if name.startswith(TEXT) else None)
    except WeightsError as error:
        raise CheckpointError(f"{place}: not of the plan's [words]: {error}") from error
    return text.eval().requires_grad_(False)


class Sized(Protocol):
    """A section of a plan that says how large pictures are."""

    @property
    def size(self) -> int:
        """Pixels a side."""
        ...


class Squeezed(Protocol):
    """A plan with an autoencoder."""

    @property
    def data(self) -> Sized:
        """The pictures."""
        ...

    @property
    def vae(self) -> Vae:
        """The autoencoder."""
        ...


def load_vae(run: Path, plan: Squeezed) -> AutoencoderKL:
    """The trained autoencoder, with the decoder that was trained on if there is one, for reading only.

    Raises:
        CheckpointError: it is not trained yet, or of another shape than the plan says.
    """
    place = needed(run / "vae" / AVERAGE, "train the autoencoder")
    if (run / "decoder" / AVERAGE).exists():
        place = run / "decoder" / AVERAGE
    vae = AutoencoderKL(plan.vae.config(plan.data.size))
    try:
        load_into(vae, place)
    except WeightsError as error:
        raise CheckpointError(f"{place}: not of the plan's [vae]: {error}") from error
    return vae.eval().requires_grad_(False)


def encoder_hash(run: Path) -> str:
    """The SHA-256 of the autoencoder's first half: equal as long as latents already made stay valid."""
    tensors = read(needed(run / "vae" / AVERAGE, "train the autoencoder"))
    digest = hashlib.sha256()
    for name in sorted(tensors):
        if name.startswith(ENCODER):
            digest.update(name.encode())
            digest.update(tensors[name].contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def cached_latents(run: Path, plan: Plan, device: str = "cpu") -> Tensor:
    """Unscaled latents of all portraits, made once for each encoder: [N, Z, h, w] on the CPU.

    Args:
        device: where they are made if they are not there.

    Raises:
        CheckpointError: the portraits or the autoencoder are missing. FileError: they cannot be kept.
    """
    place = run / "data" / "latents.safetensors"
    source = encoder_hash(run)
    images = portraits.load(run / "data")
    if place.exists():
        header = read_header(place)
        if header.metadata.get("encoder") == source and header.entries["latents"].shape[0] == len(images.pictures):
            return read(place)["latents"]
    latents = encode_all(load_vae(run, plan).to(device), images)
    save({"latents": latents}, place, metadata={"encoder": source})
    return latents
