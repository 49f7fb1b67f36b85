"""A model of views, loaded: the network of a preset with its autoencoder, its encoders and its schedule.

The folder is a released one (``unet``, ``vae``, ``scheduler``, and what reads a text or a picture); ``safelight.json``
there names its preset, or whoever loads it does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from torch import Tensor, nn

from safelight.core.path import Level
from safelight.errors import ConfigError, RequestError, WeightsError
from safelight.families.sd import scheduler
from safelight.families.sd.model import UNet
from safelight.families.sd.parts import load_kl
from safelight.families.sd.scheduler import Plan
from safelight.multiview.answer import Predict
from safelight.multiview.checkpoints import load_views
from safelight.multiview.encode import ENCODERS
from safelight.multiview.layouts import layout
from safelight.multiview.network import ViewNetwork
from safelight.multiview.presets import Preset, preset, varied
from safelight.multiview.readers import Readers, load_readers
from safelight.multiview.zero123 import files as zero123
from safelight.multiview.zero123.model import Zero123
from safelight.multiview.zero123plus import files as zero123plus
from safelight.multiview.zero123plus.model import Remembering, Zero123Plus
from safelight.runtime.device import Place
from safelight.vae.kl import AutoencoderKL
from safelight.vae.latent import LatentSpec
from safelight.weights.folder import PACKAGE, check_links, read_json, weight_files
from safelight.weights.sound import unsound

NOTES = "safelight.json"
NEEDS: Final = {"": "", "reference": "token", "domain": "projection"}
"""What an encoder of cameras may need beside them -> how the picture is told where that is known."""


def begun_with(noise: Tensor, levels: list[Level]) -> Tensor:
    """Noise at the first level: where a path begins with pure noise, the noise itself."""
    return levels[0].sigma * noise


@dataclass(frozen=True)
class ViewModel:
    """What one loaded model of views answers.

    Attributes:
        name: of its folder. preset: what it is told and shown.
        network: of the views. vae: the autoencoder. latent: shape and scale of latents.
        path, prediction, levels: of its ``scheduler_config.json``; n -> the n + 1 levels that it visits.
        sampler, options: row of SAMPLERS, and what the released schedule changes in it.
        files: every file that was read, below ``folder``.
        start: unit noise and the levels to visit -> the state in which a run begins.
        readers: of prompts and portraits.
        own: the whole of a model that tells its network a picture in a way of its own; None for the others.
    """

    name: str
    folder: Path
    preset: Preset
    network: nn.Module
    vae: AutoencoderKL
    latent: LatentSpec
    path: Any
    prediction: str
    levels: Callable[[int], list[Level]]
    sampler: str
    options: dict[str, float | str]
    files: tuple[Path, ...] = ()
    start: Callable[[Tensor, list[Level]], Tensor] = begun_with
    readers: Readers = field(default_factory=Readers)
    own: Zero123 | Zero123Plus | None = None

    @property
    def modules(self) -> tuple[nn.Module, ...]:
        """Every network."""
        return (self.network, self.vae, *(self.own.modules if self.own else self.readers.modules))

    @property
    def shape(self) -> tuple[int, int, int]:
        """(Z, h, w) of the latents of one view."""
        return self.latent.shape(self.preset.size, self.preset.size)

    @property
    def width(self) -> int:
        """X of what the U-Net reads where a text stands."""
        unet = self.network.unet if isinstance(self.network, ViewNetwork) else self.network
        assert isinstance(unet, UNet)
        return unet.config.cross_attention_dim

    def predict(self) -> Predict:
        """What answers for one run."""
        return Remembering(self.own) if isinstance(self.own, Zero123Plus) else self.network

    def decode(self, x: Tensor) -> Iterator[Tensor]:
        """The views of [1, Z, V, h, w], one after the other, so that memory is that of one: [1, 3, H, W] each, in about
        [-1, 1]; those of a tile are decoded together, as they were trained."""
        if isinstance(self.own, Zero123Plus):
            yield from self.own.decode(x)
            return
        weight = next(self.vae.parameters())
        for view in self.latent.unscaled(x)[0].transpose(0, 1).to(weight.dtype):
            yield self.vae.decode(view[None])


def named(folder: Path, name: str = "") -> Preset:
    """The preset of a folder, as ``safelight.json`` there names and varies it.

    Args:
        name: of the preset, for a folder that names none, as those of others do.

    Raises:
        WeightsError: no folder, or a link in it leads elsewhere.
        ConfigError: it names no preset, another one, or one that nothing here can tell what it reads.
        UnknownNameError: there is no such preset.
    """
    if not folder.is_dir():
        raise WeightsError(f"{folder}: is no folder; a model of views is one with unet, vae and scheduler")
    if PACKAGE not in folder.absolute().parents:  # some installers make every file of a package a link
        check_links(folder)
    notes = read_json(folder / NOTES) if (folder / NOTES).is_file() else {}
    told = notes.get("views")
    if name and told not in (None, name):
        raise ConfigError(f"{folder}: is {str(told)[:60]} by its {NOTES}, not {name}; leave the preset out")
    told = told or name
    if not isinstance(told, str) or not told:
        made = "safelight train figurines-views"
        raise ConfigError(
            f"{folder}: names no preset of views in {NOTES}; it is to be what '{made}' published, or say with --preset "
            "which model it is"
        )
    changes = notes.get("changes", {})
    if not isinstance(changes, dict):
        raise ConfigError(f"{folder / NOTES}: changes are a table of a preset's facts, not {str(changes)[:60]}")
    chosen = varied(preset(told), changes, str(folder / NOTES))
    needs = ENCODERS[chosen.camera].needs if chosen.camera else ""
    if needs not in NEEDS or (needs and NEEDS[needs] != chosen.picture):
        raise ConfigError(
            f"{folder}: {chosen.title} reads {', '.join(chosen.inputs)}, not all of which are encoded here; in Python, "
            "safelight.multiview has its network"
        )
    return chosen


def load(folder: Path, place: Place, name: str = "", chunk: int = 0) -> ViewModel:
    """Read a folder.

    Args:
        place: device and number format. name: see `named`.
        chunk: see `safelight.multiview.layouts.read`; for models whose views read each other.

    Raises:
        RequestError: a chunk below 0, or for a model that has no use for it.
        WeightsError, ConfigError: it is no model of views, damaged, lacks what reads its text or its picture, or see
            `named`.
        UnknownNameError: there is no such preset.
    """
    if chunk < 0:
        raise RequestError(f"a chunk is how many queries of attention are answered at once, 0 for all, not {chunk}")
    made = _load(folder, named(folder, name))
    if chunk and not isinstance(made.network, ViewNetwork):
        raise RequestError(f"{made.name} draws its views in one tile, which is not read in chunks; leave the chunk out")
    if isinstance(made.network, ViewNetwork):
        made.network.chunk = chunk
    for module in made.modules:
        module.to(place.device, place.dtype).requires_grad_(False)
        if broken := unsound(module):
            kind = type(module).__name__
            raise WeightsError(f"{folder}: the tensor {broken} of {kind} holds what is no number in {place.dtype}")
    return made


def _load(folder: Path, chosen: Preset) -> ViewModel:
    if chosen.picture == "token":
        single = zero123.load(folder, chosen)
        network = ViewNetwork(single.unet, layout(chosen.layout)).eval()
        made = _made(folder, replace(chosen, size=single.edge), network, single.vae, single.plan)
        return replace(made, files=single.files, own=single)
    if chosen.picture == "ramp":
        tile = zero123plus.load(folder, chosen)
        made = _made(folder, chosen, tile.parts.unet, tile.parts.vae, tile.plan)
        return replace(made, latent=tile.latent, files=tile.parts.files, own=tile)
    network, vae = load_views(folder, chosen), load_kl(folder / "vae")
    plan = scheduler.read_of(folder, read_json(folder / "scheduler" / "scheduler_config.json"))
    readers = load_readers(folder, chosen, network.unet.config.cross_attention_dim)
    files = [folder / "scheduler" / "scheduler_config.json"]
    for part in ("unet", "vae"):
        files += [folder / part / "config.json", *weight_files(folder / part)]
    made = _made(folder, chosen, network, vae, plan)
    return replace(made, files=(*files, *readers.files), readers=readers)


def _made(folder: Path, chosen: Preset, network: nn.Module, vae: AutoencoderKL, plan: Plan) -> ViewModel:
    """A model without encoders. Released scripts of some models name another sampler than their schedule does."""
    return ViewModel(
        name=folder.name,
        folder=folder,
        preset=chosen,
        network=network,
        vae=vae,
        latent=vae.config.latent(),
        path=plan.path,
        prediction=plan.prediction,
        levels=plan.levels,
        sampler=chosen.sampler,
        options=dict(plan.options) if plan.sampler == chosen.sampler else {},
        start=plan.start,
    )
