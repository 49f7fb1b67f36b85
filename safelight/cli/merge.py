"""``safelight merge``: writes LoRAs into a checkpoint, or several LoRAs as one, or one in another dialect."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from safelight.cli import adapters, source
from safelight.errors import ExistsError, FileError, RequestError

if TYPE_CHECKING:
    from torch import Tensor

    from safelight.adapters.lora.export import Part
    from safelight.adapters.lora.targets import Targets
    from safelight.families.family import Model
    from safelight.weights.folder import Index

DIALECTS = ("kohya", "diffusers", "peft", "comfyui")
SUFFIX = ".safetensors"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of ``merge``."""
    add = parser.add_argument
    add("loras", nargs="+", metavar="LORA", help="FILE[:scale[:block=scale,...]]")
    add("-m", "--model", metavar="MODEL", help="write them into a copy of this checkpoint, a folder or a file")
    add("-o", "--output", metavar="OUT", required=True,
        help="a folder where the model is one, else a name that ends in .safetensors")  # fmt: skip
    add("--dialect", choices=DIALECTS, help="of LoRAs that are written as one; kohya by default")
    add("--for", metavar="MODEL", dest="target", help="the model whose layers they change, where it is no released one")
    add("--force", action="store_true", help="replace a file that exists")
    source.arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Merge, write, and say what was written."""
    from safelight.adapters.lora.export import Part
    from safelight.generate.adapters import lora
    from safelight.weights.folder import typed

    place, how = typed(args.output), source.source(args)
    if args.model is not None and (args.dialect or args.target):
        raise RequestError("--dialect and --for are for writing LoRAs as one; a checkpoint has names of its own")
    if not place.parent.is_dir():
        raise FileError(f"{place.parent}: no such folder; make it, or choose another place with -o")
    if place.exists() and (place.is_dir() or not args.force):
        raise ExistsError(f"{place}: exists; " + ("remove it" if place.is_dir() else "--force replaces it"))
    asked = [adapters.split("LORA", text) for text in args.loras]
    parts = [Part(lora(a.name, how).lora, a.scale, adapters.blocks("LORA", a.rest)) for a in asked]
    files = _into_model(args, parts, place) if args.model else [_into_one(args, parts, place)]
    for file in files:
        print(file)
    return 0


def _into_model(args: argparse.Namespace, parts: list[Part], place: Path) -> list[Path]:
    from safelight.adapters.lora.attach import merge
    from safelight.adapters.lora.checkpoint import write_checkpoint

    model, index = _loaded(args.model, args)
    if index.folder.is_file() != (place.suffix == SUFFIX):
        kind = f"a name that ends in {SUFFIX}" if index.folder.is_file() else "a folder"
        raise RequestError(f"{index.folder} is written as what it is; name {kind} with -o")
    for number, part in enumerate(parts):
        merge(model, part.lora, part.scale, part.blocks, name=f"{number + 1} {part.lora.name}")
    return write_checkpoint(model, index, place)


def _into_one(args: argparse.Namespace, parts: list[Part], place: Path) -> Path:
    from safelight.adapters.lora.export import changes, write
    from safelight.weights.save import save

    if place.suffix != SUFFIX:
        raise RequestError(f"a LoRA is written as a file; name one that ends in {SUFFIX} with -o, or a model with -m")
    there, weights = _target(args, parts)
    made = write(changes(parts, there, weights), there, args.dialect or DIALECTS[0])
    if not made:
        raise RequestError("nothing is left to write: every scale is 0")
    said = [{"name": part.lora.name, "sha256": part.lora.sha256, "scale": part.scale} for part in parts]
    save(made, place, {"safelight.sum": json.dumps(said, ensure_ascii=False)})
    return place


def _target(args: argparse.Namespace, parts: list[Part]) -> tuple[Targets, dict[str, Tensor] | None]:
    """The layers that are changed, and their weights where a model is named."""
    from safelight.adapters.lora.checkpoint import tensors
    from safelight.adapters.lora.file import targets
    from safelight.adapters.lora.plan import match
    from safelight.adapters.lora.targets import released

    if args.target is None:
        return max(released(), key=lambda each: sum(len(match(part.lora.contents, each).rows) for part in parts)), None
    model, _ = _loaded(args.target, args)
    weights = {
        (name if part == "unet" else f"{part}.{name}").removesuffix(".weight"): tensor
        for part, rows in tensors(model).items()
        for name, tensor in rows.items()
        if name.endswith(".weight")
    }
    return targets(model), weights


def _loaded(name: str, args: argparse.Namespace) -> tuple[Model, Index]:
    from safelight.generate.models import family_of, index_of
    from safelight.generate.source import locate

    how = source.source(args)
    index = index_of(locate(name, how), how)
    return family_of(index).load(index), index
