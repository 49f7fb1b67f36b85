"""Say what a released folder holds, part by part, from headers and configurations alone; no torch, no network.

A folder is looked at as it would be loaded (`safelight.weights.folder`), but what is missing, strange or left over is
told, not refused; only what cannot be read at all is an error.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from safelight.errors import FileError, WeightsError
from safelight.weights.container import SUFFIXES, read_any
from safelight.weights.detect import Component, Found, compared, detect, nearest
from safelight.weights.folder import DEEPEST, Index, check_links, read_index, read_json, weight_files
from safelight.weights.header import Entry, Header
from safelight.weights.variants import Tables, Variant, tables

INDEX, CONFIG = "model_index.json", "config.json"
CONFIGS = (CONFIG, "scheduler_config.json", "tokenizer_config.json", "preprocessor_config.json")
WITHOUT = ("tokenizer", "scheduler", "feature_extractor")
"""Words in the names of parts that have no weights."""
UNREAD = ("safety_checker", "feature_extractor", "image_encoder")
"""Parts that no prompt needs; they are told and never loaded."""
NETWORKS = ("unet", "prior", "decoder")
"""The parts that tell which model a folder is."""
NAMED = ("diffusion_pytorch_model", "model", "pytorch_model")
"""How the weights of a part are called; files of other names beside a configuration stand for themselves."""
FILES = 64
"""Files of a folder without an index that are looked into."""


@dataclass(frozen=True)
class Piece:
    """One part's folder.

    Attributes:
        name: as ``model_index.json`` has it. kind: the class of its configuration.
        files: of its weights, as they would be taken. found: what they are; None for parts without weights.
        component: the part beside the stored header of the folder's variant.
        says: of a scheduler, what the network predicts.
        trouble: what keeps it from being loaded, in words; empty where nothing does.
    """

    name: str
    kind: str
    files: tuple[Path, ...] = ()
    found: Found | None = None
    component: Component | None = None
    says: str = ""
    trouble: str = ""


@dataclass(frozen=True)
class Survey:
    """What a released folder is.

    Attributes:
        folder: where it lies. index: what ``model_index.json`` says.
        family, variant, title, task: as in `safelight.weights.detect.Found`.
        pieces: in the order of the index. lacking: parts of such a model that the index does not name.
        beside: files of weights that are not taken, such as those of another variant; folders that the index lacks.
        bytes: of all files of weights that are taken.
        presets, reader: as in `safelight.weights.detect.Found`.
    """

    folder: Path
    index: Index
    family: str
    variant: str
    title: str
    task: str
    pieces: tuple[Piece, ...]
    lacking: tuple[str, ...]
    beside: tuple[str, ...]
    bytes: int
    presets: tuple[str, ...] = ()
    reader: str = ""

    @property
    def dtypes(self) -> dict[str, int]:
        """Numbers of each format in all parts."""
        total: Counter[str] = Counter()
        for piece in self.pieces:
            total.update(piece.found.dtypes if piece.found else {})
        return dict(total.most_common())


def survey(folder: Path, variant: str = "", *, pickles: bool = False) -> Survey:
    """Look at a folder with a ``model_index.json``.

    Args:
        variant, pickles: see `safelight.weights.folder.weight_files`.

    Raises:
        WeightsError: a file of weights is damaged or hostile, or a link leads out of the folder.
        ConfigError: the index or a configuration is damaged.
    """
    index = read_index(folder, variant, pickles=pickles)
    pieces = [_piece(index, name) for name in index.parts]
    networks = [each.found for each in pieces if each.found and any(map(each.found.component, NETWORKS))]
    network = networks[0] if networks else None
    family, kind = _kind(network, index.pipeline)
    if family and kind:
        pieces = [_beside(family, kind, piece) for piece in pieces]
    expected = [part for part in kind.expected if part != "controlnet"] if kind else []
    taken = {file for piece in pieces for file in piece.files}
    return Survey(
        folder=folder,
        index=index,
        family=network.family if network else "",
        variant=kind.name if kind else "",
        title=kind.title if kind else network.title if network and network.title else index.pipeline,
        task=(kind.task if kind else "") or (network.task if network else ""),
        pieces=tuple(pieces),
        lacking=tuple(dict.fromkeys(name for name in expected if name not in index.parts)),
        beside=tuple(_others(folder, index, taken)),
        bytes=sum(file.stat().st_size for file in taken),
        presets=kind.presets if kind else (),
        reader=kind.reader if kind else "",
    )


def loose(folder: Path, variant: str = "", *, pickles: bool = False) -> Iterator[tuple[tuple[Path, ...], str, Header]]:
    """What lies in a folder without an index: the files of each part in it, the class of its configuration, its header.

    A folder with a ``config.json`` is one part, such as a ControlNet; any other file of weights stands for itself, as
    adapters do.

    Raises:
        WeightsError: there is nothing, a file is damaged or hostile, or a link leads out of the folder.
        ConfigError: a configuration is damaged.
    """
    check_links(folder)
    count = 0
    for place, below, names in os.walk(folder):
        here = Path(place)
        below.sort()
        if len(here.relative_to(folder).parts) >= DEEPEST:
            below.clear()
        there = sorted(here / name for name in names if _is_weights(Path(name), pickles=pickles))
        if not there or count >= FILES:
            continue
        kind = _class(here)
        groups: list[tuple[Path, ...]] = [(file,) for file in there]
        if kind and any(file.stem.partition(".")[0].partition("-")[0] in NAMED for file in there):
            groups = [tuple(weight_files(here, variant, pickles=pickles))]
        for files in groups[: FILES - count]:
            count += 1
            yield files, kind, together(files, pickles=pickles)
    if not count:
        raise WeightsError(f"{folder}: holds neither a {INDEX} nor files of weights; name a model's folder or a file")


def together(files: Iterable[Path], *, pickles: bool = False) -> Header:
    """The headers of one or more shards as one; where a tensor lies means nothing in it.

    Raises:
        WeightsError: a file is damaged or hostile, or two hold the same tensor.
    """
    entries: dict[str, Entry] = {}
    metadata: dict[str, str] = {}
    size, container = 0, ""
    for file in files:
        header = read_any(file, pickles=pickles)
        if twice := next((name for name in header.entries if name in entries), None):
            raise WeightsError(f"{file}: tensor {twice!r} is in another shard too; remove one of the two files")
        entries |= header.entries
        metadata |= header.metadata
        size, container = size + header.size, header.container
    return Header(entries, metadata, size, container)


def _piece(index: Index, name: str) -> Piece:
    """What lies in a part's folder, compared with nothing yet."""
    place, (_, kind) = index.folder / name, index.parts[name]
    if not place.is_dir():
        return Piece(name, kind, trouble="its folder is missing")
    kind = _class(place) or kind
    if any(word in name for word in WITHOUT):
        lacks = not any((place / config).is_file() for config in CONFIGS) and not any(place.glob("*.*"))
        plan = place / "scheduler_config.json"
        says = str(read_json(plan).get("prediction_type", "epsilon")) if plan.is_file() else ""
        return Piece(name, kind, says=says, trouble="its folder is empty" if lacks else "")
    try:
        files = tuple(weight_files(place, index.variant, pickles=index.pickles))
    except WeightsError as error:
        return Piece(name, kind, trouble=str(error).removeprefix(f"{place}: "))
    found = detect(together(files, pickles=index.pickles))
    trouble = "" if (place / CONFIG).is_file() else f"its {CONFIG} is missing"
    return Piece(name, kind, files, found, _component(found), trouble=trouble)


