"""``safelight evaluate adapters``: what adapters add to a model that draws figurines, in figures and on a sheet."""

from __future__ import annotations

import argparse
from pathlib import Path

from safelight.cli import verdicts
from safelight.cli.watch import Watch
from safelight.errors import RequestError

COUNT, MOST = 48, 10_000
FILES = {"lora": "lora", "embedding": "embedding", "control": "controlnet", "image_adapter": "ip-adapter"}
"""Flags, by their names in Python, and the kind of adapter that each names."""
OTHERS = ("floors", "curves", "neighbours", "card")


def run(args: argparse.Namespace) -> int:
    """Judge, write and print; 1 if a promise was not kept."""
    place = _place(args)
    from safelight.evaluate.figurines.adapters import Files, Trial, contact_sheet, prove
    from safelight.evaluate.figurines.pictures import Settings
    from safelight.evaluate.origin import cores, origin
    from safelight.generate.adapters import locate
    from safelight.generate.pipe import load
    from safelight.train.journal import save_png

    for name, kind in FILES.items():
        if given := getattr(args, name):
            locate(kind, given)
    source = origin(_command(args))
    settings = Settings(args.steps, args.guidance, args.seed, args.sampler, 0, cores())
    pipe = load(args.model, device=args.device)
    with Watch() as watch:
        trial = Trial(pipe, _count(args), settings, watch)
        found = prove(trial, Files(*(getattr(args, name) for name in FILES)))
        failed = verdicts.told(found, source, place)
        if args.sheet and place:
            save_png(contact_sheet(trial), place.with_name(f"{place.stem}-sheet.png"))
    return 1 if failed else 0


def _place(args: argparse.Namespace) -> Path | None:
    """Where the claims go; None for nowhere.

    Raises:
        RequestError: nothing to judge, or flags of another subject.
    """
    if not any(getattr(args, name) for name in FILES):
        raise RequestError("name the adapters that are judged: --lora, --embedding, --control, --image-adapter")
    if strange := verdicts.given(args, OTHERS):
        raise RequestError(f"{', '.join(strange)} is of 'evaluate figurines'; leave it out")
    if not 1 <= _count(args) <= MOST:
        raise RequestError(f"the prompts must number between 1 and {MOST}, not {args.prompts}")
    return verdicts.beside(args)


def _count(args: argparse.Namespace) -> int:
    return COUNT if args.prompts is None else int(args.prompts)


def _command(args: argparse.Namespace) -> str:
    """The command that does this again, without folders of this machine."""
    judged = []
    for name in FILES:
        if value := getattr(args, name):
            judged += [f"--{name.replace('_', '-')}", Path(value).name]
    flags = ("prompts", "steps", "guidance", "sampler")
    return verdicts.again(args, "adapters", "-m", Path(args.model).name, *judged, flags=flags)
