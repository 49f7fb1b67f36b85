"""``safelight verify``: runs a model beside the reference's, block by block, and names the first difference."""

from __future__ import annotations

import argparse
import json

from safelight.cli import source
from safelight.errors import UnknownNameError


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of ``verify``."""
    parser.add_argument("model", metavar="MODEL", help="name, folder or file; see 'safelight models'")
    parser.add_argument("--against", choices=["diffusers"], default="diffusers", help="the reference")
    parser.add_argument("--dtype", metavar="T", default="float32", help="float64, float32, float16, bfloat16")
    parser.add_argument("--json", action="store_true", help="print one JSON object: part -> worst, bar, first")
    source.arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Compare and say; 1 if a module differs."""
    from safelight.evaluate.verify import FORMATS, verify
    from safelight.generate.models import index_of
    from safelight.generate.source import locate

    if args.dtype not in FORMATS:
        raise UnknownNameError("dtype", args.dtype, FORMATS)
    how = source.source(args)
    index = index_of(locate(args.model, how), how)
    told, sound = {}, True
    for verdict in verify(index, FORMATS[args.dtype]):
        first = verdict.first
        sound = sound and first is None
        name = None if first is None else first.module or "its answer"
        told[verdict.part] = {"worst": verdict.worst, "bar": verdict.bar, "modules": len(verdict.heard), "first": name}
        if not args.json:
            state = "agrees" if first is None else f"DIFFERS first at {name} by {first.error:.3g}"
            worst = f"worst {verdict.worst:.3g} of {verdict.bar:g}"
            print(f"{verdict.part:<15} {state}: {len(verdict.heard)} modules, {worst}")
    if args.json:
        print(json.dumps(told))
    return 0 if sound else 1