def _beside(family: Tables, variant: Variant, piece: Piece) -> Piece:
    """The piece beside the stored header of its variant; says where its weights are another part's."""
    part = piece.component
    if part is None or piece.name in UNREAD or piece.name not in variant.expected:
        return piece
    if part.part != piece.name.removesuffix("_2"):
        return replace(piece, trouble=piece.trouble or f"its weights are those of a {part.part}")
    if piece.found and piece.found.layout == "ldm" and not variant.presets:  # whose reader takes either names
        return replace(piece, trouble=piece.trouble or "its tensors are named as in a single file")
    return replace(piece, component=compared(family, variant, replace(part, part=piece.name)))


def _component(found: Found) -> Component | None:
    return found.components[0] if len(found.components) == 1 else None


def _kind(network: Found | None, pipeline: str) -> tuple[Tables | None, Variant | None]:
    for family in tables():
        if network and network.variant and family.name == network.family:
            kind, unet = family.variant(network.variant), network.component("unet")
            return family, nearest(family, kind, unet, pipeline) if unet and unet.full else kind
    return None, None


def _class(place: Path) -> str:
    """The class that a part's configuration names; empty where there is none."""
    for name in CONFIGS:
        if (place / name).is_file():
            raw: Mapping[str, Any] = read_json(place / name)
            said = raw.get("_class_name", raw.get("architectures", raw.get("tokenizer_class")))
            said = said[0] if isinstance(said, list) and said else said
            if isinstance(said, str) and said:
                return said
    return ""


def _others(folder: Path, index: Index, taken: set[Path]) -> Iterator[str]:
    """Files of weights below a folder that are not taken, and folders that the index does not name."""
    try:
        for place in sorted(folder.iterdir()):
            if place.is_dir() and place.name in index.parts:
                for file in sorted(place.iterdir()):
                    if file not in taken and _is_weights(file, pickles=True):
                        yield f"{place.name}/{file.name}"
            elif place.is_dir() and not place.name.startswith("."):
                yield f"{place.name}/"
            elif _is_weights(place, pickles=True):
                yield place.name
    except OSError as error:
        raise FileError(f"{folder}: cannot be read ({error.strerror or error}); check its rights") from None


def _is_weights(file: Path, *, pickles: bool) -> bool:
    return file.suffix.lower() in (SUFFIXES if pickles else (".safetensors", ".sft", ".gguf"))
