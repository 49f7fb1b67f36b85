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
PACKAGE = Path(__file__).resolve().parents[1]
MOST_FILES = 10_000
DEEPEST = 4
"""Folders in folders that are looked at for links; a model's weights lie in the first."""
STEMS = ("diffusion_pytorch_model", "model")


@dataclass(frozen=True)
class Index:
    """What ``model_index.json`` says.

    Attributes:
        folder: where it lies.
        pipeline: the name of the pipeline's class, such as ``StableDiffusionPipeline``.
        parts: part -> (library, class) for every part that the model has; parts it lacks are left out.
        settings: everything else, such as ``force_zeros_for_empty_prompt``.
        variant: which weights are meant where a part has several, such as ``fp16``; empty for the usual choice.
        pickles: whether files of torch.save may be read.
        tokenizers: where to look for the vocabulary of a model that is a single file.
    """

    folder: Path
    pipeline: str
    parts: Mapping[str, tuple[str, str]]
    settings: Mapping[str, Any]
    variant: str = ""
    pickles: bool = False
    tokenizers: tuple[Path, ...] = ()


def read_index(folder: str | os.PathLike[str], variant: str = "", *, pickles: bool = False) -> Index:
    """Read ``model_index.json``.

    Raises:
        WeightsError: no such folder or file, or a link in it leads elsewhere. ConfigError: it is not an index.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise WeightsError(f"{folder}: no such folder; a model is a folder with a model_index.json")
    if PACKAGE not in folder.absolute().parents:  # some installers make every file of a package a link
        check_links(folder)
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
    return Index(folder, name, parts, settings, variant, pickles)


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


def check_links(folder: Path) -> None:
    """Look at every link in a model's folder and the folders of its parts: none may lead out of it.

    A hub's cache is a folder of links into ``blobs`` beside it, so there the model's whole ``models--org--name`` counts
    as its folder.

    Raises:
        WeightsError: a link leads elsewhere, or there are more files than any model has.
    """
    real = folder.resolve()
    root = next((up.parent for up in (real, *real.parents) if _is_snapshots(up)), real)
    seen = 0
    for place, folders, files in os.walk(real):
        if len(Path(place).relative_to(real).parts) >= DEEPEST:
            folders.clear()
        for name in (*folders, *files):
            path = Path(place, name)
            seen += 1
            if path.is_symlink() and not path.resolve().is_relative_to(root):
                raise WeightsError(f"{path}: is a link that leads out of the model's folder; copy the file instead")
            if seen > MOST_FILES:
                raise WeightsError(f"{folder}: has more than {MOST_FILES} files; is it the folder of one model?")


def _is_snapshots(place: Path) -> bool:
    return place.name == "snapshots" and place.parent.name.startswith("models--")


def weight_files(folder: str | os.PathLike[str], variant: str = "", *, pickles: bool = False) -> list[Path]:
    """The files of weights of one part: a single file, or the shards that an index names, sorted.

    The full-precision file is taken where there are several; an ``fp16`` one where it is the only one. Shards of two
    variants are never mixed: they are those of one index.

    Args:
        variant: the only one that is wanted, such as ``fp16``.
        pickles: whether files of torch.save will do where there is nothing else.

    Raises:
        WeightsError: there is none (and what to do if there are pickles), or a shard is missing.
        ConfigError: an index is damaged, or names files of several variants.
    """
    folder = Path(folder)
    if variant != Path(variant).name or variant.startswith("."):
        raise ConfigError(f"{variant!r} cannot be a variant; it is a word such as fp16")
    kinds = ["safetensors", *(["bin", "pt", "ckpt"] if pickles else [])]
    for kind in kinds:
        for middle in [f".{variant}"] if variant else ["", ".fp16"]:
            for stem in STEMS if kind == "safetensors" else (*STEMS, "pytorch_model"):
                single = folder / f"{stem}{middle}.{kind}"
                if single.is_file():
                    return [single]
                for index in (f"{stem}.{kind}.index{middle}.json", f"{stem}{middle}.{kind}.index.json"):
                    if (folder / index).is_file():
                        return _shards(folder / index, middle)
    found = sorted(p for p in folder.glob("*") if p.suffix in PICKLES) if folder.is_dir() else []
    if found and not variant and not pickles:
        raise pickle_error(found[0])
    wanted = f" of the variant {variant}" if variant else ""
    raise WeightsError(
        f"{folder}: holds no {STEMS[0]}.safetensors or {STEMS[1]}.safetensors{wanted}; is the model complete?"
    )


def _shards(index: Path, middle: str) -> list[Path]:
    places = read_json(index).get("weight_map")
    if not isinstance(places, dict) or not places or any(not isinstance(v, str) for v in places.values()):
        raise ConfigError(f"{index}: names no shards (weight_map)")
    names = sorted({_plain(name, index) for name in places.values()})
    if len(names) > MOST_FILES:
        raise ConfigError(f"{index}: names {len(names)} shards; at most {MOST_FILES} are read")
    variants = {_variant(name) for name in names}
    if len(variants) > 1 or variants - {"", middle.removeprefix(".")}:
        raise ConfigError(f"{index}: names files of several variants ({', '.join(sorted(variants))}); they never mix")
    files = [index.parent / name for name in names]
    for file in files:
        if not file.is_file():
            raise WeightsError(f"{file}: this shard is missing; download it again")
    return files


def _variant(shard: str) -> str:
    """The variant in a shard's name: ``model.fp16-00001-of-00002.safetensors`` or ``model-00001-of-00002.fp16.…``."""
    words = shard.split(".")[1:-1]
    return words[0].split("-")[0] if words else ""


def _plain(name: str, where: Path) -> str:
    """A name inside a folder, never a way out of it."""
    if name != Path(name).name or name in ("", ".", "..") or "\\" in name:
        raise ConfigError(f"{where}: {name!r} is not a plain name")
    return name
