"""Latents of pictures, made once and kept: named by the encoder's hash, the picture's bytes and the sizes in use.

Axes: [1, Z, h, w] latents as the network sees them, float32. What is kept is the most probable latents.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from safelight.errors import SafelightError
from safelight.families.family import Model
from safelight.generate.image import encode
from safelight.generate.picture import to_tensor
from safelight.train.own.buckets import Size, buckets, fit, nearest
from safelight.train.own.pictures import Entry
from safelight.weights.load import read
from safelight.weights.safetensors import read_header
from safelight.weights.save import make_folder, save

READS = ("encoder.", "quant_conv.")
"""What the names of an autoencoder's first half begin with: the one that latents depend on."""


class Seen(NamedTuple):
    """A picture as the network is trained on it.

    Attributes:
        latents: of the picture, and last of its mirror image, where that is wanted: [1 or 2, Z, h, w].
        bucket: the size that it was fitted to. original: the size that it had. crop: left and top.
    """

    latents: Tensor
    bucket: Size
    original: Size
    crop: tuple[int, int]


@dataclass(frozen=True)
class Sizes:
    """Which buckets there are: ``edge`` and ``step`` as in `buckets`; ``flip``: whether mirror images are seen, too."""

    edge: int
    step: int
    flip: bool = False

    @property
    def known(self) -> list[Size]:
        """Every bucket."""
        return buckets(self.edge, self.step)


def prepare(model: Model, entries: Sequence[Entry], sizes: Sizes, folder: Path) -> Iterator[list[Seen]]:
    """The latents of every picture; what an earlier run made is read. Yields all that is done so far.

    Raises:
        ImageError: a picture cannot be read. FileError: latents cannot be kept.
    """
    make_folder(folder)
    encoder = encoder_hash(model.vae)
    done: list[Seen] = []
    for entry in entries:
        place = folder / f"{name(encoder, entry, sizes)}.safetensors"
        seen = _kept(place)
        if seen is None:
            seen = look(model, entry, sizes)
            _keep(place, seen)
        done.append(seen)
        yield done


def look(model: Model, entry: Entry, sizes: Sizes) -> Seen:
    """Fit a picture to its bucket and encode it; ImageError where it cannot be read."""
    picture = entry.picture()
    bucket = nearest(picture.size, sizes.known)
    fitted = fit(picture, bucket)
    colours = to_tensor(fitted.picture, bucket)
    views = [colours, colours.flip(-1)] if sizes.flip else [colours]
    latents = torch.cat([encode(model, view) for view in views]).cpu()
    return Seen(latents, bucket, picture.size, fitted.crop)


def name(encoder: str, entry: Entry, sizes: Sizes) -> str:
    """What the latents of a picture are called."""
    told = f"{encoder} {entry.digest} {sizes.edge} {sizes.step} {sizes.flip}"
    return hashlib.sha256(told.encode()).hexdigest()[:32]


def encoder_hash(vae: nn.Module) -> str:
    """The SHA-256 of an autoencoder's first half: equal as long as latents already made stay valid."""
    digest = hashlib.sha256()
    for each, tensor in sorted(vae.state_dict().items()):
        if each.startswith(READS):
            digest.update(f"{each} {tensor.dtype}".encode())
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _keep(place: Path, seen: Seen) -> None:
    numbers = {"bucket": seen.bucket, "original": seen.original, "crop": seen.crop}
    save({"latents": seen.latents}, place, {what: f"{a} {b}" for what, (a, b) in numbers.items()})


def _kept(place: Path) -> Seen | None:
    """What an earlier run made; None where there is nothing, or something that cannot be read."""
    if not place.is_file():
        return None
    try:
        told = read_header(place).metadata
        bucket, original, crop = (tuple(map(int, told[what].split())) for what in ("bucket", "original", "crop"))
        return Seen(read(place)["latents"], bucket, original, crop)  # type: ignore[arg-type]
    except (SafelightError, KeyError, ValueError):
        return None
