"""``safelight evaluate``: draws what was never trained, reads it back with the exact checker, and keeps the figures."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safelight.cli import verdicts
from safelight.cli.watch import Watch
from safelight.errors import RequestError

if TYPE_CHECKING:
    from PIL.Image import Image

    from safelight.evaluate.evidence import Claim, Finding

DEFAULT = "figurines"
PROMPTS, CURVE_PROMPTS, SAMPLES = 300, 100, 20
SUBJECTS = ("figurines", "adapters", "views")
PROOFS = ("--lora", "--embedding", "--control", "--image-adapter")
VIEWS = ("people", "also", "apart", "volumes")
STANDARD = {"prompts": PROMPTS, "steps": None, "guidance": None, "seed": 0, "sampler": None}
"""The trial that is promised something of: only its figures enter the checkout's evidence and a model's card."""
PICTURES = ("sheet", "curves", "neighbours")
"""What also writes a picture."""
MOST_ROWS, MOST_NEIGHBOURS = 64, 1_000_000


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of ``evaluate``."""
    add = parser.add_argument
    add("subject", choices=SUBJECTS, help="what is judged: models that draw figurines, adapters for one, or views")
    add("-m", "--model", metavar="MODEL", help="which model, by name or folder; by default the one that came along")
    add("--prompts", type=int, metavar="N", help="held-out prompts, 1 to 10000; 300 by default, 48 for adapters")
    add("--people", type=int, metavar="N", help="views: held-out people, 3 to 10000; 100 by default")
    add("--also", metavar="MODEL", action="append", help="views: another model on the same people; repeatable")
    add("--apart", action="store_true", help="views: also with each view drawn alone, and with four at a time")
    add("--volumes", type=int, metavar="N", help="views: also volumes fitted to the views of the first N people")
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
    add("--sheet", action="store_true", help="also a contact sheet")
    judged = parser.add_argument_group(
        "which adapters are judged, as `safelight train` taught them on figurines"
    ).add_argument
    judged("--lora", metavar="FILE", help="a golden frame, for the word 'framed'")
    judged("--embedding", metavar="FILE", help="the learned word <mira>")
    judged("--control", metavar="DIR", help="the ControlNet of normals")
    judged("--image-adapter", metavar="DIR", help="the IP-Adapter of portraits")
    add(
        "-o",
        "--output",
        metavar="FILE",
        help="the claims go here, pictures beside it under names that begin like it; by default a checkout keeps those "
        "of the default model's standard trial in evidence/figurines.json",
    )


def run(args: argparse.Namespace) -> int:
    """Judge, write and print; 1 if a promise was not kept."""
    if args.subject == "views":
        from safelight.cli.judged import run as judge

        return judge(args)
    args.model = args.model or DEFAULT
    if strange := verdicts.given(args, VIEWS):
        raise RequestError(f"{', '.join(strange)} is of 'evaluate views'; leave it out")
    if args.subject == "adapters":
        from safelight.cli.proofs import run as prove

        return prove(args)
    args.prompts = PROMPTS if args.prompts is None else args.prompts
    given = [flag for flag in PROOFS if getattr(args, flag.removeprefix("--").replace("-", "_")) is not None]
    if given:
        raise RequestError(f"{', '.join(given)} is of 'evaluate adapters'; leave it out")
    from safelight.evaluate.evidence import claim, record
    from safelight.evaluate.figurines import trial
    from safelight.evaluate.figurines.inscription import carded, inscribe
    from safelight.evaluate.figurines.pictures import Settings
    from safelight.evaluate.origin import cores, origin
    from safelight.generate.pipe import load

    place = _place(args)
    source = origin(_command(args))
    pipe = load(args.model, device=args.device)
    if args.card:
        carded(pipe.folder)
    settings = Settings(args.steps, args.guidance, args.seed, args.sampler, args.width, cores())
    watch = Watch()
    claims: list[Claim] = []

    def keep(findings: list[Finding]) -> None:
        """Write what was found at once: what comes after may fail."""
        found = [claim(finding, source) for finding in findings]
        claims.extend(found)
        if place:
            record(place, found)

    with watch:
        found = trial.trial(pipe, args.prompts, settings, watch)
        print(found.scores.table(), flush=True)
        keep(trial.verdicts(Path(pipe.name).name, found.scores, trial.BARS[args.bars]))
        if args.card:
            inscribe(pipe.folder, claims)
        for findings in _more(args, place, pipe, found, settings, watch):
            keep(findings)
    failed = [entry for entry in claims if entry.holds is False]
    for entry in failed:
        print(f"DOES NOT HOLD: {entry.claim}: {entry.value:g} ({entry.bar})", file=sys.stderr)
    return 1 if failed else 0


