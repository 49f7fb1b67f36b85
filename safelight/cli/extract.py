"""``safelight extract``: finds the LoRA that leads from one checkpoint to another."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from safelight.cli import source
from safelight.errors import ExistsError, FileError

if TYPE_CHECKING:
    from safelight.families.family import Model

DIALECTS = ("kohya", "diffusers", "peft", "comfyui")
RANK = 32


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of ``extract``."""
    add = parser.add_argument
    add("base", metavar="BASE", help="the checkpoint that was trained on, a folder or a file")
    add("tuned", metavar="TUNED", help="what came of it")
    add("-o", "--output", metavar="FILE", required=True, help="the LoRA goes here")
    add("--rank", type=int, metavar="N", help=f"the largest, 1 to 4096; {RANK} by default, none with --error")
    add("--error", type=float, metavar="E",
        help="the smallest ranks that leave at most this share of what each layer learned, 0 to 1")  # fmt: skip
    add(
        "--rest",
        action="store_true",
        help="also what norms, biases and embeddings learned, which not all programs read",
    )
    add("--dialect", choices=DIALECTS, default=DIALECTS[0], help="whose names it has; %(default)s by default")
    add("--force", action="store_true", help="replace a file that exists")
    source.arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Extract, write, and say how near it is."""
    from safelight.adapters.lora.checkpoint import tensors
    from safelight.adapters.lora.export import write
    from safelight.adapters.lora.extract import extract
    from safelight.adapters.lora.file import targets
    from safelight.weights.folder import typed
    from safelight.weights.save import save

    place = typed(args.output)
    if place.exists() and not args.force:
        raise ExistsError(f"{place}: exists; --force replaces it")
    if place.is_dir() or not place.parent.is_dir():
        raise FileError(f"{place}: cannot be written; choose another place with -o")
    rank = RANK if args.rank is None and args.error is None else args.rank
    base, tuned = (_model(name, args) for name in (args.base, args.tuned))
    there = targets(base)
    found = extract(tensors(base), tensors(tuned), there, rank=rank, error=args.error, rest=args.rest)
    save(write(found.changes, there, args.dialect), place)
    ranks = sorted({each.tensors["down"].shape[0] for each in found.changes if "down" in each.tensors})
    worst = max(found.errors.items(), key=lambda item: item[1], default=("none", 0.0))
    of = f"rank {ranks[0]}" + (f" to {ranks[-1]}" if len(ranks) > 1 else "") if ranks else "no ranks"
    print(f"{place}: {len(found.changes)} layers, {of}")
    print(f"  at most {worst[1]:.1%} of what a layer learned is left out ({worst[0]})")
    if found.left_out:
        print(
            f"  not in it, since a LoRA cannot hold it: {len(found.left_out)} ({found.left_out[0]} ...); --rest adds it"
        )
    return 0


def _model(name: str, args: argparse.Namespace) -> Model:
    from safelight.generate.models import family_of, index_of
    from safelight.generate.source import locate

    how = source.source(args)
    index = index_of(locate(name, how), how)
    return family_of(index).load(index)
