"""Where adapters are found, and how a file becomes one: by what is in it, never by what it is called."""

from __future__ import annotations

from pathlib import Path

from safelight.adapters.controlnet.checkpoints import open_control
from safelight.adapters.controlnet.model import ControlNet
from safelight.adapters.ip_adapter.file import IpAdapter, load_ip_adapter
from safelight.adapters.loaded import Loaded
from safelight.adapters.lora.file import load as load_lora
from safelight.adapters.lora.wear import WearableLora
from safelight.adapters.t2i.checkpoints import is_t2i, open_t2i
from safelight.adapters.t2i.model import T2IAdapter
from safelight.adapters.textual_inversion import Embedding, load_embedding
from safelight.errors import UnknownNameError
from safelight.families.family import Model
from safelight.generate.source import USUAL, Source, adapters, on_hub
from safelight.runtime.folders import folders
from safelight.weights.folder import typed
from safelight.weights.hub import hub_name
from safelight.weights.shelf import model_folders, shelved


def on_shelves(kind: str) -> dict[str, Path]:
    """The adapters of a kind in other programs' folders that ``config.toml`` names; of equal names the first."""
    found: dict[str, Path] = {}
    for folder in model_folders(folders().config):
        for each in shelved(folder):
            if each.kind == kind:
                found.setdefault(each.name, each.path)
    return found


def locate(kind: str, name: str, source: Source = USUAL) -> Path:
    """The file or folder of an adapter.

    Args:
        kind: one of `safelight.generate.source.ADAPTERS`.
        name: of one that came with the program or stands on a shelf, a path, or ``org/name[@revision][:folder]``.

    Raises:
        UnknownNameError: it is none of them. RequestError: it is on the hub, and nothing may be fetched.
    """
    known = adapters(kind)
    if name in known:
        return known[name]
    place = typed(name)
    if place.exists():
        return place
    shelves = on_shelves(kind)
    if name in shelves:
        return shelves[name]
    if wanted := hub_name(name):
        return on_hub(wanted, source)
    raise UnknownNameError(f"{kind} (neither a file, a folder, nor on a shelf)", name, {**known, **shelves})


def lora(name: str, source: Source = USUAL) -> WearableLora:
    """A LoRA or one of its kin, by name or file.

    Raises:
        WeightsError: it is none, or damaged. The others: see `locate`.
    """
    return WearableLora(load_lora(locate("lora", name, source), pickles=source.pickles))


def embedding(name: str, word: str = "", source: Source = USUAL) -> Embedding:
    """A learned word (textual inversion), by name or file.

    Args:
        word: what it is called in prompts; empty for the name that is in the file, or that of the file.

    Raises:
        WeightsError: it is none, or damaged. RequestError: the word cannot be one. The others: see `locate`.
    """
    return load_embedding(locate("embedding", name, source), word, pickles=source.pickles)


def control(name: str, model: Model, source: Source = USUAL) -> Loaded[ControlNet]:
    """A ControlNet for a model, of any kind, by name, folder or file.

    Raises:
        RequestError: it was made for another model. WeightsError, ConfigError: it is none, or damaged.
        The others: see `locate`.
    """
    return open_control(locate("controlnet", name, source), model, pickles=source.pickles)


def guide(name: str, model: Model, source: Source = USUAL) -> Loaded[ControlNet] | Loaded[T2IAdapter]:
    """What is shown a hint: a ControlNet, or a T2I-Adapter, which lie in the same places.

    Raises:
        see `control`.
    """
    place = locate("controlnet", name, source)
    if is_t2i(place, pickles=source.pickles):
        return open_t2i(place, model, pickles=source.pickles)
    return open_control(place, model, pickles=source.pickles)


def image_adapter(name: str, model: Model, encoder: str | None = None, source: Source = USUAL) -> IpAdapter:
    """An IP-Adapter for a model, by name or file.

    Args:
        encoder: folder or file of its image encoder; None looks beside it.

    Raises:
        WeightsError: it is none, is for another model, or has no encoder. The others: see `locate`.
    """
    place = locate("ip-adapter", name, source)
    found = sorted(place.glob("*.safetensors")) if place.is_dir() else [place]
    return load_ip_adapter(
        found[0] if len(found) == 1 else place,
        model,
        encoder=None if encoder is None else typed(encoder),
        pickles=source.pickles,
    )
