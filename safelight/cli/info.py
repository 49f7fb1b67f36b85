"""``safelight info``: prints what a picture's own file says of how it was drawn; loads no torch."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from safelight.generate.metadata.settings import Settings
    from safelight.generate.recipe import Recipe


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of ``info``."""
    parser.add_argument("file", metavar="FILE", help="a picture that safelight, or another program, wrote")
    parser.add_argument("--json", action="store_true", help="print the recipe as one JSON object")


def run(args: argparse.Namespace) -> int:
    """Print the recipe, or the settings that another program wrote."""
    from safelight.generate.file import RECIPES, open_picture
    from safelight.generate.metadata import dialect
    from safelight.generate.metadata.carrier import PARAMETERS, RECIPE, texts
    from safelight.generate.recipe import recipe_in

    picture = open_picture(args.file, RECIPES)
    found = texts(picture)
    settings = None if RECIPE in found else dialect.read(found)
    if settings is not None:
        told = settings.told() | ({PARAMETERS: found[PARAMETERS]} if PARAMETERS in found and args.json else {})
        print(json.dumps(told) if args.json else "\n".join(rows_of(settings)))
        return 0
    recipe = recipe_in(picture)
    print(json.dumps(json.loads(recipe.json())) if args.json else "\n".join(lines(recipe)))
    return 0


def rows_of(settings: Settings) -> list[str]:
    """Settings for a person: a name and a value a line, those that nobody knows under their own names."""
    said = settings.told()
    rows: dict[str, Any] = {"prompt": said.pop("prompt")}
    other, unread, loras = said.pop("other", {}), said.pop("unread", ()), said.pop("loras", ())
    for name, value in said.items():
        if name == "size":
            value = "x".join(map(str, value))
        elif name == "hires":
            value = ", ".join(f"{key} {each}" for key, each in value.items())
        elif name == "variation":
            value = f"seed {value[0]}, strength {value[1]:g}"
        rows[name.replace("_", " ")] = value
    rows |= {f"lora {name}": f"{weight:g}" for name, weight in loras} | {name: other[name] for name in other}
    width = max(map(len, rows))
    told = [f"{name:<{width}}  {value}" for name, value in rows.items()]
    return [harmless(line) for line in told + [f"not followed: {each}" for each in unread]]


def lines(recipe: Recipe) -> list[str]:
    """A recipe for a person: a name and a value a line, the levels counted."""
    told: dict[str, Any] = json.loads(recipe.json())
    levels, model = told.pop("levels"), told.pop("model")
    rows = {"prompt": told.pop("prompt"), "model": f"{model.get('name')} ({model.get('family')})"}
    for name, value in told.items():
        if name == "steps":
            value = f"{len(levels) - 1} of {value}" if len(levels) - 1 != value else value
        if isinstance(value, dict):
            value = ", ".join(f"{key} {each}" for key, each in value.items())
        elif name == "size":
            value = "x".join(map(str, value))
        if value not in (None, ""):
            rows[name] = value
    rows["levels"] = f"alpha {levels[0][0]:.6g} to {levels[-1][0]:.6g}, t {levels[0][2]:g} to {levels[-1][2]:g}"
    rows |= {f"file {name}": digest for name, digest in model.get("files", {}).items()}
    width = max(map(len, rows))
    return [harmless(f"{name:<{width}}  {value}") for name, value in rows.items()]


def harmless(text: str) -> str:
    """A text of a stranger's file without what would move a terminal's cursor or change its colours."""
    return "".join(sign if sign.isprintable() or sign == "\n" else ascii(sign)[1:-1] for sign in text)
