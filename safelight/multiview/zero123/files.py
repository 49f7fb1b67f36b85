"""How Zero123 is read: from its original single file, or from the folder of a diffusers port.

The file keeps ``model.diffusion_model.*``, ``first_stage_model.*``, ``cond_stage_model.model.visual.*`` and
``cc_projection.*``; the folder has a part for each. Two ports differ in what they call the last.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from torch import Tensor

from safelight.encoders import viewer
from safelight.encoders.clip_vision import ClipVision
from safelight.errors import ConfigError, RequestError, SafelightError, WeightsError
from safelight.families.sd import scheduler, single
from safelight.families.sd.checkpoints import load_unet
from safelight.families.sd.model import UNet
from safelight.multiview.presets import Preset
from safelight.multiview.zero123.model import WAY, Projection, Zero123
from safelight.vae.checkpoints import load_kl
from safelight.vae.kl import AutoencoderKL
from safelight.weights.folder import Index, read_index, read_json, weight_files
from safelight.weights.load import fill, read, unfilled

PROJECTIONS: Final = {"cc_projection": "projection", "clip_camera_projection": "proj"}
"""What the two ports call the part with the linear layer -> what they call the layer in it."""
PARTS: Final = ("unet", "vae", "image_encoder", "scheduler")
NETWORKS: Final = ("unet", "vae", "image_encoder", "cc_projection")


def load(place: Path, row: Preset, variant: str = "", *, pickles: bool = False) -> Zero123:
    """Read a released folder or single file; everything in it is used, or refused by name.

    Args:
        row: the preset ``zero123``, ``zero123-xl`` or ``stable-zero123``: no file says which it is, and what of cameras
            it is told.
        variant, pickles: see `safelight.weights.folder.weight_files`.

    Raises:
        WeightsError: a part is missing or unreadable, or its tensors have other names or shapes.
        ConfigError: a part is of a kind that this model does not have, or the parts do not fit together.
        RequestError: a preset of another model.
    """
    if row.picture != "token" or row.camera_width != WAY:
        raise RequestError(
            f"{row.title} is not told its picture and {WAY} numbers of a camera; take the preset 'zero123'"
        )
    made = _file(place, row, pickles) if place.is_file() else _folder(read_index(place, variant, pickles=pickles))
    _check(made)
    return replace(made, camera=row.camera)


def _folder(index: Index) -> Zero123:
    folder, variant, pickles = index.folder, index.variant, index.pickles
    names = [name for name in PROJECTIONS if name in index.parts]
    if missing := [part for part in PARTS if part not in index.parts] or (["cc_projection"] if not names else []):
        raise WeightsError(f"{folder / 'model_index.json'}: names no {missing[0]}; is this Zero123?")
    unet = load_unet(folder / "unet", variant, pickles=pickles)
    vae = load_kl(folder / "vae", variant, pickles=pickles)
    # The folder's own preprocessor is for a check of what was drawn; the network is shown pictures in another way.
    seer = viewer.load_viewer(folder / "image_encoder", variant, pickles=pickles, preprocessor=folder / "image_encoder")
    part, inside = names[0], PROJECTIONS[names[0]]
    files = weight_files(folder / part, variant, pickles=pickles)
    rename = {f"{inside}.{leaf}": f"projection.{leaf}" for leaf in ("weight", "bias")}
    tensors = read(files, rename=lambda name: rename.get(name, name), pickles=pickles)
    plan_file = folder / "scheduler" / "scheduler_config.json"
    try:
        plan = scheduler.read(read_json(plan_file))
    except ConfigError as error:
        raise error if str(plan_file) in str(error) else ConfigError(f"{plan_file}: {error}") from error
    used = [folder / "model_index.json", plan_file, *seer.files, *files]
    for each in ("unet", "vae"):
        used += [folder / each / "config.json", *weight_files(folder / each, variant, pickles=pickles)]
    projection = _projection(folder / part, tensors, seer.encoder, unet)
    return Zero123(folder, unet, vae, seer.encoder, projection, plan, files=tuple(used))


def _file(path: Path, row: Preset, pickles: bool) -> Zero123:
    told = single.understand(path, pickles=pickles)
    if told.variant.name != "zero123":
        raise WeightsError(f"{path}: is {told.variant.title}, not Zero123: it has no cc_projection")
    have = {part.part for part in told.found.components}
    if lacking := [part for part in NETWORKS if part not in have]:
        raise WeightsError(f"{path}: lacks {', '.join(lacking)} of Zero123; it holds {', '.join(sorted(have))}")
    tensors = read(path, pickles=pickles)
    single.check_noise(told, tensors)
    unet: UNet = single.filled(told, "unet", single.released(told, "unet", tensors))
    vae: AutoencoderKL = single.filled(told, "vae", single.released(told, "vae", tensors))
    try:
        seer = viewer.filled(single.released(told, "image_encoder", tensors))
    except SafelightError as error:
        raise type(error)(f"{path}: cond_stage_model.model: {error}") from error
    projection = _projection(path, single.released(told, "cc_projection", tensors), seer, unet)
    betas = {f"beta_{name}": value for name, value in row.betas.items()}
    plan = scheduler.read({**told.configs["scheduler"], **betas, "prediction_type": row.prediction})
    return Zero123(path, unet, vae, seer, projection, plan, files=(path,))


def _projection(where: Path, tensors: Mapping[str, Tensor], seer: ClipVision, unet: UNet) -> Projection:
    """The linear layer, as wide as the networks around it ask.

    Raises:
        WeightsError: it is of another shape, or has more in it. ConfigError: there is nothing to project.
    """
    if not seer.config.projection:
        raise ConfigError(f"{where}: the image encoder has no projection, of which Zero123 is told")
    sizes = {"projected": seer.config.projection_dim, "width": unet.config.cross_attention_dim}
    made = unfilled(sizes, lambda raw: Projection(raw["projected"], raw["width"]))
    try:
        fill(made, tensors)
    except WeightsError as error:
        raise WeightsError(f"{where}: cc_projection: {error}") from error
    return made.eval()


def _check(made: Zero123) -> None:
    """ConfigError where the parts do not speak of the same things."""
    unet, latents = made.unet.config, made.vae.config.latent_channels
    if unet.in_channels != 2 * latents or unet.out_channels != latents:
        raise ConfigError(
            f"{made.folder}: the U-Net reads {unet.in_channels} channels and writes {unet.out_channels}; Zero123's "
            f"reads {2 * latents}, the noisy latents and the picture's, and writes {latents}"
        )
