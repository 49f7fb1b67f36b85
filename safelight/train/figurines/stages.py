"""The stages of the default model, each a generator of progress: portraits, words, autoencoder, latents, U-Net.

A stage keeps its files under the run's folder and goes on from what it finds there: ``data/``, ``tokenizer/``,
``text/``, ``vae/``, ``decoder/``, ``unet/``; each trained network has ``checkpoints/``, ``log.jsonl``, ``loss.png``
and, when its stage ends, ``average.safetensors`` with the averaged weights. ``start`` begins a network from averaged
weights, with a fresh optimiser and warm-up; it is ignored where the folder holds a checkpoint.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from safelight.encoders.vocabulary import save_tokenizer
from safelight.errors import CheckpointError
from safelight.train import checkpoint
from safelight.train.ema import Average
from safelight.train.figurines import portraits
from safelight.train.figurines.autoencoder import Squeezing
from safelight.train.figurines.denoising import Denoising, Examples
from safelight.train.figurines.finished import (
    AVERAGE,
    cached_latents,
    encoder_hash,
    load_text,
    load_tokenizer,
    load_vae,
)
from safelight.train.figurines.places import place_weights
from safelight.train.figurines.plan import Plan
from safelight.train.figurines.portraits import Portraits
from safelight.train.figurines.sheet import Sheet
from safelight.train.figurines.words import Reading, spoken
from safelight.train.journal import Journal, curve
from safelight.train.loop import Task, Trainer
from safelight.train.settings import Fit
from safelight.weights.hash import sha256
from safelight.weights.load import read
from safelight.weights.save import make_folder, save

Look = Callable[[Average], None]
"""Looks at a run between two steps, such as by drawing from its averaged weights; must leave no trace in it."""


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
            look(trainer.average)
        yield Progress(folder.name, report.step, fit.steps, f"loss {report.loss:.4f}")
        if clock.over:
            trainer.save()
            break
    curve(log, picture)
    save(trainer.average.shadow, folder / AVERAGE, metadata={"step": str(trainer.step)})
    if look and fit.sample_every:
        look(trainer.average)


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


def render(run: Path, plan: Plan) -> Iterator[Progress]:
    """Render the portraits; close to stop, and go on another day."""
    data = plan.data
    for done in portraits.render_all(run / "data", data.count, data.size, data.seed, data.workers):
        yield Progress("portraits", done, data.count)


def learn_words(
    run: Path, plan: Plan, clock: Clock, start: Path | None = None, device: str = "cpu"
) -> Iterator[Progress]:
    """Make the tokenizer, then learn the text encoder."""
    folder = run / "tokenizer"
    if not (folder / "vocab.json").exists():
        make_folder(folder)
        save_tokenizer(spoken(), folder)
    tokenizer = load_tokenizer(run)
    fit = plan.words_fit
    task = Reading(plan.words, tokenizer, tokenizer.end + 1, fit.batch, fit.seed, device)
    yield from train(task, fit, run / "text", clock, start, named("words", plan.words))


def learn_vae(
    run: Path, plan: Plan, clock: Clock, start: Path | None = None, device: str = "cpu"
) -> Iterator[Progress]:
    """Learn the autoencoder."""
    fit, pictures = plan.vae_fit, images(run, plan)
    task = Squeezing(plan.vae, pictures, fit.batch, fit.seed, device)
    facts = {**named("vae", plan.vae), "data.count": len(pictures.pictures)}
    yield from train(task, fit, run / "vae", clock, start, facts)


def learn_decoder(run: Path, plan: Plan, clock: Clock, device: str = "cpu") -> Iterator[Progress]:
    """Learn the autoencoder's decoder on, its encoder kept: latents that are cached, or learned from, stay valid."""
    fit, pictures = plan.decoder_fit, images(run, plan)
    vae = replace(plan.vae, decoder_only=True)
    task = Squeezing(vae, pictures, fit.batch, fit.seed, device)
    facts = {**named("vae", vae), "data.count": len(pictures.pictures), "autoencoder": encoder_hash(run)}
    yield from train(task, fit, run / "decoder", clock, run / "vae" / AVERAGE, facts)


def learn_unet(
    run: Path, plan: Plan, clock: Clock, device: str = "cpu", start: Path | None = None
) -> Iterator[Progress]:
    """Cache the latents, then learn the U-Net; with ``sample_every``, draw ``unet/samples.png`` on the way."""
    fit, tokenizer, pictures = plan.unet_fit, load_tokenizer(run), images(run, plan)
    text = load_text(run, plan, tokenizer)
    yield Progress("latents", 0, 1)
    latents = cached_latents(run, plan, device)
    scaled = latents / latents.std()
    examples = Examples(scaled.to(device), pictures.people())
    grid = latents.shape[-1]
    places = place_weights(grid, plan.data.size // grid, plan.unet.detail, plan.data.seed) if plan.unet.detail else None
    task = Denoising(plan.unet, examples, text, tokenizer, plan.path, fit.batch, fit.seed, places)
    facts = {
        **named("unet", plan.unet),
        "data.count": len(pictures.pictures),
        "text encoder": sha256(run / "text" / AVERAGE),
        "autoencoder": encoder_hash(run),
    }
    look: Look | None = None
    if fit.sample_every:
        sheet = Sheet(plan, task, load_vae(run, plan).to(device), float(1 / latents.std()))

        def look(average: Average) -> None:
            sheet.draw(average, run / "unet" / "samples.png")

    yield from train(task, fit, run / "unet", clock, start, facts, look)


def images(run: Path, plan: Plan) -> Portraits:
    """The portraits of a run; CheckpointError where they are missing or not of the size that the plan says."""
    pictures = portraits.load(run / "data")
    edge = pictures.pictures.shape[1]
    if edge != plan.data.size:
        raise CheckpointError(f"{run / 'data'}: portraits of {edge} pixels a side, but the plan says {plan.data.size}")
    return pictures


def named(section: str, record: Any) -> dict[str, Any]:
    """A section of the plan as facts: ``section.key`` -> value."""
    return {f"{section}.{key}": value for key, value in asdict(record).items()}
