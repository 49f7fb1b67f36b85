"""Which models there are and how one is loaded: by name, by its folder, by its one file, or by its name on the hub."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from safelight.encoders.tokenizer import ClipTokenizer
from safelight.errors import ConfigError, RequestError, UnknownNameError, WeightsError
from safelight.families.cascade.wiring import CASCADE
from safelight.families.family import Family, Model
from safelight.families.sd.enlarging import ENLARGING
from safelight.families.sd.wiring import SD
from safelight.runtime.device import Place, folders, offline
from safelight.vae.checkpoints import load_tiny
from safelight.vae.tiny import AutoencoderTiny
from safelight.weights.container import read_any
from safelight.weights.detect import known
from safelight.weights.folder import Index, read_index, typed
from safelight.weights.hub import HubName, cached, fetch, hub_name
from safelight.weights.shelf import model_folders, shelved
from safelight.weights.variants import tables_of

DEFAULT = "figurines"
FAMILIES: tuple[Family, ...] = (SD, ENLARGING, CASCADE)
PREVIEW = "preview_vae"
"""The folder of a tiny autoencoder in a model's folder."""
DRAWS = ("checkpoint", "diffusion model")
"""What of other programs' folders can draw."""


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


def load_model(path: Path, place: Place, source: Source = USUAL) -> Model:
    """Load a model's folder or file and put it where it will compute.

    Raises:
        WeightsError, ConfigError: something in it is missing, damaged, or of an unknown kind.
        RequestError: ``source`` asks for a choice that there is not.
    """
    index = index_of(path, source)
    model = family_of(index).load(index)
    for module in model.modules:
        module.to(place.device, place.dtype).requires_grad_(False)
    if place.dtype == torch.float16 and model.vae.config.force_upcast:  # it says that it overflows there
        model.vae.float()
    return model


def load_preview(folder: Path, model: Model, place: Place, named: str | None) -> AutoencoderTiny | None:
    """The tiny autoencoder for previews of a model, in a folder of its own or in the model's.

    Raises:
        WeightsError, ConfigError: there is none, it is damaged, or of other latents.
    """
    beside = folder / PREVIEW
    if named is None and not beside.is_dir():
        return None
    where = beside if named is None else typed(named)
    tiny = load_tiny(where)
    mine, other = (model.latent.channels, model.latent.stride), (tiny.config.latent_channels, tiny.config.stride)
    if mine != other:
        raise ConfigError(
            f"{where}: is for latents of {other[0]} channels, {other[1]} pixels wide, and this model's have {mine[0]}, "
            f"{mine[1]}; name another"
        )
    return tiny.to(place.device, place.dtype).requires_grad_(False)


def load_tokenizers(path: Path, source: Source = USUAL) -> dict[str, ClipTokenizer]:
    """The tokenizer of each text encoder of a model, by the encoder's name; no network is loaded.

    Raises:
        WeightsError, ConfigError: something in it is missing, damaged, or of an unknown kind.
        RequestError: its prompts are not laid out in chunks, or ``source`` asks for a choice that there is not.
    """
    index = index_of(path, source)
    family = family_of(index)
    if family.tokenizers is None:
        raise RequestError(f"{path}: prompts of the family {family.name} are not read in chunks; nothing can be told")
    return dict(family.tokenizers(index))


def family_of(index: Index) -> Family:
    """The family that reads what this index is of; ConfigError where none does."""
    for family in FAMILIES:
        if family.reads(index):
            return family
    names = ", ".join(sorted(name for family in FAMILIES for name in family.pipelines))
    raise ConfigError(f"{index.folder}: a {index.pipeline} is not known; known are {names}")


def index_of(path: Path, source: Source = USUAL) -> Index:
    """What a model's folder says of itself, or what its one file is, by the family that knows it.

    Raises:
        WeightsError: no family does, it is only a part of a model, or it is unreadable. ConfigError: it is damaged.
        RequestError: a variant of a single file, or a tokenizer for a folder, is asked for.
    """
    if not path.is_file():
        return _folder(path, source)
    if source.variant:
        raise RequestError(f"{path} is one file and has no variants; leave out --variant {source.variant}")
    found, _ = known(read_any(path, pickles=source.pickles), path)
    for family in FAMILIES:
        if family.name == found.family and family.open_file is not None:
            return family.open_file(path, source.pickles, vocabularies(path, source, found.family))
    raise WeightsError(f"{path}: {found.title} is known, but not from a single file; use its released folder")


def vocabularies(path: Path, source: Source, family: str) -> tuple[Path, ...]:
    """Where the vocabulary of a single file may lie: where the user says; else beside it, in the ComfyUI around it, in
    the hub's cache, or CLIP's own, which came with the program.

    Raises:
        RequestError: the folder that the user names is none.
    """
    if source.tokenizer is not None:
        if not source.tokenizer.is_dir():
            raise RequestError(f"--tokenizer {source.tokenizer}: no such folder")
        return (source.tokenizer,)
    hub = folders().hub
    names = [hub_name(name) for name in tables_of(family).vocabularies]
    fetched = [place for name in names if name and (place := cached(hub, name))]
    comfy = [up / "comfy" / "sd1_tokenizer" for up in path.resolve().parents]
    beside = (path.with_suffix(""), path.parent, *(place for place in comfy if place.is_dir()))
    return (*beside, *fetched, folders().assets / "clip")


def _folder(path: Path, source: Source) -> Index:
    if source.tokenizer is not None:
        raise RequestError(f"{path} is a folder and has its own tokenizer; leave out --tokenizer")
    return read_index(path, source.variant, pickles=source.pickles)


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
