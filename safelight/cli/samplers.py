"""``safelight samplers``: prints the table of samplers, one row whole, or measures what samplers do to pictures."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safelight.cli.watch import Watch

if TYPE_CHECKING:
    from safelight.core.samplers.row import Sampler

DEFAULT = "figurines"
PROMPT = "a person with green hair and a red hat"
PICTURES = 8
STEPS = (5, 10, 20, 50)
PROGRAMS = {
    "a1111": "A1111",
    "comfyui": "ComfyUI",
    "diffusers": "diffusers",
    "k_diffusion": "k-diffusion",
    "sd_cpp": "stable-diffusion.cpp",
}


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of ``samplers``."""
    add = parser.add_argument
    add("name", nargs="?", metavar="NAME", help="one sampler, in the spelling of any program; all by default")
    add("--json", action="store_true", help="print one JSON object: name -> row")
    add("--plot", metavar="FILE", help="draw NAME's levels, its error, and one seed at 5 to 50 steps")
    add("--prompt", metavar="TEXT", default=PROMPT, help="what --plot draws; %(default)r by default")
    add("--seed", type=int, metavar="N", default=0, help="seed of what --plot draws")
    add("--measure", action="store_true", help="score every sampler, or NAME, on pictures, and keep the figures")
    counted = "pictures that --measure draws; %(default)s by default"
    add("--pictures", type=int, metavar="N", default=PICTURES, help=counted)
    add("-m", "--model", metavar="MODEL", default=DEFAULT, help="what draws for --plot and --measure")
    add("-o", "--output", metavar="FILE", help="where the claims go; a checkout keeps them in evidence/samplers.json")


def run(args: argparse.Namespace) -> int:
    """Print, plot or measure."""
    from safelight.core.samplers.table import SAMPLERS, split
    from safelight.errors import RequestError

    rows = [split(args.name)[0]] if args.name else list(SAMPLERS.values())
    if args.plot and not args.name:
        raise RequestError("--plot draws one sampler; name it, such as 'safelight samplers euler --plot euler.png'")
    if words := _idle(args):
        raise RequestError(words)
    if args.measure and not 1 <= args.pictures <= 1000:
        raise RequestError(f"--pictures is a number from 1 to 1000, not {args.pictures}")
    if args.plot:
        return _plot(args, rows[0])
    if args.measure:
        return _measure(args, [row.name for row in rows])
    if args.json:
        print(json.dumps({row.name: _facts(row) for row in rows}))
    elif args.name:
        print("\n".join(_whole(rows[0])))
    else:
        print("\n".join(_table(rows)))
    return 0


def _idle(args: argparse.Namespace) -> str | None:
    """Flags that would do nothing together, or None."""
    ways = [flag for flag in ("--plot", "--measure", "--json") if getattr(args, flag[2:])]
    if len(ways) > 1:
        return f"{' and '.join(ways)} answer different questions; give one"
    if args.plot and Path(args.plot).suffix.lower() != ".png":
        return f"--plot draws a PNG; let its name end in .png, not {Path(args.plot).name!r}"
    drawn, measured = bool(args.plot), bool(args.measure)
    for flag, changed, used, needs in (
        ("--prompt", args.prompt != PROMPT, drawn, "--plot"),
        ("--seed", args.seed != 0, drawn, "--plot"),
        ("--pictures", args.pictures != PICTURES, measured, "--measure"),
        ("--output", args.output is not None, measured, "--measure"),
        ("--model", args.model != DEFAULT, drawn or measured, "--plot or --measure"),
    ):
        if changed and not used:
            return f"{flag} does nothing without {needs}"
    return None


def _facts(row: Sampler) -> dict[str, Any]:
    """A row as JSON."""
    return {
        "order": row.order,
        "rule_order": row.rule_order,
        "evaluations": _pace(row),
        "stochastic": row.stochastic,
        "noise": row.noise if row.stochastic else None,
        "uncond": row.uncond,
        "paper": row.paper,
        "options": {name: value if value != float("inf") else "inf" for name, value in row.options.items()},
        "instead": row.instead or None,
        "names": {PROGRAMS[program]: list(getattr(row.names, program)) for program in PROGRAMS},
    }


def _pace(row: Sampler) -> str:
    """How often it asks in n steps that end clean: ``n``, ``2n - 1``, ...; ``adaptive`` where nobody knows before."""
    from safelight.core.path import vp_scaled_linear
    from safelight.core.schedule import trailing

    path = vp_scaled_linear()
    counts = [row.evaluations(trailing(path, n), path) for n in (12, 24)]
    few, many = counts
    if few is None or many is None:
        return "adaptive"
    slope = round((many - few) / 12)
    rest = few - 12 * slope
    if many - 24 * slope != rest:
        return f"{few} for n = 12"
    return ("n" if slope == 1 else f"{slope}n") + (f" {'+' if rest > 0 else '-'} {abs(rest)}" if rest else "")


