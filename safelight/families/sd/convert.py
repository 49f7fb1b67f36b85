"""Write a Stable Diffusion checkpoint in the other layout: a released folder as one file, one file as a folder.

No number is changed, so there and back gives the same bytes; what a file holds besides (`keys.toml`, ``unread``) is
left behind. A file written here carries the configurations of its folder in its metadata.
"""

from __future__ import annotations

import json
import secrets
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from safelight.encoders.checkpoints import released
from safelight.errors import ConfigError, ExistsError, FileError, WeightsError
from safelight.families.sd.parts import tokenizer_of
from safelight.families.sd.single import CONFIGS, WHOLE, Checkpoint, check_noise, filled, vocabulary
from safelight.vae.checkpoints import today
from safelight.weights.detect import VARIANT
from safelight.weights.folder import Index, read_json, weight_files
from safelight.weights.load import read
from safelight.weights.moves import to_ours, to_theirs
from safelight.weights.notes import METADATA, NOTES, notes
from safelight.weights.save import Written, save, write
from safelight.weights.variants import Variant, tables_of

STEM = {"text_encoder": "model", "text_encoder_2": "model"}
CLASSES = {
    "unet": ("diffusers", "UNet2DConditionModel"),
    "vae": ("diffusers", "AutoencoderKL"),
    "controlnet": ("diffusers", "ControlNetModel"),
}
RENAME: dict[str, Callable[[str], str | None]] = {
    "vae": today,
    "text_encoder": released,
    "text_encoder_2": released,
}
KINDS = {"UNet2DConditionModel": "unet", "AutoencoderKL": "vae", "ControlNetModel": "controlnet"}


def to_file(index: Index, place: Path) -> Written:
    """Write a released folder as one file.

    Raises:
        WeightsError: a part is missing, or holds a tensor that single files have no name for.
        FileError: the file cannot be written.
    """
    folder = index.folder
    have = {name for name in index.parts if name in WHOLE or name.startswith("text_encoder")}
    configs = {name: read_json(folder / name / "config.json") for name in sorted(have)}
    variant = _variant(folder, index, configs)
    configs["model_index"] = read_json(folder / "model_index.json")
    for name in ("scheduler", *(("low_res_scheduler",) if "low_res_scheduler" in index.parts else ())):
        configs[name] = read_json(folder / name / "scheduler_config.json")
    parts = {name: folder / name for name in configs if name in have}
    said = configs["scheduler"].get("prediction_type", "epsilon")
    metadata = {"modelspec.prediction_type": "v" if said == "v_prediction" else str(said)}
    if said := notes(folder):
        metadata[METADATA] = json.dumps(said, ensure_ascii=False)
    return _one_file(variant, parts, place, index, {**metadata, CONFIGS: json.dumps(configs, ensure_ascii=False)})


def part_to_file(folder: Path, place: Path, index: Index) -> Written:
    """Write the folder of one part, such as a ControlNet's, as one file; ``index`` says which weights are meant.

    Raises:
        ConfigError: its ``config.json`` is of no part that has a single file. WeightsError, FileError: see `to_file`.
    """
    raw = read_json(folder / "config.json")
    name = KINDS.get(str(raw.get("_class_name")))
    if name is None:
        raise ConfigError(f"{folder / 'config.json'}: is of a {raw.get('_class_name')}; known are {', '.join(KINDS)}")
    width = raw.get("cross_attention_dim", tables_of("sd").variants[0].width)
    table = "kunet" if raw.get("time_embedding_type") == "fourier" else name
    known = [each for each in tables_of("sd").variants if any(part.table == table for part in each.parts)]
    fits = [each for each in known if each.width == width and (each.name == "x4") == bool(raw.get("num_class_embeds"))]
    variant = [*fits, *known][0]
    return _one_file(variant, {name: folder}, place, index, {CONFIGS: json.dumps({name: raw}, ensure_ascii=False)})


def to_folder(told: Checkpoint, place: Path, index: Index, *, averaged: bool = False) -> Written:
    """Write one file as a released folder, or as the folder of its only part; the folder appears whole or not at all.

    Args:
        averaged: take the averaged weights of the U-Net, which lie beside the others in files of training.

    Raises:
        WeightsError: there are no averaged weights, or a tensor is missing or of another shape.
        ConfigError: no vocabulary was found. FileError, ExistsError: the folder cannot be made.
    """
    if place.exists():
        raise ExistsError(f"{place}: exists; choose another name, or remove it")
    have = [part.part for part in told.found.components]
    if strange := sorted(set(have) - told.configs.keys()):
        raise WeightsError(f"{told.path}: {told.variant.title} stays as it is; no folder is made of its {strange[0]}")
    alone = len(have) == 1
    tensors = read(told.path, pickles=index.pickles)
    check_noise(told, tensors)
    made = {}
    for part in told.found.components:
        mine = _averaged(told, tensors) if averaged and part.part == "unet" else tensors
        made[part.part] = to_ours(mine, part.plan.moves, part.prefix)
        if part.part != "controlnet":  # whose network is an adapter's
            filled(told, part.part, made[part.part])
    scratch = place.parent / f".{place.name}.{secrets.token_hex(4)}.part"
    try:
        scratch.mkdir()
        count = 0
        for part in told.found.components:
            folder = scratch if alone else scratch / part.part
            folder.mkdir(exist_ok=True)
            ours = made[part.part]
            count += len(ours)
            save(ours, folder / f"{STEM.get(part.part, 'diffusion_pytorch_model')}.safetensors")
            _json(folder / "config.json", told.configs[part.part])
        if not alone:
            _rest(told, scratch, index, have)
        scratch.rename(place)
    except OSError as error:
        raise FileError(f"{place}: cannot be written ({error.strerror or error}); choose another place") from None
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return Written(tuple(sorted(file for file in place.rglob("*") if file.is_file())), count, told.found.unread)


