"""A whole Stable Diffusion checkpoint in one file, loaded with nothing looked up elsewhere but CLIP's vocabulary.

The file's names are translated by ``keys.toml``, its configuration is worked out from its shapes (`shape`) or taken
from what `safelight convert` wrote into its metadata. The vocabulary is in no such file: it lies in a folder.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from safelight.encoders.clip import ClipText, ClipTextConfig
from safelight.encoders.tokenizer import ClipTokenizer
from safelight.errors import ConfigError, SafelightError, WeightsError
from safelight.families.sd import scheduler, shape
from safelight.families.sd.kunet import KUNet, KUNetConfig
from safelight.families.sd.model import UNet, UNetConfig
from safelight.families.sd.parts import Parts, Reader, check_parts, fitting, tokenizer_of
from safelight.vae.kl import AutoencoderKL, KLConfig
from safelight.weights.container import read_any
from safelight.weights.detect import Found, known
from safelight.weights.folder import Index
from safelight.weights.header import Header
from safelight.weights.load import fill, read, unfilled
from safelight.weights.moves import to_ours
from safelight.weights.variants import Variant

CONFIGS = "safelight.configs"
"""Where `safelight convert` puts the configurations of a folder into the metadata of a file."""
WHOLE = {"unet", "vae"}
NOISES = {"alphas_cumprod": "scheduler", "low_scale_model.alphas_cumprod": "low_res_scheduler"}
"""Where training programs leave the squares of alpha of every level, and what says the same here."""
NEAR = 0.02
"""How far a stored square may lie off, which half precision explains and another path does not."""
TOKENIZER_FILES = ("tokenizer.json", "merges.txt")


@dataclass(frozen=True)
class Checkpoint:
    """A single file, understood but not loaded.

    Attributes:
        path: where it lies. header: of the file. found, variant: what it is.
        configs: part -> ``config.json``, with ``scheduler`` -> ``scheduler_config.json`` and ``model_index``.
    """

    path: Path
    header: Header
    found: Found
    variant: Variant
    configs: Mapping[str, Mapping[str, Any]]


def understand(path: Path, *, pickles: bool = False, prediction: str = "") -> Checkpoint:
    """Read a header and work out what the file is.

    Args:
        prediction: ``epsilon`` or ``v_prediction``, where the caller knows better than the file.

    Raises:
        WeightsError: the file is unreadable, of no known kind, or holds names that belong to nothing; says which.
        ConfigError: its metadata is damaged, or its sizes cannot be read.
    """
    header = read_any(path, pickles=pickles)
    found, variant = known(header, path)
    if found.left or any(part.plan.left for part in found.components):
        left = sorted({*found.left, *(name for part in found.components for name in part.plan.left)})
        rows = "\n".join(f"  unexpected  {name}" for name in left[:8])
        more = f"\n  … and {len(left) - 8} more" if len(left) > 8 else ""
        raise WeightsError(f"{path}: {len(left)} tensors belong to nothing that is known here\n{rows}{more}")
    made = shape.configs(variant, {part.part: part.shapes for part in found.components})
    said = _said(path, header)
    for part in made:
        made[part] = dict(said.get(part, made[part]))
    made["scheduler"] = dict(said.get("scheduler", {})) or _scheduler(variant, header)
    if prediction:
        made["scheduler"]["prediction_type"] = prediction
    if "low_res_scheduler" in variant.config or "low_res_scheduler" in said:
        made["low_res_scheduler"] = dict(said.get("low_res_scheduler", variant.config.get("low_res_scheduler", {})))
    usual = {"_class_name": variant.pipeline, **variant.config.get("settings", {})}
    made["model_index"] = dict(said.get("model_index", usual))
    return Checkpoint(path, header, found, variant, made)


def single_index(path: Path, pickles: bool = False, tokenizers: tuple[Path, ...] = ()) -> Index:
    """What ``model_index.json`` would say of a single file.

    Raises:
        WeightsError, ConfigError: see `understand`; also a file that is a part of a model only.
    """
    told = understand(path, pickles=pickles)
    have = {part.part for part in told.found.components}
    encoders = {part.name for part in told.variant.parts if part.name.startswith("text_encoder")}
    if lacking := sorted((WHOLE | encoders) - have):
        holds = ", ".join(sorted(have)) or "none of the parts"
        what = f"lacks {', '.join(lacking)} of {told.variant.title}; it holds {holds}"
        raise WeightsError(f"{path}: {what}, of which 'safelight convert FILE FOLDER' makes a folder")
    if "controlnet" in have:
        raise WeightsError(
            f"{path}: holds a ControlNet beside the model, which would not be asked; 'safelight convert FILE FOLDER' "
            "makes a folder with both"
        )
    said = told.configs["model_index"]
    settings = {key: value for key, value in said.items() if not key.startswith("_") and not isinstance(value, list)}
    plans = {part for part in ("scheduler", "low_res_scheduler") if part in told.configs}
    parts = {part: ("transformers" if part in encoders else "diffusers", "") for part in sorted(have | plans)}
    return Index(path, str(said["_class_name"]), parts, settings, pickles=pickles, tokenizers=tokenizers)


def read_single(index: Index) -> Parts:
    """Load every part of a single file whose index was made by `single_index`.

    Raises:
        WeightsError: a tensor is missing, of another shape, or belongs to nothing.
        ConfigError: its sizes are of no network that is known, parts do not fit together, or no vocabulary was found.
    """
    path = index.folder
    told = understand(path, pickles=index.pickles)
    tensors = read(path, pickles=index.pickles)
    check_noise(told, tensors)

    # The largest part first: a file that asks for what cannot be is refused before a vocabulary is read.
    unet = filled(told, "unet", released(told, "unet", tensors))
    vae = filled(told, "vae", released(told, "vae", tensors))
    readers, used = [], []
    for name in sorted(each.part for each in told.found.components if each.part.startswith("text_encoder")):
        encoder = filled(told, name, released(told, name, tensors))
        reader, place = _reader(index, told.variant, name, encoder)
        readers.append(reader)
        used += sorted(file for file in place.iterdir() if file.is_file() and file.suffix in (".json", ".txt"))
    check_parts(path, unet, vae, readers)
    plan, low_res = told.configs["scheduler"], told.configs.get("low_res_scheduler")
    return Parts(index, unet, vae, tuple(readers), plan, (path, *dict.fromkeys(used)), low_res)


def released(told: Checkpoint, part: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of one part, such as ``unet`` or ``controlnet``, under the names of released folders.

    Args:
        tensors: all that the file holds; see `safelight.weights.load.read`.

    Raises:
        WeightsError: the file holds no such part.
    """
    component = told.found.component(part)
    if component is None:
        holds = ", ".join(each.part for each in told.found.components)
        raise WeightsError(f"{told.path}: holds no {part}; it holds {holds} of {told.variant.title}")
    return to_ours(tensors, component.plan.moves, component.prefix)