def _table(rows: Sequence[Sampler]) -> list[str]:
    """The table as text: one line a sampler."""
    heads = ("name", "order", "evaluations", "noise", "paper", "elsewhere")
    lines = [heads]
    for row in rows:
        elsewhere = next((name for name in (*row.names.a1111, *row.names.diffusers, *row.names.all)), "")
        noise = row.noise if row.stochastic else "-"
        mark = " !" if row.instead else " *" if row.uncond else ""
        order = str(row.order) if row.order else "-"
        lines.append((row.name + mark, order, _pace(row), noise, row.paper, elsewhere))
    widths = [max(len(line[i]) for line in lines) for i in range(len(heads))]
    told = ["  ".join(word.ljust(width) for word, width in zip(line, widths)).rstrip() for line in lines]
    told.append("")
    told.append("n: steps that end clean.  *: needs the unguided answer, and has a guidance scale of its own, about 1.")
    told.append("!: reproduces a known error of other programs; 'safelight samplers NAME' says which row is right.")
    return told


def _whole(row: Sampler) -> list[str]:
    """One row, a fact a line."""
    facts = _facts(row)
    told = [row.name, f"  function: {row.function.__module__.removeprefix('safelight.')}.{row.function.__name__}"]
    told += [f"  order: {row.order or '-'} of a run, {row.rule_order or '-'} of one step from an exact history"]
    told += [f"  evaluations: {facts['evaluations']} in n steps that end clean"]
    told += [f"  noise: {facts['noise'] or 'none'}", f"  paper: {row.paper}"]
    if row.uncond:
        told.append("  needs the unguided answer, and has a guidance scale of its own, about 1")
    if row.instead:
        told.append(f"  reproduces a known error of other programs; the correct mathematics is {row.instead!r}")
    told += [f"  option {name}: {value}" for name, value in row.options.items()]
    told += [f"  {PROGRAMS[program]}: {', '.join(getattr(row.names, program))}" for program in PROGRAMS]
    return [line if not line.endswith(": ") else line + "-" for line in told]


def _plot(args: argparse.Namespace, row: Sampler) -> int:
    from safelight.evaluate.samplers import own_curve, page
    from safelight.generate.pipe import load
    from safelight.train.journal import save_png
    from safelight.weights.folder import typed

    place, pipe = typed(args.plot), load(args.model)
    _writable(place)
    with Watch() as watch:
        points = own_curve(pipe, row.name, STEPS, args.prompt, args.seed, watch)
    save_png(page(pipe, row, points, args.prompt, args.seed), place)
    for n, point in points.items():
        print(f"{n} steps, {point.evaluations:g} evaluations: {point.distance:.4g} from {row.name}'s own limit")
    print(place)
    return 0


def _measure(args: argparse.Namespace, names: Sequence[str]) -> int:
    from safelight.evaluate.evidence import claim, record
    from safelight.evaluate.figurines.prompts import held_out
    from safelight.evaluate.origin import checkout, origin
    from safelight.evaluate.samplers import BUDGETS, findings, measure
    from safelight.generate.pipe import load
    from safelight.weights.folder import typed

    root = checkout() if args.model == DEFAULT else None
    place = typed(args.output) if args.output else root / "evidence/samplers.json" if root else None
    if place:
        _writable(place)
    source = origin(f"safelight samplers --measure --pictures {args.pictures}")
    pipe = load(args.model)
    prompts = held_out(args.pictures)
    with Watch() as watch:
        for point in measure(pipe, names, prompts, min(16, 2 * len(prompts)), watch):
            far = "" if point.distance is None else f", {point.distance:.4g} from the solution"
            print(f"{point.sampler}: {point.evaluations:.3g} evaluations: {point.score:.1%} right{far}", flush=True)
            if place:  # at once: a measurement that is stopped loses nothing
                record(place, [claim(finding, source) for finding in findings(point, len(prompts))])
    if not place:
        print(f"nothing was kept: name a file with -o (budgets of {', '.join(map(str, BUDGETS))} evaluations)")
    return 0


def _writable(place: Path) -> None:
    """FileError before anything is computed, where a file could not be written after it."""
    import os

    from safelight.errors import FileError

    if place.is_dir() or not place.parent.is_dir() or not os.access(place.parent, os.W_OK):
        raise FileError(f"{place}: cannot be written; choose a file in a folder that exists")
