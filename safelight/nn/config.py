"""Read a released ``config.json`` into a frozen dataclass, refusing every word that would change the network unnoticed.

A released configuration holds three kinds of keys: those that shape the network (the fields of the dataclass), those
that could but for which this program knows one meaning only (*fixed*: the value must be one of those listed), and
those that say nothing about the network (*ignored*: versions, names, training settings).
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Collection, Mapping
from typing import Any, TypeVar

from safelight.errors import ConfigError

Config = TypeVar("Config")
LARGEST, DEEPEST, LEVELS = 2**20, 256, 16
"""Far above every real network: the largest width or table, the most layers in a row, the most resolutions."""


def from_released(
    cls: type[Config],
    raw: Mapping[str, Any],
    *,
    fixed: Mapping[str, tuple[Any, ...]],
    ignored: Collection[str] = (),
) -> Config:
    """Build ``cls`` from the dictionary of a released ``config.json``.

    Args:
        cls: a frozen dataclass; every key named like one of its fields is taken, lists as tuples, ``null`` as default.
        raw: the dictionary as read.
        fixed: keys that may be present with one of the listed values only.
        ignored: keys that say nothing about the network; keys that begin with ``_`` always belong to them.

    Raises:
        ConfigError: an unknown key, a value of another type than its field, or a fixed key with another value; the
            message names both.
    """
    fields = {field.name for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    kinds = typing.get_type_hints(cls)
    taken: dict[str, Any] = {}
    for key, value in raw.items():
        if key in fields:
            if value is None:
                continue
            taken[key] = _frozen(value)
            if not _fits(taken[key], kinds[key]):
                kind = getattr(kinds[key], "__name__", str(kinds[key]))
                raise ConfigError(f"{cls.__name__}: {key} = {str(value)[:80]!r} is not of the type {kind}")
        elif key in fixed:
            if _frozen(value) not in fixed[key]:
                known = " or ".join(repr(v) for v in fixed[key])
                raise ConfigError(f"{cls.__name__}: {key} = {value!r} is not supported; this program knows {known}")
        elif key not in ignored and not key.startswith("_"):
            near = difflib.get_close_matches(key, fields, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ConfigError(f"{cls.__name__}: unknown key {key!r} (= {value!r}){hint}")
    return cls(**taken)


def per_level(name: str, value: Any, levels: int) -> tuple[Any, ...]:
    """Spread a setting over ``levels``: one value stands for all of them, a tuple must have one for each.

    Raises:
        ConfigError: a tuple of another length.
    """
    if not isinstance(value, tuple):
        return (value,) * levels
    if len(value) != levels:
        raise ConfigError(f"{name} has {len(value)} entries, {value!r}; the network has {levels} levels")
    return value


def positive(config: object, *names: str, most: int = LARGEST) -> None:
    """Check that the named fields are whole numbers from 1 to ``most``, or up to LEVELS of them, and nothing else.

    Raises:
        ConfigError: the first field that is not.
    """
    for name in names:
        value = getattr(config, name)
        entries = value if isinstance(value, tuple) else (value,)
        if not 1 <= len(entries) <= LEVELS or not all(_fits(v, int) and 1 <= v <= most for v in entries):
            said = str(value)[:80]
            raise ConfigError(f"{type(config).__name__}: {name} = {said} must be positive whole numbers up to {most}")


def _fits(value: Any, kind: Any) -> bool:
    """Whether a value of a file is of a field's type; whole numbers are floats too, true and false are no numbers."""
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return any(_fits(value, each) for each in typing.get_args(kind))
    if typing.get_origin(kind) is tuple:
        return isinstance(value, tuple) and all(_fits(each, typing.get_args(kind)[0]) for each in value)
    if kind in (int, float):
        numbers = (int,) if kind is int else (int, float)
        return isinstance(value, numbers) and not isinstance(value, bool) and math.isfinite(value)
    return isinstance(value, kind)


def _frozen(value: Any) -> Any:
    """Lists become tuples, all the way down, so that a configuration can be hashed and compared."""
    return tuple(_frozen(v) for v in value) if isinstance(value, (list, tuple)) else value
