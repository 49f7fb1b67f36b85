"""The stages of the default model, each a generator of progress: portraits, words, autoencoder, latents, U-Net.

A stage keeps its files under the run's folder and goes on from what it finds there: ``data/``, ``tokenizer/``,
``text/``, ``vae/``, ``decoder/``, ``unet/``; each trained network has ``checkpoints/``, ``log.jsonl``, ``loss.png``
and, when its stage ends, ``average.safetensors`` with the averaged weights. ``start`` begins a network from averaged
weights, with a fresh optimiser and warm-up; it is ignored where the folder holds a checkpoint.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from safelight.encoders.vocabulary import save_tokenizer
from safelight.errors import CheckpointError
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
from safelight.train.run import Clock, Look, Progress, train
from safelight.weights.hash import sha256
from safelight.weights.save import make_folder


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

        def look(average: Average, step: int) -> None:
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