def _place(args: argparse.Namespace) -> Path | None:
    """Where the claims go, None for nowhere; everything that would lose them after the trial is found here.

    Raises:
        RequestError: a number out of its range, scores for a card that are not the standard trial's, or pictures that
            would lie beside a file that there is none of. FileError: something cannot be written.
    """
    from safelight.errors import FileError
    from safelight.evaluate.evidence import read
    from safelight.evaluate.origin import checkout
    from safelight.weights.folder import typed

    if not 1 <= args.width <= MOST_ROWS:
        raise RequestError(f"--width is a number from 1 to {MOST_ROWS}, not {args.width}")
    if args.neighbours is not None and not 1 <= args.neighbours <= MOST_NEIGHBOURS:
        raise RequestError(f"--neighbours is a number from 1 to {MOST_NEIGHBOURS}, not {args.neighbours}")
    others = [f"--{flag}" for flag, plain in STANDARD.items() if getattr(args, flag) != plain]
    if args.card and others:
        raise RequestError(
            f"a card holds the scores of the standard trial only; leave {', '.join(others)} or --card out"
        )
    root = None if others or args.model != DEFAULT else checkout()
    place = typed(args.output) if args.output else root / "evidence/figurines.json" if root else None
    pictures = [word for word in PICTURES if getattr(args, word)]
    if place is None:
        if pictures:
            raise RequestError(f"--{pictures[0]} needs -o FILE: its picture is written beside that file")
        return None
    if not place.parent.is_dir():
        raise FileError(f"{place.parent}: no such folder; make it or choose another with -o")
    for file in (place, *(_beside(place, word) for word in pictures)):
        if file.is_dir() or not os.access(place.parent, os.W_OK):
            raise FileError(f"{file}: cannot be written; choose another place with -o")
    read(place)
    return place


def _more(
    args: argparse.Namespace, place: Path | None, pipe: Any, found: Any, settings: Any, watch: Watch
) -> Iterator[list[Finding]]:
    """What was asked for beside the scores, one thing after the other; pictures are written after their figures."""
    from safelight.evaluate.figurines import curves, floors, neighbours, trial
    from safelight.figurines.render import portrait

    name = Path(pipe.name).name
    if args.sheet:
        _save(trial.contact_sheet(found), place, "sheet")
    if args.floors:
        yield trial.of_ceilings(name, floors.ceilings(pipe, found.prompts, settings.workers, watch))
        yield trial.of_floors(name, floors.floors(found.prompts, found.seen, settings.workers, watch))
    if args.curves:
        points = curves.curves(pipe, found.prompts[:CURVE_PROMPTS], settings, watch)
        yield trial.of_curves(name, points)
        _save(curves.chart(points), place, "curves")
    if args.neighbours:
        people = neighbours.trained(args.neighbours)
        samples = list(found.pictures[:SAMPLES])
        true = [portrait(prompt.person) for prompt in found.prompts[:SAMPLES]]
        near = neighbours.nearest(samples + true, people, settings.workers, watch)
        drawn, real = near[: len(samples)], near[len(samples) :]
        yield trial.of_neighbours(name, drawn, real, len(people))
        _save(neighbours.side_by_side(samples, drawn), place, "neighbours")


def _save(picture: Image, place: Path | None, word: str) -> None:
    """Write a picture beside the claims, whole or not at all."""
    from safelight.train.journal import save_png

    assert place is not None  # `_place` asked for one
    save_png(picture, _beside(place, word))


def _beside(place: Path, word: str) -> Path:
    """``evidence/figurines.json`` and ``sheet`` -> ``evidence/figurines-sheet.png``."""
    return place.with_name(f"{place.stem}-{word}.png")


def _command(args: argparse.Namespace) -> str:
    """The command that does this again, without folders of this machine."""
    words = ["safelight", "evaluate", args.subject]
    words += ["-m", Path(args.model).name] if args.model != DEFAULT else []
    for flag, plain in {**STANDARD, "width": 16, "bars": "cpu", "neighbours": None}.items():
        if (value := getattr(args, flag)) != plain:
            words += [f"--{flag}", str(value)]
    words += [f"--{flag}" for flag in ("floors", "curves", "sheet") if getattr(args, flag)]
    return shlex.join(words)
