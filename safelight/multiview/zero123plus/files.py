"""How Zero123++ is read: from the released folder, whose ``model_index.json`` holds the ramp, too."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, TypeVar

from safelight.encoders.clip_pixels import ClipPixels
from safelight.encoders.viewer import load_viewer
from safelight.errors import ConfigError, RequestError, WeightsError
from safelight.families.sd import scheduler
from safelight.families.sd.parts import read_parts
from safelight.multiview.presets import Preset
from safelight.multiview.zero123plus.model import Zero123Plus
from safelight.multiview.zero123plus.tile import COLUMNS, ROWS, VIEWS
from safelight.weights.folder import Index, read_index, read_json

PARTS: Final = ("vision_encoder", "feature_extractor_clip", "feature_extractor_vae")
"""Beside those of Stable Diffusion 2."""
RAMP: Final = "ramping_coefficients"
Made = TypeVar("Made")


def load(folder: Path, row: Preset, variant: str = "", *, pickles: bool = False) -> Zero123Plus:
    """Read a released folder; every tensor in it is used, or refused by name.

    Args:
        row: the preset ``zero123pp-1.1`` or ``zero123pp-1.2``; the two have the same layout, and no file says which it
            is.
        variant, pickles: see `safelight.weights.folder.weight_files`.

    Raises:
        WeightsError: a part is missing or unreadable, or its tensors have other names or shapes.
        ConfigError: a part is of a kind that this model does not have, the ramp is missing or too short, or the parts
            do not fit together.
        RequestError: a preset of another model.
    """
    if row.picture != "ramp" or row.tile != (ROWS, COLUMNS) or not row.bank:
        raise RequestError(
            f"{row.title} draws no tile of {VIEWS} views; take the preset 'zero123pp-1.2' or 'zero123pp-1.1'"
        )
    index = read_index(folder, variant, pickles=pickles)
    for part in PARTS:
        if part not in index.parts:
            raise WeightsError(f"{folder / 'model_index.json'}: names no {part}; is this Zero123++?")
    parts = read_parts(index)
    clip = folder / "feature_extractor_clip"
    viewer = load_viewer(folder / "vision_encoder", variant, pickles=pickles, preprocessor=clip)
    shown = folder / "feature_extractor_vae" / "preprocessor_config.json"
    pixels = _read(shown, ClipPixels.from_dict)
    plan = replace(_read(folder / "scheduler" / "scheduler_config.json", scheduler.read), spacing=row.spacing)
    made = Zero123Plus(
        replace(parts, files=(*parts.files, *viewer.files, shown)), viewer, pixels, _ramp(index), plan, row
    )
    _check(folder, made)
    return made


def _read(place: Path, build: Callable[[Mapping[str, Any]], Made]) -> Made:
    """What a configuration says; the error of one that is refused begins with its file."""
    raw = read_json(place)
    try:
        return build(raw)
    except ConfigError as error:
        raise ConfigError(f"{place}: {error}") from error


def _ramp(index: Index) -> tuple[float, ...]:
    """ConfigError where the index has none, or no list of numbers."""
    where, found = index.folder / "model_index.json", index.settings.get(RAMP)
    if found is None:
        raise ConfigError(f"{where}: has no {RAMP}, with which CLIP's picture is added to the text; is this Zero123++?")
    if not isinstance(found, list) or not found or not all(map(_number, found)):
        raise ConfigError(f"{where}: {RAMP} is no list of numbers")
    return tuple(float(each) for each in found)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _check(folder: Path, made: Zero123Plus) -> None:
    """ConfigError where the parts do not speak of the same things."""
    parts, seen = made.parts, made.viewer.encoder.config
    places = parts.readers[0].tokenizer.length
    if len(made.ramp) != places:
        where = folder / "model_index.json"
        raise ConfigError(f"{where}: {RAMP} has {len(made.ramp)} numbers, and the text {places} places")
    width = parts.unet.config.cross_attention_dim
    if not seen.projection or seen.projection_dim != width:
        written = seen.projection_dim if seen.projection else "none"
        raise ConfigError(f"{folder}: the U-Net reads text of width {width}, the vision encoder projects to {written}")
    if len(parts.readers) != 1 or parts.unet.config.in_channels != parts.vae.config.latent_channels:
        raise ConfigError(f"{folder}: Zero123++ is Stable Diffusion 2 with nothing beside the latents; this is not")
    if made.pixels.edge % parts.vae.config.stride:
        where = folder / "feature_extractor_vae"
        raise ConfigError(f"{where}: {made.pixels.edge} pixels are no whole number of latents")
