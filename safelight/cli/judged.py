"""``safelight evaluate views``: what a model of views draws of held-out people, beside floors and the truth."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from safelight.cli import verdicts
from safelight.cli.watch import Watch
from safelight.errors import RequestError

if TYPE_CHECKING:
    import numpy as np

    from safelight.evaluate.evidence import Finding
    from safelight.evaluate.views.trial import Exam
    from safelight.multiview.model import ViewModel

PEOPLE, MOST = 100, 10_000
DEFAULT = "figurines-views"
OTHERS = ("prompts", "floors", "curves", "neighbours", "card", "lora", "embedding", "control", "image_adapter")


def run(args: argparse.Namespace) -> int:
    """Judge, write and print; 1 if a promise was not kept."""
    place = _place(args)
    from safelight.cli.views import located
    from safelight.evaluate.origin import origin
    from safelight.evaluate.views.drawn import contact_sheet
    from safelight.multiview.model import load
    from safelight.runtime.device import pick
    from safelight.train.journal import save_png

    model = load(located(args.model or DEFAULT), pick(args.device))
    flags = ("people", "steps", "guidance", "sampler")
    source = origin(verdicts.again(args, "views", "-m", model.name, flags=flags))
    with Watch() as watch:
        held, views = _drawn(args, model, watch)
        failed = verdicts.told(_findings(model.name, held, views, watch), source, place)
        if args.sheet and place:
            save_png(contact_sheet(held.truths, views), place.with_name(f"{place.stem}-sheet.png"))
    return 1 if failed else 0


def _drawn(args: argparse.Namespace, model: ViewModel, watch: Watch) -> tuple[Exam, np.ndarray]:
    from safelight.evaluate.views.drawn import Settings, drawn
    from safelight.evaluate.views.trial import exam
    from safelight.evaluate.views.truth import cameras

    held = exam(_count(args), cameras(size=model.preset.size), watch)
    return held, drawn(model, held.truths, Settings(args.steps, args.guidance, args.seed, args.sampler), watch)


def _findings(name: str, held: Exam, views: np.ndarray, watch: Watch) -> Iterator[Finding]:
    """The truth and the floors first: they say whether the trial can be trusted."""
    from safelight.evaluate.origin import cores
    from safelight.evaluate.views import baselines, report
    from safelight.evaluate.views.trial import measure

    floors = {}
    for row, drawn in baselines.rows(held.truths, baselines.mean(held.cameras)).items():
        floors[row] = measure(drawn, held, cores(), watch)
        said = {"ground truth": report.of_truth, "constant grey": report.of_grey}.get(row)
        yield from said(floors[row]) if said else report.of_floor(row, floors[row])
    yield from report.of_model(name, measure(views, held, cores(), watch), floors)


def _place(args: argparse.Namespace) -> Path | None:
    """Where the claims go; None for nowhere.

    Raises:
        RequestError: flags of another subject, or numbers out of range. FileError: the folder is not there.
    """
    strange = [f"--{name.replace('_', '-')}" for name in OTHERS if getattr(args, name)]
    if strange:
        raise RequestError(f"{', '.join(strange)} is of another subject than views; leave it out")
    if not 3 <= _count(args) <= MOST:
        raise RequestError(f"people number between 3 (they are shuffled) and {MOST}, not {args.people}")
    return verdicts.beside(args)


def _count(args: argparse.Namespace) -> int:
    return PEOPLE if args.people is None else int(args.people)
