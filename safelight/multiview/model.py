"""A model of views, loaded: the network of a preset with its autoencoder and its schedule.

The folder is a released one (``unet``, ``vae``, ``scheduler``); ``safelight.json`` there names its preset.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from safelight.core.path import Level
from safelight.errors import ConfigError, WeightsError
from safelight.families.sd import scheduler
from safelight.families.sd.parts import load_kl
from safelight.multiview.checkpoints import load_views
from safelight.multiview.encode import ENCODERS
from safelight.multiview.network import ViewNetwork
from safelight.multiview.presets import Preset, preset, varied
from safelight.runtime.device import Place
from safelight.vae.kl import AutoencoderKL
from safelight.vae.latent import LatentSpec
from safelight.weights.folder import read_json, weight_files
from safelight.weights.sound import unsound

NOTES = "safelight.json"


@dataclass(frozen=True)
class ViewModel:
    """What one loaded model of views answers.

    Attributes:
        name: of its folder. preset: what it is told and shown.
        network: of the views. vae: the autoencoder. latent: shape and scale of latents.
        path, prediction, levels: of its ``scheduler_config.json``; n -> the n + 1 levels that it visits.
        sampler, options: row of SAMPLERS, and what the released schedule changes in it.
        files: every file that was read, below ``folder``.
    """

    name: str
    folder: Path
    preset: Preset
    network: ViewNetwork
    vae: AutoencoderKL
    latent: LatentSpec
    path: Any
    prediction: str
    levels: Callable[[int], list[Level]]
    sampler: str
    options: dict[str, float | str]
    files: tuple[Path, ...] = ()

    @property
    def modules(self) -> tuple[nn.Module, ...]:
        """Every network."""
        return (self.network, self.vae)


def load(folder: Path, place: Place) -> ViewModel:
    """Read a folder.

    Args:
        place: device and number format.

    Raises:
        WeightsError, ConfigError: it is no model of views, damaged, or of a preset that reads what is not encoded here.
        UnknownNameError: there is no such preset.
    """
    if not folder.is_dir():
        raise WeightsError(f"{folder}: is no folder; a model of views is one with unet, vae and scheduler")
    notes = read_json(folder / NOTES) if (folder / NOTES).is_file() else {}
    told = notes.get("views")
    if not isinstance(told, str) or not told:
        made = "safelight train figurines-views"
        raise ConfigError(f"{folder}: names no preset of views in {NOTES}; it is to be what '{made}' published")
    chosen = preset(told)
    chosen = varied(chosen, notes.get("changes", {}), str(folder / NOTES))
    code = ENCODERS[chosen.camera].needs if chosen.camera else ""
    if code or not chosen.slot or chosen.tokens or chosen.unconditional.get("text") != "keep":
        raise ConfigError(
            f"{folder}: {chosen.title} reads {', '.join(chosen.inputs)}, not all of which are encoded here; in Python, "
            "safelight.multiview has its network"
        )
    network = load_views(folder, chosen)
    vae = load_kl(folder / "vae")
    plan = scheduler.read_of(folder, read_json(folder / "scheduler" / "scheduler_config.json"))
    for module in (network, vae):
        module.to(place.device, place.dtype).requires_grad_(False)
        if broken := unsound(module):
            kind = type(module).__name__
            raise WeightsError(f"{folder}: the tensor {broken} of {kind} holds what is no number in {place.dtype}")
    files = [folder / "scheduler" / "scheduler_config.json"]
    for part in ("unet", "vae"):
        files += [folder / part / "config.json", *weight_files(folder / part)]
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
        sampler=plan.sampler,
        options=dict(plan.options),
        files=tuple(files),
    )
