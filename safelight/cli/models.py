"""``safelight models``: lists what came with the program, models and adapters, and what lies in others' folders."""

from __future__ import annotations

import argparse
import json
from typing import Any


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of ``models``."""
    parser.add_argument("--json", action="store_true", help="print one JSON object: name -> where and what")


def run(args: argparse.Namespace) -> int:
    """Print names, folders and cards."""
    from safelight.generate.source import ADAPTERS, DEFAULT, adapters, shipped, viewers
    from safelight.runtime.folders import folders
    from safelight.weights.notes import notes
    from safelight.weights.shelf import model_folders, shelved

    drawing = shipped()
    places = drawing | viewers()
    found = {name: {"folder": str(place), "card": notes(place).get("card", {})} for name, place in places.items()}
    shelves = {place: list(shelved(place)) for place in model_folders(folders().config)}
    if args.json:
        theirs = {each.name: {"file": str(each.path), "kind": each.kind} for rows in shelves.values() for each in rows}
        mine = {name: {"file": str(place), "kind": kind} for kind in ADAPTERS for name, place in adapters(kind).items()}
        print(json.dumps(theirs | mine | found))
        return 0
    if not drawing:
        print(
            "no model came with this installation; name a folder with -m, or make one with 'safelight train figurines'"
        )
    for name, row in found.items():
        print(f"{name}{' (the default)' if name == DEFAULT else ''}\n  folder: {row['folder']}")
        print("\n".join(lines(row["card"], "  ")))
    worn = [(kind, name) for kind in ADAPTERS for name in adapters(kind)]
    if worn:
        print("adapters that came along")
    for kind, name in worn:
        print(f"  {kind:<15} {name}")
    for place, rows in shelves.items():
        print(f"{place}" + ("" if rows else f"\n  nothing is there; {folders().config} names it"))
        for each in rows:
            print(f"  {each.kind:<15} {each.name}")
    return 0


def lines(value: Any, indent: str) -> list[str]:
    """A card, which is nested tables of short texts and numbers, one entry a line."""
    if not isinstance(value, dict):
        return [f"{indent}{value}"]
    told = []
    for key, each in value.items():
        if isinstance(each, dict):
            told += [f"{indent}{key}:", *lines(each, indent + "  ")]
        else:
            told.append(f"{indent}{key}: {', '.join(map(str, each)) if isinstance(each, list) else each}")
    return told
