"""``safelight evaluate adapters``: what adapters add to a model that draws figurines, in figures and on a sheet."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from safelight.cli.watch import Watch
from safelight.errors import FileError, RequestError
from safelight.weights.folder import typed

COUNT, MOST = 48, 10_000
FILES = ("lora", "embedding", "control", "image_adapter")
OTHERS = ("floors", "curves", "neighbours", "card")


def run(args: argparse.Namespace) -> int:
    """Judge, write and print; 1 if a promise was not kept."""
    place = _place(args)
    from safelight.evaluate.evidence import claim, record
    from safelight.evaluate.figurines.adapters import Files, Trial, contact_sheet, prove
    from safelight.evaluate.figurines.pictures import Settings
    from safelight.evaluate.origin import cores, origin
    from safelight.generate.pipe import load
    from safelight.train.journal import save_png

    source, watch = origin(_command(args)), Watch()
    settings = Settings(args.steps, args.guidance, args.seed, args.sampler, 0, cores())
    pipe = load(args.model, device=args.device)
    failed = 0
    with watch:
        trial = Trial(pipe, _count(args), settings, watch)
        for finding in prove(trial, Files(*(getattr(args, name) for name in FILES))):
            found = claim(finding, source)
            if place:
                record(place, [found])
            held = {True: "holds", False: "DOES NOT HOLD", None: ""}[found.holds]
            print(f"{found.value:>8g}  {found.bar or '':<8} {found.claim} ({found.unit})  {held}", flush=True)
            failed += found.holds is False
        if args.sheet and place:
            save_png(contact_sheet(trial), place.with_name(f"{place.stem}-sheet.png"))
    return 1 if failed else 0


def _place(args: argparse.Namespace) -> Path | None:
    """Where the claims go; None for nowhere.

    Raises:
        RequestError: nothing to judge, or flags of another subject. FileError: the folder is not there.
    """
    if not any(getattr(args, name) for name in FILES):
        raise RequestError("name the adapters that are judged: --lora, --embedding, --control, --image-adapter")
    strange = [f"--{name}" for name in OTHERS if getattr(args, name)]
    if strange:
        raise RequestError(f"{', '.join(strange)} is of 'evaluate figurines'; leave it out")
    if not 1 <= _count(args) <= MOST:
        raise RequestError(f"the prompts must number between 1 and {MOST}, not {args.prompts}")
    for name in ("lora", "embedding"):
        file = getattr(args, name)
        if file and not typed(file).is_file():
            raise FileError(f"{file}: no such file; --{name} takes what 'safelight train' exported")
    if args.sheet and not args.output:
        raise RequestError("--sheet needs -o FILE: its picture is written beside that file")
    place = typed(args.output) if args.output else None
    if place and not place.parent.is_dir():
        raise FileError(f"{place.parent}: no such folder; make it or choose another with -o")
    return place


def _count(args: argparse.Namespace) -> int:
    return COUNT if args.prompts is None else int(args.prompts)


def _command(args: argparse.Namespace) -> str:
    """The command that does this again, without folders of this machine."""
    words = ["safelight", "evaluate", "adapters", "-m", Path(args.model).name]
    for name in FILES:
        if value := getattr(args, name):
            words += [f"--{name.replace('_', '-')}", Path(value).name]
    for name in ("prompts", "steps", "guidance", "sampler"):
        if (value := getattr(args, name)) is not None:
            words += [f"--{name}", str(value)]
    return shlex.join([*words, *(["--seed", str(args.seed)] if args.seed else [])])
