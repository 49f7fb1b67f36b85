"""What a family of models says about itself, and what one loaded model answers: facts, never code paths by name.

A task (text to image, inpainting, views) is written once against `Model`; a family (Stable Diffusion, FLUX, Wan)
exports one `Family`. Neither knows the other's names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple, Protocol, Self

import torch
from PIL.Image import Image
from torch import Tensor, nn

from safelight.core.path import Level
from safelight.encoders.learned import Learned
from safelight.encoders.tokenizer import ClipTokenizer
from safelight.nn.ports import Ports
from safelight.vae.kl import AutoencoderKL
from safelight.vae.latent import LatentSpec
from safelight.vae.stage_a import StageA
from safelight.weights.folder import Index


class Cond(Protocol):
    """What a network is told beside noisy latents and their level: one frozen record of tensors per family.

    Every tensor has one row per picture. Its length is fixed, or a multiple of one: strangers of equal length share
    calls.
    """

    def cat(self, others: Sequence[Self]) -> Self:
        """The rows of this record followed by those of the others."""

    def repeat(self, rows: int) -> Self:
        """A record of one row as ``rows`` equal ones."""

    def to(self, like: Tensor) -> Self:
        """The same record on the device, and with the floating-point dtype, of ``like``."""

    def stretch(self, times: int) -> Self:
        """The same text told ``times`` over, as long as another; what is attended to is told no more than once."""


class Rows:
    """A `Cond` that is a dataclass of tensors [B, ...], all but its `stretch`; what a network does not read is None."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    def cat(self, others: Sequence[Self]) -> Self:
        """The rows of this record followed by those of the others, field by field."""
        records = [self, *others]
        found = {f.name: [t for record in records if (t := getattr(record, f.name)) is not None] for f in fields(self)}
        return type(self)(**{name: torch.cat(tensors) for name, tensors in found.items() if tensors})

    def repeat(self, rows: int) -> Self:
        """A record of one row as ``rows`` equal ones."""
        return self.cat([self] * (rows - 1))

    def to(self, like: Tensor) -> Self:
        """The same record on the device, and numbers with a fraction in the format, of ``like``."""
        held = {f.name: t for f in fields(self) if (t := getattr(self, f.name)) is not None}
        moved = {n: t.to(like.device, like.dtype if t.is_floating_point() else t.dtype) for n, t in held.items()}
        return type(self)(**moved)


@dataclass(frozen=True)
class Defaults:
    """What a request gets when it does not say.

    Attributes:
        width, height: in pixels.
        levels: n -> the n + 1 levels that the released schedule visits.
        start: (unit noise, levels) -> the state from which text to image begins.
        strength: of image to image; None for the customary one.
        sampler: row of SAMPLERS; options: what the released schedule changes in it.
        quiet: whether the last step adds no noise: on paths that never get clean it would stay in the picture.
        steps, guidance: None for the customary ones.
    """

    width: int
    height: int
    levels: Callable[[int], list[Level]]
    start: Callable[[Tensor, list[Level]], Tensor]
    sampler: str
    options: Mapping[str, float | str] = field(default_factory=dict)
    strength: float | None = None
    quiet: bool = False
    steps: int | None = None
    guidance: float | None = None


class Fact(NamedTuple):
    """Numbers that a network is told beside the text.

    Attributes:
        numbers: how many. most: the largest; the smallest is 0. whole: whether fractions are refused.
    """

    numbers: int
    most: float = 100_000.0
    whole: bool = False


class Prompt(NamedTuple):
    """What an encoder is asked to read.

    Attributes:
        text: any length; what does not fit is cut and told.
        size: (width, height) of the picture in pixels.
        skip: layers left out at the end, 0 for none ("clip skip" of other programs counts from 1).
        negative: whether this is the branch that guidance leads away from.
        emphasis: how weights in it are written and what they do; a name of ``encoders/emphasis.py``.
        facts: numbers that the network is told beside the text; see ``Model.facts``.
        learned: words that the encoders are shown vectors for; see ``Model.learned``.
        picture: what is told beside or instead of a text, to models with the task ``vary``.
    """

    text: str
    size: tuple[int, int]
    skip: int = 0
    negative: bool = False
    emphasis: str = "none"
    facts: Mapping[str, tuple[float, ...]] = MappingProxyType({})
    learned: tuple[Learned, ...] = ()
    picture: Image | None = None


@dataclass(frozen=True)
class Words:
    """A prompt as a model reads it.

    Attributes:
        cond: one row of what the network is told.
        cut: the ends of the prompt that did not fit, one per encoder that cut something off.
        chunks: how many times the usual length it takes.
    """

    cond: Any
    cut: tuple[str, ...] = ()
    chunks: int = 1


