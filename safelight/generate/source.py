"""Where the files of a model or an adapter are: by its name here, on a shelf or on the hub, or its path; no torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from safelight.errors import RequestError, UnknownNameError
from safelight.runtime.folders import folders, offline
from safelight.weights.folder import typed
from safelight.weights.hub import HubName, cached, fetch, hub_name
from safelight.weights.shelf import model_folders, shelved

DEFAULT = "figurines"
DRAWS = ("checkpoint", "diffusion model")
"""What of other programs' folders can draw."""
ADAPTERS = ("lora", "embedding", "controlnet", "ip-adapter")
"""Kinds of what is laid over a model or beside it."""


@dataclass(frozen=True)
class Source:
    """How a model's files are taken where there is a choice.

    Attributes:
        variant: of a folder's weights, such as ``fp16``; empty for the usual choice.
        pickles: whether files of torch.save may be read.
        tokenizer: the folder of the vocabulary for a model that is a single file; None looks beside it.
        download: whether a model of the hub may be fetched.
    """

    variant: str = ""
    pickles: bool = False
    tokenizer: Path | None = None
    download: bool = False


USUAL = Source()


def shipped() -> dict[str, Path]:
    """The models that came with the program: name -> folder."""
    return {place.parent.name: place.parent for place in sorted(folders().assets.glob("*/model_index.json"))}


def viewers() -> dict[str, Path]:
    """The models of views that came with the program: name -> folder."""
    rooms = (place.parent.parent for place in sorted(folders().assets.glob("*/unet/config.json")))
    return {room.name: room for room in rooms if not (room / "model_index.json").exists()}


def adapters(kind: str) -> dict[str, Path]:
    """The adapters of a kind, one of `ADAPTERS`, that came with the program: name -> file or folder."""
    room = folders().assets / "adapters" / kind
    return {place.stem: place for place in sorted(room.iterdir())} if room.is_dir() else {}


def on_shelves() -> dict[str, Path]:
    """The checkpoints in other programs' folders that ``config.toml`` names: name -> file; of equal names the first."""
    found: dict[str, Path] = {}
    for folder in model_folders(folders().config):
        for each in shelved(folder):
            if each.kind in DRAWS:
                found.setdefault(each.name, each.path)
    return found


def locate(name: str, source: Source = USUAL) -> Path:
    """The folder or the file of a model.

    Args:
        name: of one that came with the program or stands on a shelf, a path, or ``org/name[@revision][:folder]``.

    Raises:
        UnknownNameError: it is none of them. FileError: it cannot be a path, or the hub does not give it.
        RequestError: it is on the hub, but not in the cache, and nothing may be fetched.
    """
    known_here = shipped()
    if name in known_here:
        return known_here[name]
    place = typed(name)
    if place.exists():
        return place
    shelves = on_shelves()
    if name in shelves:
        return shelves[name]
    wanted = hub_name(name)
    if wanted is None:
        what = "model (neither a folder, a file, nor one that came with safelight)"
        raise UnknownNameError(what, name, {**known_here, **shelves})
    return on_hub(wanted, source)


def label(model: str, place: Path) -> str:
    """What a recipe calls a model: where it lies is nobody's business."""
    if model in shipped():
        return model
    if place.is_file():
        return place.stem
    wanted = None if typed(model).exists() else hub_name(model)
    return str(wanted) if wanted else place.resolve().name


def on_hub(wanted: HubName, source: Source) -> Path:
    """Where the hub's cache keeps what is wanted; fetched before, where the source allows it.

    Raises:
        RequestError: it is not there, and nothing may be fetched. FileError: the hub does not give it.
    """
    hub = folders().hub
    if source.download:
        return fetch(hub, wanted, offline=offline())
    place = cached(hub, wanted)
    if place is None:
        raise RequestError(f"{wanted}: no such folder, and not in the hub's cache ({hub}); --download fetches it")
    return place
