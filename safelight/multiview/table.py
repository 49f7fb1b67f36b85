"""Tables of facts in TOML: each row becomes a record, has all of its fields and no others, and sound values."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from safelight.errors import ConfigError


def rows(
    path: Path, what: str, record: type, optional: Collection[str] = ()
) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Where each row stands, in words, its name, and its values.

    Args:
        what: a row, in words. record: the dataclass; its field ``name`` is the row's own. optional: what may lack.

    Raises:
        ConfigError: it is no such file: names the row and what is wrong with it.
    """
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read as a table of {what}s ({error})") from None
    known = {field.name for field in fields(record)} - {"name"}
    for name, row in tables.items():
        where = f"{path}: {what} {name!r}"
        if not isinstance(row, dict):
            raise ConfigError(f"{where} is not a table")
        if strange := sorted(set(row) - known):
            raise ConfigError(f"{where} has unknown keys: {', '.join(strange)}")
        if missing := sorted(known - set(optional) - set(row)):
            raise ConfigError(f"{where} lacks {', '.join(missing)}")
        yield where, name, row


def sound(where: str, row: Mapping[str, Any], found: Mapping[str, bool]) -> None:
    """ConfigError for the first value that is not sound, by name."""
    for key, good in found.items():
        if not good:
            raise ConfigError(f"{where}: {key} cannot be {str(row[key])[:60]}")


def within(value: Any, low: float, high: float, *, whole: bool = False) -> bool:
    """Whether a value is a number, ``whole`` or not, from ``low`` to ``high``."""
    number = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
    return number and math.isfinite(value) and low <= value <= high
