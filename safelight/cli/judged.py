"""``safelight evaluate views``: what a model of views draws of held-out people, beside floors and the truth."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from safelight.cli import verdicts
from safelight.cli.watch import Watch
from safelight.errors import RequestError

if TYPE_CHECKING:
    import numpy as np

    from safelight.evaluate.evidence import Finding
    from safelight.evaluate.views.drawn import Settings
    from safelight.evaluate.views.trial import Exam, Measured
    from safelight.multiview.model import ViewModel

PEOPLE, MOST = 100, 10_000
DEFAULT = "figurines-views"
OTHERS = ("prompts", "floors", "curves", "neighbours", "card", "lora", "embedding", "control", "image_adapter")


def run(args: argparse.Namespace) -> int:
    """Judge, write and print; 1 if a promise was not kept."""
    place = _place(args)
    from safelight.cli.views import located
    from safelight.evaluate.origin import origin
    from safelight.evaluate.views.drawn import contact_sheet, drawn
    from safelight.evaluate.views.trial import exam
    from safelight.evaluate.views.truth import cameras
    from safelight.multiview.model import load
    from safelight.runtime.device import pick
    from safelight.train.journal import save_png

    model, *others = (load(located(name), pick(args.device)) for name in (args.model or DEFAULT, *(args.also or [])))
    for other in others:
        if other.preset.size != model.preset.size or other.name == model.name:
            raise RequestError(
                f"{model.name} ({model.preset.size} pixels) and {other.name} ({other.preset.size}): models judged "
                "on the same people draw pictures of one size, and have names of their own"
            )
    flags = ("people", "steps", "guidance", "sampler", "also", "apart", "volumes")
    source = origin(verdicts.again(args, "views", "-m", model.name, flags=flags))
    with Watch() as watch:
        held = exam(_count(args), cameras(size=model.preset.size), watch)
        rows = [(one, drawn(one, held.truths, _settings(args), watch, _workers(one))) for one in (model, *others)]
        failed = verdicts.told(_findings(args, rows, held, watch), source, place)
        if args.sheet and place:
            for one, views in rows:
                mark = "" if one is model else f"-{one.name}"
                save_png(contact_sheet(held.truths, views), place.with_name(f"{place.stem}-sheet{mark}.png"))
    return 1 if failed else 0


def _workers(model: ViewModel) -> int:
    """Processes that draw: a core each, or one for an accelerator."""
    from safelight.evaluate.origin import cores

    return cores() if next(model.network.parameters()).device.type == "cpu" else 1


def _settings(args: argparse.Namespace, at_once: int | None = None) -> Settings:
    from safelight.evaluate.views.drawn import Settings

    return Settings(args.steps, args.guidance, args.seed, args.sampler, at_once)


def _findings(
    args: argparse.Namespace, rows: Sequence[tuple[ViewModel, np.ndarray]], held: Exam, watch: Watch
) -> Iterator[Finding]:
    """The truth and the floors first: they say whether the trial can be trusted.

    Args:
        rows: what each model drew; all that takes long is asked of the first.
    """
    from safelight.evaluate.origin import cores
    from safelight.evaluate.views import baselines, report
    from safelight.evaluate.views.trial import measure

    floors = {}
    for row, pictures in baselines.rows(held.truths, baselines.mean(held.cameras)).items():
        floors[row] = measure(pictures, held, cores(), watch)
        said = {"ground truth": report.of_truth, "constant grey": report.of_grey}.get(row)
        yield from said(floors[row]) if said else report.of_floor(row, floors[row])
    (model, views), *others = rows
    together = measure(views, held, cores(), watch)
    yield from report.of_model(model.name, together, floors)
    for other, theirs in others:
        yield from report.of_model(other.name, measure(theirs, held, cores(), watch), floors)
    if args.apart:
        yield from _apart(args, model, held, together, watch)
    if args.volumes:
        yield from _volumes(args, model.name, held, views, watch)


def _apart(
    args: argparse.Namespace, model: ViewModel, held: Exam, together: Measured, watch: Watch
) -> Iterator[Finding]:
    """The same views with the same noise, drawn in smaller sets: what is gained, or lost, by reading more others."""
    from safelight.evaluate.origin import cores
    from safelight.evaluate.views import report
    from safelight.evaluate.views.drawn import ALONE, FEW, drawn
    from safelight.evaluate.views.trial import measure

    unread = replace(held, stated=None)  # the checker takes longer than all the rest
    rows = {}
    for at_once, words in ((ALONE, "each view alone"), (FEW, f"{FEW} views at a time")):
        views = drawn(model, held.truths, _settings(args, at_once), watch, _workers(model))
        rows[at_once] = measure(views, unread, cores(), watch)
        yield from report.of_floor(f"{model.name}, {words}", rows[at_once])
    yield report.of_more_views(model.name, rows[FEW], together, FEW)


def _volumes(args: argparse.Namespace, name: str, held: Exam, views: np.ndarray, watch: Watch) -> Iterator[Finding]:
    from safelight.evaluate.views import report
    from safelight.evaluate.views.trial import volumes
    from safelight.evaluate.views.truth import BETWEEN, cameras

    between = cameras(BETWEEN, held.cameras.size[0])
    fitted = volumes(views[: args.volumes], held.truths[: args.volumes], between, watch)
    yield from report.of_volumes(name, *fitted)


def _place(args: argparse.Namespace) -> Path | None:
    """Where the claims go; None for nowhere.

    Raises:
        RequestError: flags of another subject, or numbers out of range. FileError: the folder is not there.
    """
    if strange := verdicts.given(args, OTHERS):
        raise RequestError(f"{', '.join(strange)} is of another subject than views; leave it out")
    if not 3 <= _count(args) <= MOST:
        raise RequestError(f"people number between 3 (they are shuffled) and {MOST}, not {args.people}")
    if args.volumes is not None and not 1 <= args.volumes <= _count(args):
        raise RequestError(f"--volumes is a number from 1 to that of the people, {_count(args)}, not {args.volumes}")
    return verdicts.beside(args)


def _count(args: argparse.Namespace) -> int:
    return PEOPLE if args.people is None else int(args.people)