def check_noise(told: Checkpoint, tensors: Mapping[str, Tensor]) -> None:
    """Compare the noise paths that a file of training holds with those that it will be drawn on.

    Raises:
        ConfigError: they differ.
    """
    for name, part in NOISES.items():
        stored, plan = tensors.get(name), dict(told.configs.get(part, {}))
        if stored is None or not plan or stored.element_size() < 2:
            continue
        if "clip_sample" in plan:
            plan["clip_sample"] = False  # what is clipped changes no path
        path = torch.tensor(scheduler.read(plan).path.alphas_cumprod)
        if stored.shape != path.shape or not bool(((stored.float() - path).abs() <= NEAR).all()):
            raise ConfigError(
                f"{told.path}: its {name} are not those of {told.variant.title}, which it would be drawn on; use the "
                f"released folder, whose {part} says its noise path"
            )


def vocabulary(index: Index, variant: Variant, encoder: str) -> tuple[Path, str]:
    """The folder of a text encoder's vocabulary, and the token to fill up with where the folder is another encoder's.

    Raises:
        ConfigError: there is none; says where one is looked for.
    """
    for place in index.tokenizers:
        own = place / tokenizer_of(encoder)
        if _has_vocabulary(own):
            return own, ""
        for other in (place, place / "tokenizer"):
            if _has_vocabulary(other):
                return other, str(variant.config.get("tokenizer", {}).get(encoder, ""))
    raise ConfigError(
        f"{index.folder}: needs CLIP's vocabulary, and {', '.join(map(str, index.tokenizers))} holds none; name a "
        "folder with tokenizer.json or merges.txt (from any released Stable Diffusion)"
    )