def _rest(told: Checkpoint, folder: Path, index: Index, have: Iterable[str]) -> None:
    """The files of a folder beside its weights: scheduler, tokenizers, index."""
    plans = [name for name in ("scheduler", "low_res_scheduler") if name in told.configs]
    for name in plans:
        (folder / name).mkdir()
        _json(folder / name / "scheduler_config.json", told.configs[name])
    parts: dict[str, Any] = {name: ("diffusers", told.configs[name].get("_class_name")) for name in plans}
    for name in have:
        if name.startswith("text_encoder"):
            parts[name] = ("transformers", told.configs[name].get("architectures", ["CLIPTextModel"])[0])
            parts[tokenizer_of(name)] = ("transformers", "CLIPTokenizer")
            _tokenizer(folder / tokenizer_of(name), *vocabulary(index, told.variant, name))
        else:
            parts[name] = CLASSES[name]
    if kept := notes(told.path):
        _json(folder / NOTES, kept)
    said = dict(told.configs["model_index"])
    _json(folder / "model_index.json", said | {key: list(value) for key, value in parts.items()})


def _tokenizer(folder: Path, source: Path, pad: str) -> None:
    """A copy of a vocabulary's folder, filled up with another token where that is what the encoder was trained with."""
    folder.mkdir()
    for file in sorted(source.iterdir()):
        if file.is_file() and file.name in TOKENIZER_FILES:
            shutil.copyfile(file, folder / file.name)
    if pad:
        for name in ("tokenizer_config.json", "special_tokens_map.json"):
            said = read_json(folder / name) if (folder / name).is_file() else {}
            _json(folder / name, {**said, "pad_token": pad})


TOKENIZER_FILES = frozenset(
    {
        *("tokenizer.json", "vocab.json", "merges.txt", "tokenizer_config.json"),
        *("special_tokens_map.json", "added_tokens.json"),
    }
)


def _averaged(told: Checkpoint, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The averaged weights of the U-Net under the names of the others; they are called the same without dots."""
    unet, stem = told.found.component("unet"), tables_of(told.variant.family).keys.averaged
    moves = unet.plan.moves if unet else ()
    names = {f"{unet.prefix if unet else ''}{m.theirs}": stem + m.theirs.replace(".", "") for m in moves}
    missing = [name for name in names.values() if name not in tensors]
    if missing or not names:
        raise WeightsError(f"{told.path}: holds no averaged weights ({len(missing)} of {len(names)} are missing)")
    return {name: tensors[averaged] for name, averaged in names.items()}


def _variant(folder: Path, index: Index, configs: Mapping[str, Mapping[str, Any]]) -> Variant:
    """Which variant a folder is of."""
    if "unet" not in configs or "vae" not in configs:
        raise WeightsError(f"{folder / 'model_index.json'}: names no unet or no vae; a single file needs both")
    unet = configs["unet"]
    if unet.get("time_embedding_type") == "fourier":
        raise WeightsError(
            f"{folder}: no single file holds all of an x2 latent upscaler; 'safelight convert {folder / 'unet'} FILE'"
            " writes its U-Net alone"
        )
    xl, linear = bool(unet.get("addition_embed_type")), bool(unet.get("use_linear_projection"))
    name = ("sdxl" if "text_encoder" in index.parts else "sdxl-refiner") if xl else "sd2" if linear else "sd1"
    name = "x4" if unet.get("num_class_embeds") else name
    return tables_of("sd").variant(name)


def _one_file(
    variant: Variant, parts: Mapping[str, Path], place: Path, index: Index, metadata: Mapping[str, str]
) -> Written:
    tensors: dict[str, Tensor] = {}
    keys = tables_of(variant.family).keys
    for name, folder in parts.items():
        part = variant.part(name)
        files = weight_files(folder, index.variant, pickles=index.pickles)
        ours = read(files, rename=RENAME.get(name), pickles=index.pickles)
        plan = keys.parts[part.table].to_theirs(ours)
        if plan.left:
            rows = "\n".join(f"  unexpected  {each}" for each in plan.left[:8])
            raise WeightsError(f"{folder}: {len(plan.left)} tensors have no name in single files\n{rows}")
        tensors |= to_theirs(ours, plan.moves, part.prefixes[0])
    save(tensors, place, {VARIANT: variant.name, **metadata})
    return Written((place,), len(tensors))


def _json(path: Path, value: Mapping[str, Any]) -> None:
    write(path, [(json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()])
