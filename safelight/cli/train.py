"""``safelight train``: makes the default model from nothing, or an adapter from pictures; stops and goes on."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from safelight.cli.bar import LINE_EVERY, Bar
from safelight.errors import FileError, RequestError
from safelight.weights.folder import typed

if TYPE_CHECKING:
    from safelight.train.run import Clock, Progress

FIGURINES = ("figurines", "figurines-words", "figurines-vae", "figurines-views")
ADAPTERS = ("lora", "textual-inversion", "controlnet", "ip-adapter")
PICTURES = ("model", "data", "control")
"""Flags of adapters only."""
DEFAULT = "figurines"
VIEWS = "figurines-views"
UNCHECKED = ("portraits", "scenes")
"""Stages that do not look at the clock themselves, and lose nothing when they are left."""
INTERRUPTED = 130


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of ``train``."""
    add = parser.add_argument
    add(
        "what",
        choices=(*FIGURINES, *ADAPTERS),
        help="the default model, only its text encoder or its autoencoder; the model that draws views; or an adapter, "
        "from pictures of one's own",
    )
    add("-m", "--model", metavar="MODEL", help="adapters: the model that is taught, by name or folder")
    add("--data", metavar="DIR", help="adapters: the folder of pictures and captions (same name, .txt)")
    add("--control", metavar="DIR", help="controlnet: what it is shown, by the names of the pictures; DATA/control")
    add("--run", metavar="DIR", help="the run's folder, runs/WHAT by default; what is there is gone on with")
    add("--config", metavar="FILE", help="a TOML file laid over the package's own plan, or the name of a shipped one")
    add("--set", metavar="SECTION.KEY=VALUE", action="append", default=[], help="one number of the plan; repeatable")
    add("--minutes", type=float, metavar="N", help="stop after so long, with a checkpoint")
    add("--from", dest="start", metavar="PATH", help="begin with the weights of a model's folder, or of a file")
    add("--device", metavar="D", help="cpu, cuda, ...; by default the best there is")


def run(args: argparse.Namespace) -> int:
    """Train until it is done, the time is over or Ctrl-C; what was learned is in a checkpoint then."""
    if args.minutes is not None and not args.minutes > 0:
        raise RequestError(f"--minutes is a number above 0, not {args.minutes:g}")
    given = [f"--{name}" for name in PICTURES if getattr(args, name) is not None]
    if args.what in FIGURINES and given:
        raise RequestError(f"{args.what} makes its own pictures and model; leave {', '.join(given)} out")
    if args.what == VIEWS:
        return views(args)
    return figurines(args) if args.what in FIGURINES else adapter(args)


def figurines(args: argparse.Namespace) -> int:
    """Make the default model, or a part of it."""
    from safelight.runtime.device import pick
    from safelight.train.figurines import plan as plans
    from safelight.train.figurines.course import Course
    from safelight.train.run import Clock

    plan = plans.read(Path(args.config) if args.config else None, args.set)
    course = Course(typed(args.run or "runs/figurines"), plan, Clock(args.minutes), str(pick(args.device).device))
    interrupted = _followed(course.stages(args.what, _start(args)), course.clock)
    made = course.publish() if args.what == "figurines" else None
    if made:
        print(f"model: {made}; draw with it: safelight generate -m {made} 'a person with green hair'")
    return _ended(course.clock, course.run, interrupted)


def views(args: argparse.Namespace) -> int:
    """Make the model that draws views of a portrait."""
    from safelight.runtime.device import pick
    from safelight.train.run import Clock
    from safelight.train.views import plan as plans
    from safelight.train.views.course import Course as Views

    plan = plans.read(Path(args.config) if args.config else None, args.set)
    course = Views(typed(args.run or f"runs/{VIEWS}"), plan, Clock(args.minutes), str(pick(args.device).device))
    interrupted = _followed(course.stages(_start(args)), course.clock)
    for made in course.publish():
        print(f"model: {made}; draw with it: safelight views -m {made} portrait.png")
    return _ended(course.clock, course.run, interrupted)


def _followed(stages: Iterator[Iterator[Progress]], clock: Clock) -> bool:
    """Run stages one after the other, each made when the one before it has ended; whether Ctrl-C stopped them."""
    with interruptions(clock) as interrupted:
        for stage in stages:
            follow(stage, clock, UNCHECKED)
            if clock.over:
                break
    return interrupted()


def adapter(args: argparse.Namespace) -> int:
    """Teach an adapter from a folder of pictures."""
    from safelight.generate.pipe import load
    from safelight.train.own import course
    from safelight.train.own import plan as plans
    from safelight.train.run import Clock

    if args.data is None:
        raise RequestError(f"{args.what} learns from pictures; name their folder with --data")
    if args.control is not None and args.what != "controlnet":
        raise RequestError(f"{args.what} is shown nothing beside its pictures; leave --control out")
    plan = plans.read(args.what, args.config, args.set)
    control = None if args.control is None else typed(args.control)
    start, place, clock = _start(args), typed(args.run or f"runs/{args.what}"), Clock(args.minutes)
    entries = course.entries_of(args.what, typed(args.data), control, plan)
    pipe = load(args.model or DEFAULT, device=args.device, dtype="float32")
    with interruptions(clock) as interrupted:
        learned = course.Course(place, pipe, plan, entries)
        follow(learned.learn(clock, start), clock)
    if made := learned.made():
        print(f"{args.what}: {made}")
    return _ended(clock, place, interrupted())


def _start(args: argparse.Namespace) -> Path | None:
    """What ``--from`` names; FileError where it is not there."""
    start = None if args.start is None else typed(args.start)
    if start is not None and not start.exists():
        raise FileError(f"{start}: no such file or folder; --from takes a model's folder or a file of weights")
    return start


def _ended(clock: Clock, run: Path, interrupted: bool) -> int:
    """Say how a run stands, and the exit code."""
    if not clock.over:
        print(f"done: {run}")
        return 0
    print(f"stopped, with a checkpoint in {run}; the same command without --from goes on", file=sys.stderr)
    return INTERRUPTED if interrupted else 0


def follow(stage: Iterator[Progress], clock: Clock, unchecked: tuple[str, ...] = ()) -> None:
    """Run a stage under a bar, to its end or until the clock is over.

    Args:
        unchecked: names of stages that are left when the clock is over, since they do not look at it.
    """
    with ExitStack() as entered:
        bar: Bar | None = None
        for progress in stage:
            if bar is None or bar.title != progress.stage:
                entered.close()
                bar = Bar(progress.stage, progress.total, progress.done, every=LINE_EVERY, keep=True)
                entered.enter_context(bar)
            bar.move(progress.done, progress.note)
            if clock.over and progress.stage in unchecked:
                return


@contextmanager
def interruptions(clock: Clock) -> Iterator[Callable[[], bool]]:
    """Let the first Ctrl-C end the clock, so that the step is finished and saved, and the second end the program."""
    pressed: list[int] = []

    def press(number: int, frame: object) -> None:
        pressed.append(number)
        if len(pressed) > 1:
            raise KeyboardInterrupt
        clock.end = 0.0
        print("safelight: stopping after this step, with a checkpoint; once more stops at once", file=sys.stderr)

    before = signal.signal(signal.SIGINT, press)
    try:
        yield lambda: bool(pressed)
    finally:
        signal.signal(signal.SIGINT, before)
