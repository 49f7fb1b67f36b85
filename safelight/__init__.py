"""Draws pictures, views and films with diffusion models, and proves what it does.

The public names stand in ``_HOME`` beside the module that defines them, and are loaded on first use: importing
``safelight`` costs a millisecond and loads no torch. Everything else is an inner room and may move.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # what type checkers and editors see; a test holds it equal to _HOME
    from safelight.errors import (
        CheckpointError,
        ConfigError,
        DeviceError,
        ExistsError,
        FileError,
        ImageError,
        PredictionError,
        PromptError,
        RequestError,
        SafelightError,
        TrainingError,
        UnknownNameError,
        WeightsError,
    )
    from safelight.generate.adapters import embedding, lora
    from safelight.generate.guiding import Rule
    from safelight.generate.hires import Hires
    from safelight.generate.pipe import Drawn, Pipe, load
    from safelight.generate.recipe import Recipe
    from safelight.generate.request import Request
    from safelight.generate.wardrobe import applied

__version__ = "0.1.0"

__all__ = [
    "CheckpointError",
    "ConfigError",
    "DeviceError",
    "Drawn",
    "ExistsError",
    "FileError",
    "Hires",
    "ImageError",
    "Pipe",
    "PredictionError",
    "PromptError",
    "Recipe",
    "Request",
    "RequestError",
    "Rule",
    "SafelightError",
    "TrainingError",
    "UnknownNameError",
    "WeightsError",
    "__version__",
    "applied",
    "embedding",
    "load",
    "lora",
]

_HOME = {
    "CheckpointError": "safelight.errors",
    "ConfigError": "safelight.errors",
    "DeviceError": "safelight.errors",
    "Drawn": "safelight.generate.pipe",
    "ExistsError": "safelight.errors",
    "FileError": "safelight.errors",
    "Hires": "safelight.generate.hires",
    "ImageError": "safelight.errors",
    "Pipe": "safelight.generate.pipe",
    "PredictionError": "safelight.errors",
    "PromptError": "safelight.errors",
    "Recipe": "safelight.generate.recipe",
    "Request": "safelight.generate.request",
    "RequestError": "safelight.errors",
    "Rule": "safelight.generate.guiding",
    "SafelightError": "safelight.errors",
    "TrainingError": "safelight.errors",
    "UnknownNameError": "safelight.errors",
    "WeightsError": "safelight.errors",
    "applied": "safelight.generate.wardrobe",
    "embedding": "safelight.generate.adapters",
    "load": "safelight.generate.pipe",
    "lora": "safelight.generate.adapters",
}


def __getattr__(name: str) -> object:
    """Load a public name from the module that defines it, and keep it."""
    if name not in _HOME:
        raise AttributeError(f"module 'safelight' has no public name {name!r}")
    value: object = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return list(__all__)
