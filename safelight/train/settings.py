"""How a training run is set up: one frozen record per section of a TOML file, with overrides from the command line."""

from __future__ import annotations

import dataclasses
import math
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from safelight.errors import ConfigError, UnknownNameError

Section = TypeVar("Section")
DECAYS = ("constant", "linear", "cosine")
PRECISIONS = ("auto", "fp32", "bf16")
RANGES = {
    "steps": (1, math.inf),
    "batch": (1, math.inf),
    "accumulate": (1, math.inf),
    "lr": (0, math.inf),
    "warmup": (0, math.inf),
    "hold": (0, 1),
    "weight_decay": (0, math.inf),
    "clip": (0, math.inf),
    "seed": (0, 2**63),
    "save_every": (1, math.inf),
    "log_every": (1, math.inf),
    "sample_every": (0, math.inf),
}
"""Least and greatest value of each number of a loop, both allowed."""


@dataclass(frozen=True)
class Fit:
    """The numbers of one training loop.

    Attributes:
        steps: optimiser steps in all, counted over every resumption; at least 1.
        batch: rows per optimiser step.
        accumulate: parts that a batch is split into to save memory; 1 computes it whole. Must divide ``batch``.
        lr: the highest learning rate, reached after ``warmup`` steps.
        decay: what happens after the warm-up: ``constant``, or ``linear`` or ``cosine`` down to 0 at ``steps``.
        hold: share of the run, 0 to 1, that stays at ``lr`` before the decay begins.
        weight_decay: AdamW's, 0 and up, applied to matrices only.
        beta2: AdamW's memory of squared gradients per step, 0 to below 1.
        clip: largest norm of the gradient; 0 turns clipping off.
        ema: decay of the averaged weights per step, 0 (no averaging) to below 1; it warms up from 0.
        precision: ``fp32``; ``bf16`` for autocast with float32 weights; ``auto`` for bf16 where the device has
            instructions for it, else fp32.
        seed: decides the order of the data, the noise and the first weights.
        save_every: steps between checkpoints.
        log_every: steps between lines of the log.
        sample_every: steps between sample sheets, in stages that draw them; 0 draws none.

    Raises:
        ConfigError: a number out of its range. UnknownNameError: no such decay or precision.
    """

    steps: int = 1000
    batch: int = 64
    accumulate: int = 1
    lr: float = 1e-3
    warmup: int = 100
    decay: str = "cosine"
    hold: float = 0.0
    weight_decay: float = 0.01
    beta2: float = 0.99
    clip: float = 1.0
    ema: float = 0.999
    precision: str = "auto"
    seed: int = 0
    save_every: int = 250
    log_every: int = 10
    sample_every: int = 0

    def __post_init__(self) -> None:
        if self.decay not in DECAYS:
            raise UnknownNameError("learning-rate decay", self.decay, DECAYS)
        if self.precision not in PRECISIONS:
            raise UnknownNameError("precision", self.precision, PRECISIONS)
        for name, (least, most) in RANGES.items():
            value = getattr(self, name)
            if not (least <= value <= most and math.isfinite(value)):
                raise ConfigError(f"{name} = {value} must lie between {least} and {most}")
        for name in ("beta2", "ema"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"{name} = {getattr(self, name)} must be at least 0 and below 1")
        if self.batch % self.accumulate:
            raise ConfigError(f"batch = {self.batch} is not a multiple of accumulate = {self.accumulate}")

    def rate(self, step: int) -> float:
        """The learning rate of optimiser step ``step`` (the first is 0): lr / warmup at first, 0 at ``steps``."""
        if step < self.warmup:
            return self.lr * (step + 1) / self.warmup
        if self.decay == "constant":
            return self.lr
        start = max(self.warmup, int(self.hold * self.steps))
        done = min(max(0.0, (step - start) / max(1, self.steps - start)), 1.0)
        if self.decay == "linear":
            return self.lr * (1 - done)
        # half a cosine: Loshchilov & Hutter 2017, equation 5
        return self.lr * 0.5 * (1 + math.cos(math.pi * done))


