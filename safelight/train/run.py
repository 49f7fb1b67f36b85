"""One run of a task: its loop with a log, a curve, checkpoints and looks, stopped by a clock and gone on with."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from safelight.errors import CheckpointError
from safelight.train import checkpoint
from safelight.train.ema import Average
from safelight.train.journal import Journal, curve
from safelight.train.loop import Task, Trainer
from safelight.train.settings import Fit
from safelight.weights.load import read
from safelight.weights.save import save

AVERAGE = "average.safetensors"
"""The averaged weights of a run."""
Look = Callable[[Average, int], None]
"""Looks at a run between two steps, told how many are done, such as by drawing from its averaged weights.

It must leave no trace in the run.
"""


class Progress(NamedTuple):
    """How far a stage is: ``done`` of ``total``, with a few words on how it goes."""

    stage: str
    done: int
    total: int
    note: str = ""


class Clock:
    """A time limit over several stages.

    Args:
        minutes: until `over`; None never ends.
    """

    def __init__(self, minutes: float | None) -> None:
        self.end = None if minutes is None else time.monotonic() + 60 * minutes

    @property
    def over(self) -> bool:
        """Whether the time is up."""
        return self.end is not None and time.monotonic() >= self.end


def train(
    task: Task,
    fit: Fit,
    folder: Path,
    clock: Clock,
    start: Path | None = None,
    facts: Mapping[str, Any] | None = None,
    look: Look | None = None,
) -> Iterator[Progress]:
    """Run a task's loop with log, curve and checkpoints; stops cleanly, saved, when the clock is over.

    Args:
        start: averaged weights to begin from.
        facts: the task's own settings, which a resumption must share.
        look: called every ``fit.sample_every`` steps, and at the end; never where that is 0.

    Raises:
        CheckpointError: the folder holds a run of other settings, or ``start`` is of another network.
        TrainingError: the numbers are no numbers any more. FileError: a file cannot be written.
    """
    if start is not None and not checkpoint.found(folder / "checkpoints"):
        adopt(task.module, start)
    trainer = Trainer(task, fit, folder / "checkpoints", facts)
    log, picture = folder / "log.jsonl", folder / "loss.png"
    journal = Journal(log, trainer.step)
    for report in trainer.run():
        last = report.step == fit.steps
        if last or report.step % fit.log_every == 0:
            journal.write(report)
        if report.step % fit.save_every == 0:
            curve(log, picture)
        if look and fit.sample_every and not last and report.step % fit.sample_every == 0:
            look(trainer.average, trainer.step)
        yield Progress(folder.name, report.step, fit.steps, f"loss {report.loss:.4f}")
        if clock.over:
            trainer.save()
            break
    curve(log, picture)
    save(trainer.average.shadow, folder / AVERAGE, metadata={"step": str(trainer.step)})
    if look and fit.sample_every:
        look(trainer.average, trainer.step)


@torch.no_grad()
def adopt(module: nn.Module, start: Path) -> None:
    """Copy averaged weights, in any number format, into a module that is about to be trained.

    Raises:
        WeightsError: the file cannot be read. CheckpointError: it is of another network.
    """
    found = read(start)
    named = dict(module.named_parameters())
    if set(found) != set(named) or any(found[name].shape != p.shape for name, p in named.items()):
        raise CheckpointError(f"{start}: the weights there are of another network than the plan describes")
    for name, parameter in named.items():
        parameter.copy_(found[name])
