"""The whole plan of the default model: one record per stage, read from ``figurines.toml`` and overrides."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safelight.core.path import VP, vp_scaled_linear, zero_terminal_snr
from safelight.errors import ConfigError, UnknownNameError
from safelight.train.figurines.autoencoder import Vae
from safelight.train.figurines.denoising import Drawing
from safelight.train.figurines.words import Words
from safelight.train.settings import Fit, overridden, read_toml, section

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
        for name, least in (("count", 1), ("size", 1), ("seed", 0), ("workers", 1)):
            if getattr(self, name) < least:
                raise ConfigError(f"{name} = {getattr(self, name)} must be at least {least}")


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
        """Stable Diffusion's table, stretched to pure noise where the prediction is defined there."""
        table = vp_scaled_linear()
        return table if self.unet.prediction == "eps" else zero_terminal_snr(table)


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
    tables: dict[str, dict[str, Any]] = read_toml(DEFAULTS)
    for name, table in (read_toml(config) if config else {}).items():
        tables.setdefault(name, {}).update(table)
    return from_tables(overridden(tables, changes))


def from_tables(tables: Mapping[str, Mapping[str, Any]]) -> Plan:
    """A plan from its sections; what they leave out has its default. Raises as `read` does."""
    for name in tables:
        if name not in SECTIONS:
            raise UnknownNameError("section of a training plan", name, SECTIONS)
    return Plan(**{name: section(kind, name, tables.get(name, {})) for name, kind in SECTIONS.items()})
