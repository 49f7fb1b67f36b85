"""``safelight inspect``: says what a file of weights or a model's folder holds, from headers alone; loads no torch."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from safelight.cli import source

if TYPE_CHECKING:
    from pathlib import Path

    from safelight.generate.source import Source
    from safelight.weights.detect import Component, Found
    from safelight.weights.header import Header
    from safelight.weights.survey import Piece, Survey

ROWS = 8
"""Names of each kind that are shown; the rest is counted. ``--json`` gives them all."""
MOST = 200
"""Letters of a text of the metadata that are shown."""
FIRST = ("modelspec.", "ss_base_model_version", "ss_network_", "ss_output_name", "ss_sd_model_name", "general.")


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of ``inspect``."""
    parser.add_argument("model", metavar="MODEL", help="a file of weights, a folder, or any other name of a model")
    parser.add_argument("--json", action="store_true", help="print one JSON object with every name")
    source.arguments(parser, vocabulary=False)


def run(args: argparse.Namespace) -> int:
    """Print what it is."""
    from safelight.generate.source import locate
    from safelight.weights.survey import FILES, INDEX, survey

    how = source.source(args)
    path = locate(args.model, how)
    if (path / INDEX).is_file():
        model = survey(path, how.variant, pickles=how.pickles)
        print(json.dumps(folder_table(model)) if args.json else f"{path}\n" + _indented(folder_lines(model)))
        return 0
    told, ours = _files(path, how), _ours(path)
    if path.is_dir() and len(told) >= FILES:
        print(f"no more than {FILES} of its files are looked into", file=sys.stderr)
    if args.json:
        tables = [_table(*each) for each in told]
        folder = {"folder": str(path), "presets": [ours] if ours else [], "files": tables}
        print(json.dumps(folder if path.is_dir() else tables[0]))
        return 0
    if ours:
        print(f"{path}\n  a model of views of the preset {ours}; 'safelight views -m {path}' draws with it")
    for files, kind, header, found in told:
        named = files[0] if len(files) == 1 else f"{files[0].parent} ({len(files)} shards)"
        holds = f"{header.container}, {len(header.entries)} tensors, {header.size:,} bytes"
        print(f"{named}\n  {holds}{f', {kind}' if kind else ''}\n" + _indented(lines(found)))
    return 0


def _files(path: Path, how: Source) -> list[tuple[tuple[Path, ...], str, Header, Found]]:
    """What is looked into: the files of a part, the class that its configuration names, their header, what it is."""
    from safelight.errors import RequestError
    from safelight.weights.container import read_any
    from safelight.weights.detect import detect
    from safelight.weights.survey import loose

    if path.is_dir():
        parts = loose(path, how.variant, pickles=how.pickles)
        return [(files, kind, header, detect(header)) for files, kind, header in parts]
    if how.variant:
        raise RequestError(f"{path} is one file and has no variants; leave out --variant {how.variant}")
    header = read_any(path, pickles=how.pickles)
    return [((path,), "", header, detect(header))]


def _ours(path: Path) -> str:
    """The preset of views that a folder of our own training names; empty for others."""
    from safelight.weights.notes import notes

    named = notes(path).get("views", "") if path.is_dir() else ""
    return named if isinstance(named, str) else ""


def _table(files: tuple[Path, ...], kind: str, header: Header, found: Found) -> dict[str, Any]:
    """Everything of one part, as JSON would have it."""
    places = {"file": str(files[0])} if len(files) == 1 else {"files": [str(file) for file in files]}
    return table(found) | places | {"class": kind, "bytes": header.size, "tensors": len(header.entries)}


def folder_table(model: Survey) -> dict[str, Any]:
    """Everything of a released folder, as JSON would have it."""
    dtypes = model.dtypes
    return {
        "folder": str(model.folder),
        "layout": "folder",
        "pipeline": model.index.pipeline,
        "family": model.family,
        "variant": model.variant,
        "title": model.title,
        "task": model.task,
        "presets": model.presets,
        "reader": model.reader,
        "parameters": sum(dtypes.values()),
        "dtypes": dtypes,
        "bytes": model.bytes,
        "components": {piece.name: _piece_table(piece) for piece in model.pieces},
        "missing": model.lacking,
        "beside": model.beside,
    }


def _piece_table(piece: Piece) -> dict[str, Any]:
    told: dict[str, Any] = {"class": piece.kind, "trouble": piece.trouble, "files": [str(file) for file in piece.files]}
    told |= {"prediction": piece.says} if piece.says else {}
    if piece.found:
        told |= {"parameters": piece.found.parameters, "dtypes": dict(piece.found.dtypes)}
    return told | (_component(piece.component) if piece.component else {})


def folder_lines(model: Survey) -> list[str]:
    """The same for a person."""
    said = [f"{model.title}{f', {model.task}' if model.task else ''}: a released folder of a {model.index.pipeline}"]
    said += _views(model.presets, model.reader)
    for piece in model.pieces:
        if piece.component:
            said += _part(piece.component, f", {'/'.join(piece.found.dtypes)}" if piece.found else "")
        elif piece.found:
            count = f"{piece.found.parameters:>14,} parameters, {'/'.join(piece.found.dtypes)}"
            said.append(f"{piece.name:<15} {count}, a {piece.kind}, which is compared with nothing")
        else:
            said.append(f"{piece.name:<15} {piece.kind}{f', {piece.says}' if piece.says else ''}")
        said += [f"  {piece.trouble}"] if piece.trouble else []
    said.append("formats     " + ", ".join(f"{name} {count:,}" for name, count in model.dtypes.items()))
    return said + _names("missing", model.lacking) + _names("not taken", model.beside)


def _indented(rows: list[str]) -> str:
    return "\n".join(f"  {row}" for row in rows)


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
        "presets": found.presets,
        "reader": found.reader,
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
        said += _views(found.presets, found.reader)
    else:
        said.append("of no kind that is known here")
    for part in found.components:
        said += _part(part)
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


def _views(presets: tuple[str, ...], reader: str) -> list[str]:
    """Which presets of views it may be, and what reads it."""
    same = ", which have the same layout" if len(presets) > 1 else ""
    return [f"preset      {' or '.join(presets)}{same}; {reader} reads it"] if presets else []


def _part(part: Component, more: str = "") -> list[str]:
    sizes = "the released sizes" if part.full else "sizes of its own, which are compared with nothing"
    rows = (("missing", part.missing), ("unexpected", part.extra), ("other shape", part.bent))
    said = [f"{part.part:<15} {part.parameters:>14,} parameters, {sizes}{more}"]
    return said + [line for word, names in rows for line in _names(word, names)]


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
