"""The whole plan of the default model: one record per stage, read from ``figurines.toml`` and overrides."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from safelight.core.path import VP
from safelight.train.figurines.autoencoder import Vae
from safelight.train.figurines.denoising import Drawing
from safelight.train.figurines.words import Words
from safelight.train.settings import Fit, at_least, laid_over, records

DEFAULTS = Path(__file__).with_name("figurines.toml")


@dataclass(frozen=True)
class Data:
    """The portraits: how many, how many pixels a side, from which seed, rendered by how many processes.

    Raises:
        ConfigError: a number below 1, or a negative seed.
    """

    count: int = 20000
    size: int = 128
    seed: int = 1
    workers: int = 2

    def __post_init__(self) -> None:
        at_least(self, count=1, size=1, seed=0, workers=1)


@dataclass(frozen=True)
class Plan:
    """Every number that makes the default model."""

    data: Data
    words: Words
    words_fit: Fit
    vae: Vae
    vae_fit: Fit
    decoder_fit: Fit
    unet: Drawing
    unet_fit: Fit

    @property
    def path(self) -> VP:
        """Of the noise; see `Drawing.path`."""
        return self.unet.path


SECTIONS: dict[str, type] = {
    "data": Data,
    "words": Words,
    "words_fit": Fit,
    "vae": Vae,
    "vae_fit": Fit,
    "decoder_fit": Fit,
    "unet": Drawing,
    "unet_fit": Fit,
}


def read(config: Path | None = None, changes: Iterable[str] = ()) -> Plan:
    """The plan of the package, with the sections of ``config`` and then ``section.key=value`` changes laid over it.

    Raises:
        ConfigError: a file that is no TOML, or a value of another type or out of its range.
        UnknownNameError: a section, key or name that is not one; lists the nearest.
    """
    return Plan(**records("training plan", SECTIONS, laid_over(DEFAULTS, config, changes)))
