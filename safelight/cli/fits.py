"""``safelight adapters``: says what an adapter's file holds and what it would change; no torch without a model."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from typing import TYPE_CHECKING, Any

from safelight.cli import source
from safelight.errors import RequestError, WeightsError

if TYPE_CHECKING:
    from safelight.adapters.lora.contents import Contents
    from safelight.adapters.lora.plan import Plan
    from safelight.adapters.lora.targets import Targets

ROWS = 12
"""Rows of each kind that are shown; the rest is counted. ``--json`` gives them all."""
FIRST = ("modelspec.title", "modelspec.architecture", "ss_base_model_version", "ss_network_module", "ss_output_name")


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of ``adapters``."""
    parser.add_argument("file", metavar="FILE", help="a LoRA or its kin, by file, or by name if it came along")
    parser.add_argument(
        "-m", "--model", metavar="MODEL", help="for which model; by default the released one it fits best"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object with every layer")
    source.arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Print what it is; 1 if some of it does not fit."""
    from safelight.adapters.lora.contents import read_contents
    from safelight.adapters.lora.plan import match
    from safelight.generate.source import adapters
    from safelight.weights.folder import typed

    path = adapters("lora").get(args.file) or typed(args.file)
    if path.is_dir():
        raise RequestError(f"{path} is a folder; name one of the files in it")
    contents = read_contents(path, pickles=args.allow_pickle)
    plan = match(contents, _targets(args, contents))
    if args.json:
        print(json.dumps(table(plan), ensure_ascii=False))
    else:
        print("\n".join(lines(plan)))
    return 1 if plan.misses else 0


def _targets(args: argparse.Namespace, contents: Contents) -> Targets:
    """The layers of the model that is named, or of the released one that fits best."""
    from safelight.adapters.lora.plan import match
    from safelight.adapters.lora.targets import released

    if args.model is not None:
        from safelight.adapters.lora.file import targets
        from safelight.generate.models import family_of, index_of
        from safelight.generate.source import locate

        how = source.source(args)
        index = index_of(locate(args.model, how), how)
        return targets(family_of(index).load(index))
    if args.variant or args.tokenizer or args.download:
        raise RequestError("--variant, --tokenizer and --download are of a model; name it with -m")
    best = max(released(), key=lambda each: len(match(contents, each).rows))
    if not match(contents, best).rows:
        raise WeightsError(f"{contents.path}: fits no layer of any released model; name the model it is for with -m")
    return best


def table(plan: Plan) -> dict[str, Any]:
    """Everything as JSON would have it."""
    contents = plan.contents
    return {
        "file": str(contents.path),
        "container": contents.header.container,
        "forms": dict(contents.forms),
        "dialects": plan.dialects,
        "for": plan.title,
        "rank": plan.ranks,
        "without_alpha": [row.layer.full for row in plan.without_alpha],
        "layers": {row.layer.full: {"form": row.piece.form, "rank": row.rank} for row in plan.rows},
        "misses": dict(plan.misses),
        "metadata": dict(contents.header.metadata),
    }


def lines(plan: Plan) -> list[str]:
    """The same for a person."""
    contents, (low, high) = plan.contents, plan.ranks
    forms = ", ".join(f"{count} × {form}" for form, count in contents.forms.most_common())
    said = [str(contents.path), f"  {forms}; named like {', '.join(plan.dialects) or 'nobody'}"]
    if high:
        said.append(f"  rank        {low}" + (f" to {high}" if low != high else ""))
    unsaid = len(plan.without_alpha)
    if unsaid:
        said.append(f"  alpha       is not said for {unsaid} layers; they are taken as they are, at strength 1")
    said.append(f"  for         {plan.title}: {len(plan.rows)} of {len(contents.pieces)} changes fit")
    blocks = Counter((row.layer.part, row.layer.name.split(".")[0]) for row in plan.rows if row.layer.part == "unet")
    blocks |= Counter({(part, ""): count for part, count in plan.parts.items() if part != "unet"})
    said += [f"  {' '.join(filter(None, name)):<24} {count} layers" for name, count in sorted(blocks.items())]
    said += [f"  unmatched   {stem}: {why}" for stem, why in plan.misses[:ROWS]]
    said += [f"  … and {len(plan.misses) - ROWS} more"] * (len(plan.misses) > ROWS)
    said += [f"  {key:<24} {contents.header.metadata[key][:200]}" for key in FIRST if key in contents.header.metadata]
    return said
