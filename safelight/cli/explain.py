"""``safelight explain``: says how a prompt is read, from the vocabulary alone; no network is loaded."""

from __future__ import annotations

import argparse
import json
import sys
from itertools import groupby
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from safelight.encoders.chunks import Chunk
    from safelight.encoders.explain import Stage

DEFAULT = "figurines"
SPANS = 8
"""Runs of steps that are named; the rest is counted."""
BORDERS = {
    "end": "to the end",
    "full": "until it is full",
    "comma": "to the last comma before it is full",
    "BREAK": "to BREAK",
    "part": "to a part that is kept whole",
}


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of ``explain``."""
    parser.add_argument("prompt", metavar="PROMPT", help="what would be drawn; '' is allowed")
    parser.add_argument("-m", "--model", metavar="MODEL", default=DEFAULT, help="name, folder or file of the model")
    parser.add_argument(
        "--emphasis", metavar="NAME", default="none", help="a1111, comfyui, compel; none: no sign is one"
    )
    parser.add_argument("--steps", type=int, metavar="N", help="1 to 1000; by default the model's own")
    parser.add_argument("--tokenizer", metavar="DIR", help="the vocabulary of a model that is a single file")
    parser.add_argument("--allow-pickle", action="store_true", help="read .ckpt and .pt too; nothing in them is run")
    parser.add_argument("--json", action="store_true", help="print one JSON object with every token")


def run(args: argparse.Namespace) -> int:
    """Print how the prompt is read."""
    from safelight.encoders.emphasis import emphasis
    from safelight.encoders.explain import explain
    from safelight.encoders.prompt import hint
    from safelight.generate.models import load_tokenizers
    from safelight.generate.request import Request
    from safelight.generate.settle import STEPS
    from safelight.generate.source import Source, label, locate
    from safelight.weights.folder import typed
    from safelight.weights.notes import notes

    row = emphasis(args.emphasis)
    asked = Request(args.prompt, steps=args.steps, emphasis=args.emphasis)
    source = Source(pickles=args.allow_pickle, tokenizer=None if args.tokenizer is None else typed(args.tokenizer))
    place = locate(args.model, source)
    steps = asked.steps or int(notes(place).get("defaults", {}).get("steps", STEPS))
    tokenizers = load_tokenizers(place, source)
    stages = explain(tokenizers, asked.prompt, asked.emphasis, steps)
    told = {"model": label(args.model, place), "emphasis": args.emphasis, "steps": steps}
    if args.json:
        print(json.dumps(told | {"prompt": args.prompt, "stages": [stage.table() for stage in stages]}))
        return 0
    print(f"{told['model']}, emphasis {args.emphasis} ({row.what}), {steps} steps")
    for stage in stages:
        print("\n".join(lines(stage, steps)))
    if args.emphasis == "none" and (name := hint(args.prompt)):
        print(f"safelight: the prompt seems to give weights or steps; --emphasis {name} reads them", file=sys.stderr)
    return 0


def lines(stage: Stage, steps: int) -> list[str]:
    """What stands at some steps, for a person."""
    whose = "" if stage.share is None else f"prompt {stage.share[0]}, weight {stage.share[1]:g}, "
    said = [f"{whose}{when(stage, steps)}: {stage.text!r}"]
    for _, group in groupby(stage.laid.items(), key=lambda pair: [chunk.tokens for chunk in pair[1].chunks]):
        alike = list(group)
        laid = alike[0][1]
        tokens = sum(len(chunk.tokens) for chunk in laid.chunks)
        room = len(laid.chunks[0].ids) - 2
        names, chunks = ", ".join(name for name, _ in alike), counted(len(laid.chunks), "chunk")
        said.append(f"  {names}: {counted(tokens, 'token')} in {chunks} of {room}")
        for place, chunk in enumerate(laid.chunks, 1):
            said += pieces(chunk, place)
        if laid.cut:
            said.append(f"    cut off: {laid.cut!r}")
    return said


def when(stage: Stage, steps: int) -> str:
    """At which steps, in few words."""
    if len(stage.steps) == steps:
        return "every step"
    spans = [str(first) if first == last else f"{first} to {last}" for first, last in stage.spans]
    more = f" and {len(spans) - SPANS} more" if len(spans) > SPANS else ""
    return f"step{'s' * (len(stage.steps) > 1)} {', '.join(spans[:SPANS])}{more}"


def pieces(chunk: Chunk, place: int) -> list[str]:
    """A chunk, its tokens by weight."""
    said = [f"    chunk {place}: {counted(len(chunk.tokens), 'token')}, {BORDERS[chunk.border]}"]
    for weight, group in groupby(chunk.tokens, key=lambda token: token.weight):
        said.append(f"      {weight:<6.4g} {' | '.join(token.text for token in group)}")
    return said


def counted(count: int, what: str) -> str:
    """How many, in English."""
    return f"{count} {what}{'s' * (count != 1)}"