def read_vocabularies(index: Index) -> dict[str, ClipTokenizer]:
    """The name of each text encoder of a single file and its tokenizer, read without the networks.

    Raises:
        WeightsError, ConfigError: see `understand` and `vocabulary`.
    """
    told = understand(index.folder, pickles=index.pickles)
    names = sorted(each.part for each in told.found.components if each.part.startswith("text_encoder"))
    found = {}
    for name in names:
        place, pad = vocabulary(index, told.variant, name)
        found[name] = ClipTokenizer.from_folder(place, pad=pad)
    return found


def _reader(index: Index, variant: Variant, name: str, encoder: ClipText) -> tuple[Reader, Path]:
    place, pad = vocabulary(index, variant, name)
    return fitting(ClipTokenizer.from_folder(place, pad=pad), encoder, place), place


def _has_vocabulary(folder: Path) -> bool:
    return any((folder / name).is_file() for name in TOKENIZER_FILES)


def filled(told: Checkpoint, part: str, tensors: Mapping[str, Tensor]) -> Any:
    """The network of a part with its tensors under released names, in evaluation mode.

    Raises:
        WeightsError: a tensor is missing, of another shape, or belongs to nothing.
        ConfigError: no network has its sizes.
    """
    build: Callable[[Mapping[str, Any]], nn.Module] = {"unet": _unet, "vae": _vae}.get(part, _clip)
    try:
        module = unfilled(told.configs[part], build)
        fill(module, tensors)
    except SafelightError as error:
        raise type(error)(f"{told.path}: {part}: {error}") from error
    return module.eval()


def _unet(raw: Mapping[str, Any]) -> nn.Module:
    enlarges = raw.get("time_embedding_type") == "fourier"
    return KUNet(KUNetConfig.from_dict(raw)) if enlarges else UNet(UNetConfig.from_dict(raw))


def _vae(raw: Mapping[str, Any]) -> AutoencoderKL:
    return AutoencoderKL(KLConfig.from_dict(raw))


def _clip(raw: Mapping[str, Any]) -> ClipText:
    return ClipText(ClipTextConfig.from_dict(raw))


def _scheduler(variant: Variant, header: Header) -> dict[str, Any]:
    """The path and the prediction that the variant usually means, or what this file says of itself."""
    said = header.metadata.get("modelspec.prediction_type", header.metadata.get("prediction_type", "")).lower()
    kind = header.metadata.get("modelspec.architecture", "")
    prediction = variant.prediction
    if "v_pred" in header.entries or said.startswith("v") or kind.endswith("-v"):
        prediction = "v_prediction"
    elif said.startswith("eps") or kind == "stable-diffusion-v2-512" or header.metadata.get("global_step") == "875000":
        prediction = "epsilon"  # the number is how long the released 512-pixel model was trained
    return shape.scheduler(prediction, variant.config.get("scheduler"), zero_snr="ztsnr" in header.entries)


def _said(path: Path, header: Header) -> dict[str, dict[str, Any]]:
    """The configurations that `safelight convert` wrote."""
    try:
        said = json.loads(header.metadata.get(CONFIGS, "{}"))
        if not isinstance(said, dict) or any(not isinstance(value, dict) for value in said.values()):
            raise ValueError("not a table of tables")
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: its {CONFIGS} are damaged ({error}); convert it again") from None
    if not isinstance(said.get("model_index", {"_class_name": ""}).get("_class_name"), str):
        raise ConfigError(f"{path}: its {CONFIGS} name no pipeline; convert it again")
    return said
