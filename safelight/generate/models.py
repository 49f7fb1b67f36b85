"""Which families there are and how a model is loaded from its folder or its one file."""

from __future__ import annotations

from pathlib import Path

import torch

from safelight.encoders.tokenizer import ClipTokenizer
from safelight.errors import ConfigError, RequestError, WeightsError
from safelight.families.cascade.wiring import CASCADE
from safelight.families.family import Family, Model
from safelight.families.sd.enlarging import ENLARGING
from safelight.families.sd.varying import VARYING
from safelight.families.sd.wiring import SD
from safelight.generate.source import USUAL, Source
from safelight.runtime.device import Place
from safelight.runtime.folders import folders
from safelight.vae.checkpoints import load_tiny
from safelight.vae.tiny import AutoencoderTiny
from safelight.weights.container import read_any
from safelight.weights.detect import known
from safelight.weights.folder import Index, read_index, typed
from safelight.weights.hub import cached, hub_name
from safelight.weights.variants import tables_of

FAMILIES: tuple[Family, ...] = (SD, ENLARGING, VARYING, CASCADE)
PREVIEW = "preview_vae"
"""The folder of a tiny autoencoder in a model's folder."""


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
