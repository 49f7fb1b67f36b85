"""What readers of other programs' files have in common: cameras with the pictures they belong to, and refusals."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from safelight.core.camera import Camera
from safelight.errors import ConfigError, RequestError


@dataclass(frozen=True, eq=False)
class Found:
    """Cameras [V] in float64 as a file has them, and for each the picture that the file names."""

    cameras: Camera
    files: tuple[str, ...]


def anything(cameras: Camera) -> None:
    """For formats that can tell every camera."""


def lens(fx: float, fy: float, cx: float, cy: float) -> Tensor:
    """[3, 3], the matrix K."""
    return torch.tensor([[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]], dtype=torch.float64)


def unknown(where: str, row: Mapping[str, Any], known: Collection[str]) -> None:
    """ConfigError where a row has keys that nothing here reads, so that none is passed over in silence."""
    if strange := sorted(set(row) - set(known)):
        raise ConfigError(f"{where} has keys that are not read: {', '.join(map(str, strange))[:200]}")


def number(where: str, row: Mapping[str, Any], key: str) -> float:
    """The number under a key; ConfigError where it is none."""
    value = row.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ConfigError(f"{where}: {key} must be a number, not {str(value)[:40]}")
    return float(value)


def pose(where: str, row: Mapping[str, Any], key: str) -> Tensor:
    """The matrix [4, 4] under a key; ConfigError where it is none."""
    value = row.get(key)
    shaped = isinstance(value, list) and len(value) == 4 and all(isinstance(r, list) and len(r) == 4 for r in value)
    if not shaped:
        raise ConfigError(f"{where}: {key} must be a matrix of 4 rows of 4 numbers")
    assert isinstance(value, list)
    rows = [[number(where, {key: entry}, key) for entry in line] for line in value]
    return torch.tensor(rows, dtype=torch.float64)


def text(where: str, row: Mapping[str, Any], key: str) -> str:
    """The words under a key; ConfigError where there are none."""
    value = row.get(key)
    if not isinstance(value, str) or not value:
        raise ConfigError(f"{where}: {key} must be a text, not {str(value)[:40]}")
    return value


def sized(where: str, sizes: Collection[tuple[float, float]]) -> tuple[int, int]:
    """The one size (height, width) that all pictures have; ConfigError where there are several, or none."""
    if len(set(sizes)) != 1:
        told = ", ".join(f"{int(width)}x{int(height)}" for height, width in sorted(set(sizes))[:4]) or "none"
        raise ConfigError(f"{where}: pictures of one size are needed, these have {told}; resize them first")
    height, width = next(iter(sizes))
    if height != int(height) or width != int(width):
        raise ConfigError(f"{where}: a picture of {width} x {height} pixels cannot be")
    return int(height), int(width)


def built(path: Path, files: tuple[str, ...], make: Any) -> Found:
    """The cameras that ``make()`` makes, with its refusals under the file's name."""
    try:
        return Found(make(), files)
    except RequestError as error:
        raise ConfigError(f"{path}: {error}") from None
