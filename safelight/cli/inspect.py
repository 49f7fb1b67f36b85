"""``safelight inspect``: says what a file of weights holds, from its header alone; loads no torch."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from safelight.errors import RequestError

if TYPE_CHECKING:
    from safelight.weights.detect import Component, Found

ROWS = 8
"""Names of each kind that are shown; the rest is counted. ``--json`` gives them all."""
MOST = 200
"""Letters of a text of the metadata that are shown."""
FIRST = ("modelspec.", "ss_base_model_version", "ss_network_", "ss_output_name", "ss_sd_model_name", "general.")


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of ``inspect``."""
    parser.add_argument("file", metavar="FILE", help="safetensors or GGUF; with --allow-pickle .ckpt, .pt, .bin")
    parser.add_argument("--allow-pickle", action="store_true", help="read a pickle's table; nothing in it is run")
    parser.add_argument("--json", action="store_true", help="print one JSON object with every name")


def run(args: argparse.Namespace) -> int:
    """Print what it is."""
    from safelight.weights.container import read_any
    from safelight.weights.detect import detect
    from safelight.weights.folder import typed

    path = typed(args.file)
    if path.is_dir():
        raise RequestError(f"{path} is a folder; name one of the files in it")
    header = read_any(path, pickles=args.allow_pickle)
    found = detect(header)
    if args.json:
        print(json.dumps(table(found) | {"file": str(path), "bytes": header.size, "tensors": len(header.entries)}))
        return 0
    print(f"{path}\n  {header.container}, {len(header.entries)} tensors, {header.size:,} bytes")
    print("\n".join(f"  {line}" for line in lines(found)))
    return 0


def table(found: Found) -> dict[str, Any]:
    """Everything as JSON would have it."""
    made = found.adapter
    return {
        "container": found.container,
        "layout": found.layout,
        "family": found.family,
        "variant": found.variant,
        "title": found.title,
        "task": found.task,
        "parameters": found.parameters,
        "dtypes": dict(found.dtypes),
        "components": {part.part: _component(part) for part in found.components},
        "adapter": None if made is None else asdict(made),
        "averaged": found.averaged,
        "unread": found.unread,
        "left": found.left,
        "metadata": dict(found.metadata),
    }


def lines(found: Found) -> list[str]:
    """The same for a person."""
    said = []
    if found.adapter is not None:
        made = found.adapter
        target = found.title or (f"text of width {made.width}" if made.width else "unknown")
        rank = (
            ""
            if made.rank == (0, 0)
            else f", rank {made.rank[0]}" + (f" to {made.rank[1]}" * (len(set(made.rank)) > 1))
        )
        named = f", named like {made.dialect}" if made.dialect else ""
        said += [f"{made.kind} for {target}{rank}{named}", f"changes     {', '.join(made.changes) or 'unknown'}"]
    elif found.components:
        layout = {"ldm": "a single file", "diffusers": "of a released folder"}[found.layout]
        said.append(f"{found.title}{f', {found.task}' if found.task else ''}: {layout}")
    else:
        said.append("of no kind that is known here")
    for part in found.components:
        sizes = "the released sizes" if part.full else "sizes of its own, which are compared with nothing"
        said.append(f"{part.part:<15} {part.parameters:>14,} parameters, {sizes}")
        rows = (("missing", part.missing), ("unexpected", part.extra), ("other shape", part.bent))
        said += [line for word, names in rows for line in _names(word, names)]
    said.append("formats     " + ", ".join(f"{name} {count:,}" for name, count in found.dtypes.items()))
    if found.averaged:
        said.append("averaged    weights (EMA) lie beside the others; 'safelight convert --averaged' takes them")
    said += _names("says nothing", found.unread[:2], len(found.unread))
    said += _names("left over", found.left)
    first = sorted(found.metadata, key=lambda name: (not name.startswith(FIRST), name))
    for name in first[:24]:
        value = found.metadata[name]
        said.append(f"{name} = {value[:MOST]}{'…' if len(value) > MOST else ''}")
    return said + ([f"… and {len(first) - 24} more of metadata"] if len(first) > 24 else [])


def _component(part: Component) -> dict[str, Any]:
    return {
        "prefix": part.prefix,
        "tensors": len(part.shapes),
        "parameters": part.parameters,
        "released sizes": part.full,
        "missing": part.missing,
        "unexpected": (*part.extra, *part.plan.left),
        "other shape": part.bent,
    }


def _names(word: str, names: tuple[str, ...], count: int = 0) -> list[str]:
    count = count or len(names)
    if not count:
        return []
    shown = names[:ROWS]
    more = f" … and {count - len(shown)} more" if count > len(shown) else ""
    return [f"  {word}: {count}: {', '.join(shown)}{more}"]
