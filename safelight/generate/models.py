"""Which models there are and how one is loaded: by the name of one that came with the program, or by its folder."""

from __future__ import annotations

from pathlib import Path

import torch

from safelight.errors import ConfigError, UnknownNameError, WeightsError
from safelight.families.family import Family, Model
from safelight.families.sd.wiring import SD
from safelight.runtime.device import Place, folders
from safelight.weights.folder import read_index, typed

DEFAULT = "figurines"
FAMILIES: tuple[Family, ...] = (SD,)


def shipped() -> dict[str, Path]:
    """The models that came with the program: name -> folder."""
    return {place.parent.name: place.parent for place in sorted(folders().assets.glob("*/model_index.json"))}


def locate(name: str) -> Path:
    """The folder of a model given by name or path.

    Raises:
        UnknownNameError: it is neither. WeightsError: it is a file. FileError: it cannot be a path.
    """
    known = shipped()
    if name in known:
        return known[name]
    place = typed(name)
    if place.is_dir():
        return place
    if place.exists():
        raise WeightsError(f"{place}: is a file; a model is a folder with a model_index.json")
    raise UnknownNameError("model (neither a folder nor one that came with safelight)", name, known)


def load_model(folder: Path, place: Place) -> Model:
    """Load a model's folder and put it where it will compute.

    Raises:
        WeightsError, ConfigError: something in the folder is missing, damaged, or of an unknown kind.
    """
    index = read_index(folder)
    for family in FAMILIES:
        if family.reads(index):
            model = family.load(index)
            for module in (model.network, *model.encoders, model.vae):
                module.to(place.device, place.dtype).requires_grad_(False)
            if place.dtype == torch.float16 and model.vae.config.force_upcast:  # it says that it overflows there
                model.vae.float()
            return model
    known = ", ".join(sorted(name for family in FAMILIES for name in family.pipelines))
    raise ConfigError(f"{folder}: a {index.pipeline} is not known; known are {known}")
