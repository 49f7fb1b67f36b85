"""Write a stage of Stable Cascade in the other layout: the folder of one part as a file, and a file as that folder.

No number is changed, so there and back gives the same bytes. A file written here carries the part's configuration in
its metadata, so that it is read again whatever its sizes are.
"""

from __future__ import annotations

import json
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safelight.errors import ConfigError, ExistsError, FileError, WeightsError
from safelight.families.cascade.single import CONFIGS, StageFile
from safelight.weights.detect import VARIANT
from safelight.weights.folder import Index, read_json, weight_files
from safelight.weights.load import read
from safelight.weights.moves import to_ours, to_theirs
from safelight.weights.save import Written, save, write
from safelight.weights.variants import Variant, tables_of

CLASSES = ("StableCascadeUNet", "PaellaVQModel")
"""Classes of ``config.json`` that this module writes as files."""


def part_to_file(folder: Path, place: Path, index: Index) -> Written:
    """Write the folder of a prior, a decoder or an autoencoder as one file; ``index`` says which weights are meant.

    Raises:
        WeightsError: its weights are unreadable, or a tensor has no name in such files. ConfigError: its
            ``config.json`` is of another class. FileError: the file cannot be written.
    """
    raw = read_json(folder / "config.json")
    if raw.get("_class_name") not in CLASSES:
        raise ConfigError(f"{folder / 'config.json'}: is of a {raw.get('_class_name')}; known are {', '.join(CLASSES)}")
    network = raw["_class_name"] == CLASSES[0]
    part = "vqgan" if not network else "decoder" if raw.get("clip_text_in_channels") is None else "prior"
    ours = read(weight_files(folder, index.variant, pickles=index.pickles), pickles=index.pickles)
    plan = tables_of("cascade").keys.parts[part].to_theirs(ours)
    if plan.left:
        rows = "\n".join(f"  unexpected  {name}" for name in plan.left[:8])
        raise WeightsError(f"{folder}: {len(plan.left)} tensors have no name in the files of a stage\n{rows}")
    theirs = to_theirs(ours, plan.moves)
    save(theirs, place, {VARIANT: _variant(part, raw).name, CONFIGS: json.dumps({part: raw}, ensure_ascii=False)})
    return Written((place,), len(theirs))


def to_folder(told: StageFile, place: Path, *, pickles: bool = False) -> Written:
    """Write a stage's file as the folder of that part; the folder appears whole or not at all.

    Raises:
        ExistsError, FileError: the folder cannot be made.
    """
    if place.exists():
        raise ExistsError(f"{place}: exists; choose another name, or remove it")
    (component,) = told.found.components
    ours = to_ours(read(told.path, pickles=pickles), component.plan.moves, component.prefix)
    scratch = place.parent / f".{place.name}.{secrets.token_hex(4)}.part"
    try:
        scratch.mkdir()
        save(ours, scratch / "diffusion_pytorch_model.safetensors")
        text = json.dumps({key: value for key, value in told.config.items() if value is not None}, indent=2)
        write(scratch / "config.json", [f"{text}\n".encode()])
        scratch.rename(place)
    except OSError as error:
        raise FileError(f"{place}: cannot be written ({error.strerror or error}); choose another place") from None
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return Written(tuple(sorted(place.iterdir())), len(ours), told.found.unread)


def _variant(part: str, raw: Mapping[str, Any]) -> Variant:
    """The kind of file that a part becomes: of its size, or else the largest."""
    known = [each for each in tables_of("cascade").variants if part in each.expected]
    widths = raw.get("block_out_channels") or [0, 0]
    return next((each for each in known if each.width == widths[min(1, len(widths) - 1)]), known[0])
