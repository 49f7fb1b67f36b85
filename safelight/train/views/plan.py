"""The whole plan of the default model of views: one record per stage, read from ``figurines-views.toml``."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from safelight.core.path import VP
from safelight.errors import ConfigError
from safelight.train.figurines.autoencoder import Vae
from safelight.train.settings import Fit, at_least, laid_over, records
from safelight.train.views.viewing import Viewing

DEFAULTS = Path(__file__).with_name("figurines-views.toml")


@dataclass(frozen=True)
class Data:
    """The scenes: how many people, views of each beside the portrait, pixels a side, how far aside cameras
    may be (0: the figure is in the middle; see `scenes.orbits`), from which seed, by how many processes.

    Raises:
        ConfigError: a number below 1, or a negative seed.
    """

    people: int = 2500
    views: int = 8
    size: int = 64
    aside: float = 0.0
    seed: int = 1
    workers: int = 2

    def __post_init__(self) -> None:
        at_least(self, people=1, views=1, size=1, aside=0, seed=0, workers=1)


@dataclass(frozen=True)
class Decoder:
    """What the decoder is taught, alone, of pictures: a part of a picture's area ``a`` counts by ``a ** -detail`` per
    pixel; 0 = every pixel counts the same, 1 = every part does, however small.

    Raises:
        ConfigError: a detail outside 0 to 1.
    """

    detail: float = 0.75

    def __post_init__(self) -> None:
        at_least(self, detail=0)
        if self.detail > 1:
            raise ConfigError(f"detail = {self.detail} must lie between 0 and 1")


@dataclass(frozen=True)
class Plan:
    """Every number that makes the model."""

    data: Data
    vae: Vae
    vae_fit: Fit
    decoder: Decoder
    decoder_fit: Fit
    views: Viewing
    views_fit: Fit

    @property
    def path(self) -> VP:
        """Of the noise; see `safelight.train.figurines.denoising.Drawing.path`."""
        return self.views.path


SECTIONS: dict[str, type] = {
    "data": Data,
    "vae": Vae,
    "vae_fit": Fit,
    "decoder": Decoder,
    "decoder_fit": Fit,
    "views": Viewing,
    "views_fit": Fit,
}


def read(config: Path | None = None, changes: Iterable[str] = ()) -> Plan:
    """The plan of the package, with the sections of ``config`` and then ``section.key=value`` changes laid over it.

    Raises:
        ConfigError: a file that is no TOML, or a value of another type or out of its range.
        UnknownNameError: a section, key or name that is not one; lists the nearest.
    """
    return Plan(**records("plan of views", SECTIONS, laid_over(DEFAULTS, config, changes)))