@dataclass(frozen=True)
class Ported:
    """What a network offers to guidance that makes it worse on purpose (``nn/perturb.py``).

    Attributes:
        predict: (latents, labels t, cond, ports) -> the network's output; with no ports what ``Model.predict`` gives.
        attentions: dotted names of the self-attention layers that can be perturbed, in the order of the network.
        blocks: dotted names of the transformer blocks that can be skipped, in the order of the network.
        usual: beginning of the names that are meant where a request does not say.
    """

    predict: Callable[[Tensor, Tensor, Any, Ports], Tensor]
    attentions: tuple[str, ...]
    blocks: tuple[str, ...]
    usual: str


@dataclass(frozen=True)
class Enlarge:
    """How a network that is shown a whole picture draws a larger one.

    Attributes:
        factor: edges of the drawn picture by those of the shown one.
        multiple: of which the drawn picture's edges are multiples, in pixels.
        show: (cond, latents of the shown picture [1, Z, h, w]) -> cond; None for networks that see its colours.
        blur: for those: (cond, colours [1, 3, H, W] in [-1, 1], unit noise like them) -> cond.
    """

    factor: int
    multiple: int
    show: Callable[[Any, Tensor], Any] | None
    blur: Callable[[Any, Tensor, Tensor], Any] | None = None


@dataclass(frozen=True)
class Model:
    """What one loaded checkpoint answers. Frozen: several threads may draw from it at once.

    Attributes:
        family: name of its family. folder: where it was read from.
        network: the denoiser. encoders: text encoders in the order in which they are asked. vae: the autoencoder.
        path: the noise levels it was trained on (`safelight.core.path`).
        prediction: what the network's output is: ``eps``, ``v``, ``x0``, ``flow`` or ``edm``.
        latent: shape and scale of the latents.
        tasks: what it can be asked for: ``text``, ``image``, ``inpaint``, ``upscale``, ``vary``.
        defaults: for requests that do not say.
        encode: `Prompt` -> `Words`.
        predict: (latents [B, Z, h, w], labels t [B], cond of B rows) -> the network's output.
        conceal: for networks that are shown the picture to repaint: (cond, mask [1, 1, h, w], latents of the picture
            with a hole) -> cond; None for the others.
        deepen: for networks that are shown depth: (cond, depth [1, 1, h, w] in [-1, 1], 1 is nearest) -> cond; None for
            the others.
        enlarge: for networks that draw a shown picture larger; None for the others.
        after: for networks that draw no picture yet: the model that is shown what they drew, and draws on.
        ported: the network with its ports, for those that have them.
        tell: for networks that guidance was distilled into: (cond, scale) -> cond with the scale that the network is
            told; None for the others, which are guided by asking twice.
        facts: numbers that the network is told beside the text, by name; ``negative-`` before those of the negative
            prompt.
        ranged: whether the network's output is followed by as many channels in which it says the variance of a step
            (2102.09672 eq. 15).
        skips: most layers that can be left out at the end of the text encoders.
        emphases: what ``Prompt.emphasis`` may be.
        tokenizers: of the text encoders, in their order, where words can be learned for them; else none.
        learned: words that were learned, and mean their vectors in every prompt.
        files: every file that was read, below ``folder``.
    """

    family: str
    folder: Path
    network: nn.Module
    encoders: tuple[nn.Module, ...]
    vae: AutoencoderKL | StageA
    path: Any
    prediction: str
    latent: LatentSpec
    tasks: tuple[str, ...]
    defaults: Defaults
    encode: Callable[[Prompt], Words]
    predict: Callable[[Tensor, Tensor, Any], Tensor]
    conceal: Callable[[Any, Tensor, Tensor], Any] | None = None
    deepen: Callable[[Any, Tensor], Any] | None = None
    enlarge: Enlarge | None = None
    after: Model | None = None
    ported: Ported | None = None
    tell: Callable[[Any, float], Any] | None = None
    facts: Mapping[str, Fact] = field(default_factory=dict)
    ranged: bool = False
    skips: int = 0
    emphases: tuple[str, ...] = ("none",)
    tokenizers: tuple[ClipTokenizer, ...] = ()
    learned: tuple[Learned, ...] = ()
    files: tuple[Path, ...] = ()

    @property
    def modules(self) -> tuple[nn.Module, ...]:
        """Every network of this model and of those that draw on."""
        return (self.network, *self.encoders, self.vae, *(self.after.modules if self.after else ()))


@dataclass(frozen=True)
class Family:
    """How the checkpoints of one architecture are recognised and read.

    Attributes:
        name: one word, lower case.
        pipelines: the classes in ``model_index.json`` that mean this family.
        load: reads a folder, or a single file, whose index was already read.
        open_file: (file, whether pickles may be read, where the vocabulary may lie) -> the index of a single file;
            None for families that have none.
        tokenizers: an index -> the name of each text encoder and its tokenizer, read without the networks; None for
            families whose prompts are not laid out in chunks.
    """

    name: str
    pipelines: frozenset[str]
    load: Callable[[Index], Model]
    open_file: Callable[[Path, bool, tuple[Path, ...]], Index] | None = None
    tokenizers: Callable[[Index], Mapping[str, ClipTokenizer]] | None = None

    def reads(self, index: Index) -> bool:
        """Whether this family reads the folder of this index."""
        return index.pipeline in self.pipelines
