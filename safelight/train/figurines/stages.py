"""The stages of the default model, each a generator of progress: portraits, words, autoencoder, latents, U-Net.

A stage keeps its files under the run's folder and goes on from what it finds there:
``data/``, ``tokenizer/``, ``text/``, ``vae/``, ``unet/``; each trained network has ``checkpoints/``, ``log.jsonl``,
``loss.png`` and, when its stage ends, ``average.safetensors`` with the averaged weights.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from safelight.encoders.clip import ClipText
from safelight.encoders.tokenizer import ClipTokenizer
from safelight.encoders.vocabulary import save_tokenizer
from safelight.errors import CheckpointError
from safelight.train.figurines import portraits
from safelight.train.figurines.autoencoder import Squeezing, encode_all
from safelight.train.figurines.denoising import Denoising, Examples
from safelight.train.figurines.plan import Plan
from safelight.train.figurines.words import Reading, spoken
from safelight.train.journal import Journal, curve
from safelight.train.loop import Task, Trainer
from safelight.train.settings import Fit
from safelight.vae.kl import AutoencoderKL
from safelight.weights.load import load_into, read
from safelight.weights.save import save

AVERAGE = "average.safetensors"


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


def train(task: Task, fit: Fit, folder: Path, clock: Clock, start: Path | None = None) -> Iterator[Progress]:
    """Run a task's loop with log, curve and checkpoints; stops cleanly, saved, when the clock is over.

    Args:
        start: averaged weights to begin from, with a fresh optimiser; ignored where the folder holds a checkpoint.
    """
    if start is not None and not any((folder / "checkpoints").glob("step-*")):
        adopt(task.module, start)
    trainer = Trainer(task, fit, folder / "checkpoints")
    journal = Journal(folder / "log.jsonl", trainer.step)
    for report in trainer.run():
        if report.step % fit.log_every == 0 or report.step == fit.steps:
            journal.write(report)
        yield Progress(folder.name, report.step, fit.steps, f"loss {report.loss:.4f}")
        if clock.over:
            trainer.save()
            break
    curve(folder / "log.jsonl", folder / "loss.png")
    save(trainer.average.shadow, folder / AVERAGE, metadata={"step": str(trainer.step)})


@torch.no_grad()
def adopt(module: nn.Module, start: Path) -> None:
    """Copy averaged weights into a module that is about to be trained."""
    found: Mapping[str, Tensor] = read(start)
    named = dict(module.named_parameters())
    if set(found) != set(named) or any(found[name].shape != p.shape for name, p in named.items()):
        raise CheckpointError(f"{start}: the weights there are of another network than the plan describes")
    for name, parameter in named.items():
        parameter.copy_(found[name])


def render(run: Path, plan: Plan) -> Iterator[Progress]:
    """Render the portraits."""
    data = plan.data
    for done in portraits.render_all(run / "data", data.count, data.size, data.seed, data.workers):
        yield Progress("portraits", done, data.count)


def learn_words(run: Path, plan: Plan, clock: Clock, start: Path | None = None) -> Iterator[Progress]:
    """Learn the tokenizer, then the text encoder."""
    folder = run / "tokenizer"
    if not (folder / "vocab.json").exists():
        folder.mkdir(parents=True, exist_ok=True)
        save_tokenizer(spoken(), folder)
    tokenizer = ClipTokenizer.from_folder(folder)
    fit = plan.words_fit
    task = Reading(plan.words, tokenizer, tokenizer.end + 1, fit.batch, fit.seed)
    yield from train(task, fit, run / "text", clock, start)


def learn_vae(run: Path, plan: Plan, clock: Clock, start: Path | None = None) -> Iterator[Progress]:
    """Learn the autoencoder."""
    fit = plan.vae_fit
    task = Squeezing(plan.vae, portraits.load(run / "data"), fit.batch, fit.seed)
    yield from train(task, fit, run / "vae", clock, start)


def learn_unet(run: Path, plan: Plan, clock: Clock, device: str, start: Path | None = None) -> Iterator[Progress]:
    """Cache the latents, then learn the U-Net."""
    images = portraits.load(run / "data")
    yield Progress("latents", 0, 1)
    latents = cached_latents(run, plan)
    scaled = latents / latents.std()
    examples = Examples(scaled.to(device), images.people())
    tokenizer = ClipTokenizer.from_folder(run / "tokenizer")
    fit = plan.unet_fit
    text = load_text(run, plan, tokenizer)
    task = Denoising(plan.unet, examples, text, tokenizer, plan.path, fit.batch, fit.seed)
    yield from train(task, fit, run / "unet", clock, start)


def load_text(run: Path, plan: Plan, tokenizer: ClipTokenizer) -> ClipText:
    """The trained text encoder, without the heads it was taught with."""
    text = ClipText(plan.words.config(tokenizer.end + 1))
    load_into(
        text, run / "text" / AVERAGE, rename=lambda name: name.removeprefix("text.") if name[:5] == "text." else None
    )
    return text.eval()


def load_vae(run: Path, plan: Plan) -> AutoencoderKL:
    """The trained autoencoder."""
    vae = AutoencoderKL(plan.vae.config(plan.data.size))
    load_into(vae, run / "vae" / AVERAGE)
    return vae.eval()


def cached_latents(run: Path, plan: Plan) -> Tensor:
    """Unscaled latents of all portraits, made once for each autoencoder: [N, Z, h, w]."""
    place = run / "data" / "latents.safetensors"
    source = run / "vae" / AVERAGE
    if not place.exists() or place.stat().st_mtime < source.stat().st_mtime:
        save({"latents": encode_all(load_vae(run, plan), portraits.load(run / "data"))}, place)
    return read(place)["latents"]
