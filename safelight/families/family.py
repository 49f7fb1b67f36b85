"""What a family of models says about itself, and what one loaded model answers: facts, never code paths by name.

A task (text to image, inpainting, views) is written once against `Model`; a family (Stable Diffusion, FLUX, Wan)
exports one `Family`. Neither knows the other's names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from torch import Tensor, nn

from safelight.vae.latent import LatentSpec
from safelight.weights.folder import Index

Self = TypeVar("Self", bound="Cond")


class Cond(Protocol):
    """What a network is told beside noisy latents and their level: one frozen record of tensors per family.

    Every tensor has one row per picture and a fixed length, so that strangers share a call.
    """

    def cat(self: Self, others: Sequence[Self]) -> Self:
        """The rows of this record followed by those of the others."""

    def repeat(self: Self, rows: int) -> Self:
        """A record of one row as ``rows`` equal ones."""

    def to(self: Self, like: Tensor) -> Self:
        """The same record on the device, and with the floating-point dtype, of ``like``."""


@dataclass(frozen=True)
class Defaults:
    """What a request gets when it does not say: sizes in pixels, names as in the tables of samplers and schedules."""

    width: int
    height: int
    steps: int
    guidance: float
    sampler: str
    schedule: str


@dataclass(frozen=True)
class Words:
    """A prompt as a model reads it.

    Attributes:
        cond: one row of what the network is told.
        cut: the ends of the prompt that did not fit, one per encoder that cut something off.
    """

    cond: Any
    cut: tuple[str, ...] = ()


@dataclass(frozen=True)
class Model:
    """What one loaded checkpoint answers. Frozen: several threads may draw from it at once.

    Attributes:
        family: name of its family.
        network: the denoiser. encoders: text encoders in the order in which they are asked. vae: the autoencoder.
        path: the noise levels it was trained on (`safelight.core.path`).
        prediction: what the network's output is: ``eps``, ``v``, ``x0``, ``flow`` or ``edm``.
        latent: shape and scale of the latents.
        tasks: what it can be asked for, such as ``text``, ``image``, ``inpaint``.
        defaults: for requests that do not say.
        encode: prompt and size (width, height) -> `Words`.
        predict: (latents [B, Z, h, w], labels t [B], cond of B rows) -> the network's output.
        hashes: file, relative to the model's folder -> SHA-256.
    """

    family: str
    network: nn.Module
    encoders: tuple[nn.Module, ...]
    vae: nn.Module
    path: Any
    prediction: str
    latent: LatentSpec
    tasks: tuple[str, ...]
    defaults: Defaults
    encode: Callable[[str, tuple[int, int]], Words]
    predict: Callable[[Tensor, Tensor, Any], Tensor]
    hashes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Family:
    """How the checkpoints of one architecture are recognised and read.

    Attributes:
        name: one word, lower case.
        pipelines: the classes in ``model_index.json`` that mean this family.
        load: reads a folder whose index was already read.
    """

    name: str
    pipelines: frozenset[str]
    load: Callable[[Index], Model]

    def reads(self, index: Index) -> bool:
        """Whether this family reads the folder of this index."""
        return index.pipeline in self.pipelines