def at_least(record: Any, **least: float) -> None:
    """Refuse numbers of a record below their least; ConfigError says which."""
    for name, number in least.items():
        if getattr(record, name) < number:
            raise ConfigError(f"{name} = {getattr(record, name)} must be at least {number}")


def read_toml(path: Path) -> dict[str, dict[str, Any]]:
    """The sections of a TOML file.

    Raises:
        ConfigError: it cannot be read, is not TOML, or holds a value outside a section.
    """
    try:
        tables = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}; name an existing TOML file") from None
    except ValueError as error:  # not TOML, or not even UTF-8
        raise ConfigError(f"{path}: not TOML: {error}") from None
    for name, table in tables.items():
        if not isinstance(table, dict):
            raise ConfigError(f"{path}: {name} stands outside a [section]")
    return tables


def overridden(tables: Mapping[str, Mapping[str, Any]], changes: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Apply ``section.key=value`` texts; the value is read as TOML, else kept as text.

    Raises:
        ConfigError: a text without a section, a key or a value.
    """
    result = {name: dict(table) for name, table in tables.items()}
    for change in changes:
        place, equals, text = change.partition("=")
        section, dot, key = place.strip().partition(".")
        if not (equals and dot and section and key):
            raise ConfigError(f"{change!r} is not of the form section.key=value, such as unet.steps=2000")
        try:
            value = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            value = text
        result.setdefault(section, {})[key] = value
    return result


def laid_over(defaults: Path, config: Path | None, changes: Iterable[str]) -> dict[str, dict[str, Any]]:
    """The sections of a plan: those of ``defaults``, over them those of ``config``, over them ``section.key=value``.

    Raises:
        ConfigError: see `read_toml` and `overridden`.
    """
    tables = read_toml(defaults)
    for name, table in (read_toml(config) if config else {}).items():
        tables.setdefault(name, {}).update(table)
    return overridden(tables, changes)


def records(what: str, kinds: Mapping[str, type], tables: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Every section of a plan as its record; what the tables leave out has its default.

    Args:
        what: the plan, in errors.

    Raises:
        UnknownNameError: a section or a key that is not one; lists the nearest. ConfigError: see `section`.
    """
    for name in tables:
        if name not in kinds:
            raise UnknownNameError(f"section of a {what}", name, kinds)
    return {name: section(kind, name, tables.get(name, {})) for name, kind in kinds.items()}


def section(kind: type[Section], name: str, table: Mapping[str, Any]) -> Section:
    """One section as its record, a frozen dataclass whose fields all have a default of their own type.

    Raises:
        ConfigError: a value of another type than the field's, or out of its range; says which.
        UnknownNameError: a key that the section does not have; lists the nearest.
    """
    fields = {f.name: f for f in dataclasses.fields(kind)}  # type: ignore[arg-type]
    values: dict[str, Any] = {}
    for key, value in table.items():
        if key not in fields:
            raise UnknownNameError(f"key in [{name}]", key, fields)
        values[key] = typed(f"[{name}] {key}", value, fields[key].default)
    try:
        return kind(**values)
    except ConfigError as error:
        raise ConfigError(f"[{name}] {error}") from None


def typed(place: str, value: Any, default: Any) -> Any:
    """A value as the type of ``default``: whole numbers pass for fractions, lists for tuples of one type.

    Raises:
        ConfigError: it is of another type.
    """
    if isinstance(default, tuple) and isinstance(value, list):
        return tuple(typed(f"{place}[{i}]", element, default[0]) for i, element in enumerate(value))
    if isinstance(default, float) and type(value) is int:
        return float(value)
    if type(value) is not type(default):
        wanted = "list" if isinstance(default, tuple) else type(default).__name__
        raise ConfigError(f"{place} = {value!r} should be of type {wanted}")
    return value
