"""``safelight evaluate``: draws what was never trained, reads it back with the exact checker, and keeps the figures."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safelight.cli.bar import Bar

if TYPE_CHECKING:
    from safelight.evaluate.evidence import Finding

DEFAULT = "figurines"
PROMPTS, CURVE_PROMPTS, SAMPLES = 300, 100, 20
LINE_EVERY = 30.0
"""Seconds between lines where there is no terminal to draw a bar on."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of ``evaluate``."""
    add = parser.add_argument
    add("subject", choices=["figurines"], help="what is judged: models that draw figurines")
    add("-m", "--model", metavar="MODEL", default=DEFAULT, help="which model, by name or folder")
    add(
        "--prompts", type=int, metavar="N", default=PROMPTS, help="held-out prompts, 1 to 10000; %(default)s by default"
    )
    add("--steps", type=int, metavar="N", help="steps of each picture; by default the model's own")
    add("--guidance", type=float, metavar="S", help="guidance; by default the model's own")
    add("--seed", type=int, metavar="N", default=0, help="seed of the first picture, the next has one more")
    add("--sampler", metavar="NAME", help="sampler; by default the model's own")
    add("--width", type=int, metavar="N", default=16, help="rows of a network call; more draw faster")
    add("--device", metavar="D", help="cpu, cuda, ...; by default the best there is")
    add(
        "--bars",
        choices=["cpu", "accelerator"],
        default="cpu",
        help="what is promised: by what the model was trained on",
    )
    add(
        "--floors", action="store_true", help="also the checker's ceilings (true renders) and floors (noise, strangers)"
    )
    add("--curves", action="store_true", help="also the scores against steps and against guidance, with a chart")
    add("--neighbours", type=int, metavar="N", help="also the nearest of N training pictures for each of 20 samples")
    add("--card", action="store_true", help="also write the scores into the model's own card")
    add("--sheet", action="store_true", help="also a contact sheet of 24 prompts")
    add(
        "-o",
        "--output",
        metavar="FILE",
        default="evidence/figurines.json",
        help="the claims go here, pictures beside it under names that begin like it; by default %(default)s",
    )


def run(args: argparse.Namespace) -> int:
    """Judge, write and print; 1 if a promise was not kept."""
    from safelight.errors import FileError
    from safelight.evaluate.evidence import claim, record
    from safelight.evaluate.figurines import trial
    from safelight.evaluate.figurines.inscription import inscribe
    from safelight.evaluate.figurines.pictures import Settings
    from safelight.evaluate.origin import origin
    from safelight.generate.pipe import load

    place = Path(args.output)
    if not place.parent.is_dir():
        raise FileError(f"{place.parent}: no such folder; make it or choose another with -o")
    source = origin(_command(args))
    pipe = load(args.model, device=args.device)
    settings = Settings(args.steps, args.guidance, args.seed, args.sampler, args.width, _cores())
    watch = _Watch()
    with watch.bars:
        found = trial.trial(pipe, args.prompts, settings, watch)
        findings = trial.verdicts(Path(pipe.name).name, found.scores, trial.BARS[args.bars])
        findings += _more(args, pipe, found, settings, watch)
    print(found.scores.table())
    claims = [claim(finding, source) for finding in findings]
    record(place, claims)
    if args.card:
        inscribe(pipe.folder, claims)
    failed = [entry for entry in claims if entry.holds is False]
    for entry in failed:
        print(f"DOES NOT HOLD: {entry.claim}: {entry.value:g} ({entry.bar})", file=sys.stderr)
    return 1 if failed else 0


def _more(args: argparse.Namespace, pipe: Any, found: Any, settings: Any, watch: _Watch) -> list[Finding]:
    """What was asked for beside the scores; its pictures are written at once."""
    from safelight.evaluate.figurines import curves, floors, neighbours, trial
    from safelight.figurines.render import portrait

    name, findings = Path(pipe.name).name, []
    if args.sheet:
        trial.contact_sheet(found).save(_beside(args.output, "sheet"))
    if args.floors:
        findings += trial.of_ceilings(name, floors.ceilings(pipe, found.prompts, settings.workers, watch))
        findings += trial.of_floors(name, floors.floors(found.prompts, found.seen, settings.workers, watch))
    if args.curves:
        points = curves.curves(pipe, found.prompts[:CURVE_PROMPTS], settings, watch)
        findings += trial.of_curves(name, points)
        curves.chart(points).save(_beside(args.output, "curves"))
    if args.neighbours:
        people = neighbours.trained(args.neighbours)
        samples = list(found.pictures[:SAMPLES])
        true = [portrait(prompt.person) for prompt in found.prompts[:SAMPLES]]
        near = neighbours.nearest(samples + true, people, settings.workers, watch)
        drawn, real = near[: len(samples)], near[len(samples) :]
        findings += trial.of_neighbours(name, drawn, real, len(people))
        neighbours.side_by_side(samples, drawn).save(_beside(args.output, "neighbours"))
    return findings


def _beside(output: str, word: str) -> Path:
    """``evidence/figurines.json`` and ``sheet`` -> ``evidence/figurines-sheet.png``."""
    return Path(output).with_name(f"{Path(output).stem}-{word}.png")


class _Watch:
    """Shows one bar after the other: a new one where something else, or the same anew, is begun."""

    def __init__(self) -> None:
        self.bars = ExitStack()
        self.bar: Bar | None = None

    def __call__(self, what: str, done: int, total: int) -> None:
        """See `safelight.evaluate.figurines.pictures.Tell`."""
        if self.bar is None or (self.bar.title, self.bar.total) != (what, total) or done < self.bar.done:
            self.bars.close()
            self.bar = self.bars.enter_context(Bar(what, total, every=LINE_EVERY, keep=True))
        self.bar.move(done)


def _command(args: argparse.Namespace) -> str:
    """The command that does this again, without folders of this machine."""
    words = ["safelight", "evaluate", args.subject]
    words += ["-m", Path(args.model).name] if args.model != DEFAULT else []
    for flag, plain in (("prompts", PROMPTS), ("steps", None), ("guidance", None), ("seed", 0), ("sampler", None),
                        ("width", 16), ("bars", "cpu"), ("neighbours", None)):  # fmt: skip
        if (value := getattr(args, flag)) != plain:
            words += [f"--{flag}", str(value)]
    words += [f"--{flag}" for flag in ("floors", "curves", "sheet") if getattr(args, flag)]
    return shlex.join(words)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
