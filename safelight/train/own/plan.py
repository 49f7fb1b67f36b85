"""The plan of a training on one's own pictures: one record per section, read from the package, a file and overrides."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safelight.errors import ConfigError, RequestError, UnknownNameError
from safelight.train.objective import Objective
from safelight.train.settings import Fit, laid_over, records
from safelight.weights.folder import typed

PLANS = Path(__file__).with_name("plans")
TARGETS = ("attention", "attention+ff", "all")
FORMATS = ("kohya", "diffusers")
DTYPES = ("float32", "float16", "bfloat16")
MOST_RANK, MOST_VECTORS = 4096, 64


@dataclass(frozen=True)
class Data:
    """What is made of the folder's pictures.

    Attributes:
        size: edge of the square whose area no picture exceeds, in pixels; 0 is the model's own.
        step: of which the edges of pictures are multiples; 0 is what the network halves down to one place.
        caption: of pictures that have no text of their own; empty: each needs one.
        trigger: a word or more, put before every caption.
        empty: share of captions left out, 0 to 1, which keeps the model guidable.
        flip: whether mirror images are seen as often as the pictures.

    Raises:
        ConfigError: a number out of its range.
    """

    size: int = 0
    step: int = 0
    caption: str = ""
    trigger: str = ""
    empty: float = 0.1
    flip: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.size <= 8192 or not 0 <= self.step <= 1024:
            raise ConfigError(f"size = {self.size} and step = {self.step} are 0, or pixels up to 8192 and 1024")
        if not 0 <= self.empty <= 1:
            raise ConfigError(f"empty = {self.empty} must lie between 0 and 1")


@dataclass(frozen=True)
class Preview:
    """What is drawn every ``fit.sample_every`` steps, exactly as ``safelight generate`` draws it.

    Attributes:
        prompts: one picture each; a single empty text stands for the first captions of the data.
        negative: what is led away from. steps: 0 is the model's own number. guidance: 0 is the model's own.
        seed: of every picture.

    Raises:
        ConfigError: negative steps or seed, or no prompt.
    """

    prompts: tuple[str, ...] = ("",)
    negative: str = ""
    steps: int = 0
    guidance: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.steps < 0 or self.seed < 0 or not self.prompts:
            raise ConfigError("a preview has prompts, and steps and a seed of 0 or more")


@dataclass(frozen=True)
class LoraPlan:
    """The shape of a LoRA and of its file.

    Attributes:
        rank: of every change, 1 to 4096. alpha: what it counts, by the rank; equal to it: 1.
        targets: which layers: those of ``attention``; also the feed-forward ones and the projections around them
            (``attention+ff``); or ``all`` linear layers and convolutions of the blocks.
        text: whether the text encoders learn, too.
        format: names of the tensors in the file: ``kohya``, which most programs read, or ``diffusers`` (PEFT's).
        dtype: of the numbers in the file.

    Raises:
        ConfigError: a number out of its range. UnknownNameError: no such targets, format or dtype.
    """

    rank: int = 16
    alpha: float = 16.0
    targets: str = "attention"
    text: bool = False
    format: str = "kohya"
    dtype: str = "float16"

    def __post_init__(self) -> None:
        if not 1 <= self.rank <= MOST_RANK or not 0 < self.alpha <= MOST_RANK:
            raise ConfigError(f"rank = {self.rank} and alpha = {self.alpha} lie between 1 and {MOST_RANK}")
        _known("LoRA's targets", self.targets, TARGETS)
        _known("format", self.format, FORMATS)
        _known("dtype", self.dtype, DTYPES)


@dataclass(frozen=True)
class ControlPlan:
    """The shape of a ControlNet and of its file.

    Attributes:
        widths: of the hint's levels; each but the first halves the grid, down to that of the latents.
        dtype: of the numbers in the file.

    Raises:
        ConfigError: a width below 1. UnknownNameError: no such dtype.
    """

    widths: tuple[int, ...] = (16, 32, 96, 256)
    dtype: str = "float16"

    def __post_init__(self) -> None:
        if not self.widths or min(self.widths) < 1:
            raise ConfigError(f"widths = {list(self.widths)} are numbers of channels, 1 and up")
        _known("dtype", self.dtype, DTYPES)


@dataclass(frozen=True)
class WordsPlan:
    """A new word.

    Attributes:
        word: what is written in prompts, such as ``<mira>``.
        start: words that the model knows; the vectors begin as their tokens, one after the other and over again.
        vectors: how many tokens the word is, 1 to 64.

    Raises:
        ConfigError: an empty word, or a number out of its range.
    """

    word: str = "<new>"
    start: str = "person"
    vectors: int = 4

    def __post_init__(self) -> None:
        if not self.word.strip() or self.word != self.word.strip() or len(self.word.split()) != 1:
            raise ConfigError(f"word = {self.word!r} is one word without spaces, such as <mira>")
        if not self.start.strip():
            raise ConfigError("start is a word that the model knows")
        if not 1 <= self.vectors <= MOST_VECTORS:
            raise ConfigError(f"vectors = {self.vectors} lie between 1 and {MOST_VECTORS}")


@dataclass(frozen=True)
class ImagePlan:
    """The shape of an IP-Adapter, and of the network that sees the pictures.

    Attributes:
        edge: pixels a side that are seen. patch: pixels a side of one token of the encoder.
        width, layers, heads: of the encoder. tokens: that a picture becomes, beside those of the text.
        drop: share of pictures that are not shown, 0 to 1, which keeps the model guidable.
        first: steps, 0 and up, in which the tokens first learn to be what the text encoder says at the end of the
            picture's caption; the adapter is taught after them.
        dtype: of the numbers in the files.

    Raises:
        ConfigError: a number out of its range. UnknownNameError: no such dtype.
    """

    edge: int = 224
    patch: int = 16
    width: int = 256
    layers: int = 4
    heads: int = 4
    tokens: int = 4
    drop: float = 0.1
    first: int = 0
    dtype: str = "float16"

    def __post_init__(self) -> None:
        if self.first < 0:
            raise ConfigError(f"first = {self.first} is a number of steps, 0 or more")
        if not 0 <= self.drop <= 1 or not 1 <= self.tokens <= MOST_VECTORS or self.width < 1:
            raise ConfigError(f"drop = {self.drop} lies between 0 and 1, tokens = {self.tokens} between 1 and 64")
        if self.patch < 1 or self.edge % self.patch or self.edge > 1024:
            raise ConfigError(f"edge = {self.edge} is a multiple of patch = {self.patch}, up to 1024")
        _known("dtype", self.dtype, DTYPES)


@dataclass(frozen=True)
class Plan:
    """Every number of one training.

    Attributes:
        own: the section of what is trained: `LoraPlan`, `ControlPlan`, `WordsPlan` or `ImagePlan`.
    """

    data: Data
    objective: Objective
    fit: Fit
    preview: Preview
    own: Any


OWN: dict[str, type] = {
    "lora": LoraPlan,
    "controlnet": ControlPlan,
    "textual-inversion": WordsPlan,
    "ip-adapter": ImagePlan,
}
"""What can be trained -> the record of its own section, which has the same name with ``_`` for ``-``."""
SHARED: dict[str, type] = {"data": Data, "objective": Objective, "fit": Fit, "preview": Preview}


def read(what: str, config: str | None = None, changes: Iterable[str] = ()) -> Plan:
    """The package's plan for ``what``, with the sections of ``config`` and then ``section.key=value`` laid over it.

    Args:
        what: a name of OWN.
        config: a file, or the name of a plan that came with safelight, such as ``figurines-lora``.

    Raises:
        ConfigError: a file that is no TOML, or a value of another type or out of its range.
        UnknownNameError: a section, key or name that is not one; lists the nearest.
    """
    mine = what.replace("-", "_")
    tables = laid_over(PLANS / f"{what}.toml", located(config) if config else None, changes)
    made = records(f"plan for {what}", {**SHARED, mine: OWN[what]}, tables)
    return Plan(own=made.pop(mine), **made)


def located(config: str) -> Path:
    """The file of a plan by its path, or by its name where it came with safelight.

    Raises:
        FileError: it cannot be a path.
    """
    place = typed(config)
    shipped = PLANS / f"{config}.toml"
    return shipped if not place.exists() and Path(config).name == config and shipped.is_file() else place


def check_edges(size: int, step: int) -> None:
    """Refuse a size that its own step does not divide; RequestError names the nearest."""
    if size % step or size < step:
        low = max(size // step, 1) * step
        raise RequestError(f"data.size {size} is not a multiple of {step}; the nearest are {low} and {low + step}")


def _known(kind: str, name: str, names: tuple[str, ...]) -> None:
    if name not in names:
        raise UnknownNameError(kind, name, names)
