"""Read a released model folder: ``model_index.json``, one folder per part, ``config.json`` and weights in each.

The layout is that of diffusers pipelines; no torch is needed to read it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safelight.errors import ConfigError, FileError, WeightsError
from safelight.weights.safetensors import PICKLES, pickle_error

MAX_TEXT = 64 * 2**20
"""Bytes of the largest text that is read; the largest real one, a tokenizer, has about 20 MB."""
STEMS = ("diffusion_pytorch_model", "model")


@dataclass(frozen=True)
class Index:
    """What ``model_index.json`` says.

    Attributes:
        folder: where it lies.
        pipeline: the name of the pipeline's class, such as ``StableDiffusionPipeline``.
        parts: part -> (library, class) for every part that the model has; parts it lacks are left out.
        settings: everything else, such as ``force_zeros_for_empty_prompt``.
    """

    folder: Path
    pipeline: str
    parts: Mapping[str, tuple[str, str]]
    settings: Mapping[str, Any]


def read_index(folder: str | os.PathLike[str]) -> Index:
    """Read ``model_index.json``.

    Raises:
        WeightsError: no such folder or file. ConfigError: it is not an index.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise WeightsError(f"{folder}: no such folder; a model is a folder with a model_index.json")
    raw = read_json(folder / "model_index.json")
    name = raw.get("_class_name")
    if not isinstance(name, str):
        raise ConfigError(f"{folder / 'model_index.json'}: names no pipeline (_class_name)")
    parts: dict[str, tuple[str, str]] = {}
    settings: dict[str, Any] = {}
    for key, value in raw.items():
        if isinstance(value, list) and len(value) == 2 and all(v is None or isinstance(v, str) for v in value):
            if value[0] is not None and value[1] is not None:
                parts[_plain(key, folder)] = (value[0], value[1])
        elif not key.startswith("_"):
            settings[key] = value
    return Index(folder, name, parts, settings)


def read_json(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a JSON file that holds a table.

    Raises:
        WeightsError: it is missing, unreadable, or larger than 64 MiB. ConfigError: it is not JSON, or not a table.
    """
    text = read_text(path)
    try:
        raw = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: is not valid JSON ({error})") from error
    if not isinstance(raw, dict):
        raise ConfigError(f"{path}: is not a table of settings")
    return raw


def typed(text: str) -> Path:
    """A path as a person types it, with ``~`` for a home.

    Raises:
        FileError: it cannot be one: too long, or the home of nobody.
    """
    try:
        path = Path(text).expanduser()
        path.exists()
    except (OSError, RuntimeError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise FileError(f"{text[:80]}: cannot be a file's name ({why}); choose another") from None
    return path


def read_text(path: str | os.PathLike[str]) -> str:
    """Read a text file of a model.

    Raises:
        WeightsError: it is missing, unreadable, or larger than 64 MiB. ConfigError: it is not UTF-8.
    """
    path = Path(path)
    try:
        if path.stat().st_size > MAX_TEXT:
            raise WeightsError(f"{path}: larger than {MAX_TEXT} bytes; that is no configuration")
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror or error}); is the model complete?") from error
    except ValueError as error:
        raise ConfigError(f"{path}: is not text in UTF-8 ({error})") from error


def weight_files(folder: str | os.PathLike[str]) -> list[Path]:
    """The safetensors files of one part: a single file, or the shards that an index names, sorted.

    The full-precision file is taken where there are several; an ``fp16`` one where it is the only one.

    Raises:
        WeightsError: there is none (and what to do if there are pickles), or a shard is missing.
    """
    folder = Path(folder)
    for variant in ("", ".fp16"):
        for stem in STEMS:
            single = folder / f"{stem}{variant}.safetensors"
            if single.is_file():
                return [single]
            for index in (f"{stem}.safetensors.index{variant}.json", f"{stem}{variant}.safetensors.index.json"):
                if (folder / index).is_file():
                    return _shards(folder / index)
    pickles = sorted(p for p in folder.glob("*") if p.suffix in PICKLES) if folder.is_dir() else []
    if pickles:
        raise pickle_error(pickles[0])
    raise WeightsError(f"{folder}: holds no {STEMS[0]}.safetensors or {STEMS[1]}.safetensors; is the model complete?")


def _shards(index: Path) -> list[Path]:
    places = read_json(index).get("weight_map")
    if not isinstance(places, dict) or not places or any(not isinstance(v, str) for v in places.values()):
        raise ConfigError(f"{index}: names no shards (weight_map)")
    files = [index.parent / _plain(name, index) for name in sorted(set(places.values()))]
    for file in files:
        if not file.is_file():
            raise WeightsError(f"{file}: this shard is missing; download it again")
    return files


def _plain(name: str, where: Path) -> str:
    """A name inside a folder, never a way out of it."""
    if name != Path(name).name or name in ("", ".", "..") or "\\" in name:
        raise ConfigError(f"{where}: {name!r} is not a plain name")
    return name
