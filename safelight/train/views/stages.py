"""The stages of the default model of views, each a generator of progress: scenes, autoencoder, decoder, latents, U-Net.

A stage keeps its files under the run's folder and goes on from what it finds there, as those of
`safelight.train.figurines.stages` do: ``data/``, ``vae/``, ``decoder/``, ``views/``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from safelight.errors import CheckpointError
from safelight.train.ema import Average
from safelight.train.figurines.autoencoder import Squeezing, encode_all
from safelight.train.figurines.finished import AVERAGE, encoder_hash, load_vae
from safelight.train.figurines.places import PixelWeights, picture_weights
from safelight.train.figurines.portraits import Portraits
from safelight.train.figurines.stages import named
from safelight.train.run import Clock, Look, Progress, train
from safelight.train.views import scenes
from safelight.train.views.begin import begun
from safelight.train.views.plan import Plan
from safelight.train.views.scenes import Scenes
from safelight.train.views.sheet import Sheet
from safelight.train.views.viewing import Latents, Seeing, told_of
from safelight.weights.load import read
from safelight.weights.safetensors import read_header
from safelight.weights.save import make_folder, save

START = "start.safetensors"
"""What the U-Net begins with, for a run that is stopped before its first checkpoint."""


class Flat:
    """Pictures of several arrays [N, V, S, S, 3] as one array [P, S, S, 3], read where they are."""

    def __init__(self, arrays: Sequence[np.ndarray]) -> None:
        self.arrays = [array.reshape(-1, *array.shape[2:]) for array in arrays]
        self.shape = (sum(map(len, self.arrays)), *self.arrays[0].shape[1:])

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, places: slice | Sequence[int]) -> np.ndarray:
        """uint8 [n, S, S, 3]."""
        numbers = np.arange(len(self))[places]
        each = len(self.arrays[0])
        return np.stack([self.arrays[number // each][number % each] for number in numbers])


def render(run: Path, plan: Plan) -> Iterator[Progress]:
    """Render the scenes; close to stop, and go on another day."""
    data = plan.data
    what = (data.people, data.views, data.size, data.seed, data.workers, data.aside)
    for done in scenes.render_all(run / "data", *what):
        yield Progress("scenes", done, data.people)


def learn_vae(
    run: Path, plan: Plan, clock: Clock, start: Path | None = None, device: str = "cpu"
) -> Iterator[Progress]:
    """Learn the autoencoder of pictures and normals."""
    fit, seen = plan.vae_fit, finished(run, plan)
    task = Squeezing(plan.vae, pictures(seen), fit.batch, fit.seed, device)
    facts = {**named("vae", plan.vae), "data.people": len(seen.codes)}
    yield from train(task, fit, run / "vae", clock, start, facts)


def learn_decoder(run: Path, plan: Plan, clock: Clock, device: str = "cpu") -> Iterator[Progress]:
    """Learn the autoencoder's decoder on, its encoder kept: latents that are cached, or learned from, stay valid.

    Of pictures alone: normals are read, never drawn.
    """
    fit, seen = plan.decoder_fit, finished(run, plan)
    vae = replace(plan.vae, decoder_only=True)
    shown = Portraits(Flat([seen.pictures]), seen.codes)
    task = Squeezing(vae, shown, fit.batch, fit.seed, device, PixelWeights(parts(seen), plan.decoder.detail))
    facts = {
        **named("vae", vae),
        **named("decoder", plan.decoder),
        "data.people": len(seen.codes),
        "autoencoder": encoder_hash(run),
    }
    yield from train(task, fit, run / "decoder", clock, run / "vae" / AVERAGE, facts)


def learn_views(
    run: Path, plan: Plan, clock: Clock, device: str = "cpu", start: Path | None = None
) -> Iterator[Progress]:
    """Cache the latents, then learn the U-Net; with ``sample_every``, draw ``views/samples.png`` on the way.

    Args:
        start: weights of a network of views, or of its U-Net, that knows as much or less; see `begin.begun`.
    """
    fit, seen = plan.views_fit, finished(run, plan)
    yield Progress("latents", 0, 1)
    latents = cached_latents(run, plan, device)
    scale = float(1 / latents["pictures"].std())
    seen_as, normals = (latents[name].to(device) * scale for name in ("pictures", "normals"))
    cameras = told_of(torch.from_numpy(np.array(seen.orbits)), seen_as.shape[-1], plan.views.camera)
    places = weights_of(seen, seen_as.shape[-1], plan.views.detail).to(device) if plan.views.detail else None
    known = Latents(seen_as, normals, None if cameras is None else cameras.to(device), places)
    task = Seeing(plan.views, known, plan.path, fit.batch, fit.seed, fit.steps)
    if start is not None:
        make_folder(run / "views")
        told = {"from": read_header(start).metadata.get("from", start.name)}
        save(begun(read(start), task.module, start), run / "views" / START, metadata=told)
        start = run / "views" / START
    facts = {
        **named("views", plan.views),
        "data.people": len(seen.codes),
        "single steps": task.alone,
        "autoencoder": encoder_hash(run),
    }
    look: Look | None = None
    if fit.sample_every:
        sheet = Sheet(plan, task, load_vae(run, plan).to(device), scale)

        def look(average: Average, step: int) -> None:
            sheet.draw(average, run / "views" / "samples.png")

    yield from train(task, fit, run / "views", clock, start, facts, look)


def finished(run: Path, plan: Plan) -> Scenes:
    """The scenes of a run; CheckpointError where they are missing or not of the size that the plan says."""
    seen = scenes.load(run / "data")
    edge = seen.pictures.shape[2]
    if edge != plan.data.size:
        raise CheckpointError(f"{run / 'data'}: scenes of {edge} pixels a side, but the plan says {plan.data.size}")
    return seen


def weights_of(seen: Scenes, grid: int, detail: float) -> Tensor:
    """How much each place of the latents counts, [N, V, grid, grid]; see `safelight.train.figurines.places`."""
    flat = parts(seen)
    return picture_weights(flat, flat.shape[-1] // grid, detail).unflatten(0, seen.labels.shape[:2])


def parts(seen: Scenes) -> np.ndarray:
    """Which part every pixel shows, uint8 [P, S, S], of all pictures in one row."""
    return seen.labels.reshape(-1, *seen.labels.shape[2:])


def pictures(seen: Scenes) -> Portraits:
    """All pictures and normals of the scenes, as the autoencoder learns them."""
    return Portraits(Flat([seen.pictures, seen.normals]), seen.codes)


def cached_latents(run: Path, plan: Plan, device: str = "cpu") -> dict[str, Tensor]:
    """Unscaled latents, made once for each encoder: ``pictures`` and ``normals``, [N, V, Z, h, w] on the CPU.

    Raises:
        CheckpointError: the scenes or the autoencoder are missing. FileError: they cannot be kept.
    """
    place, source = run / "data" / "latents.safetensors", encoder_hash(run)
    seen = finished(run, plan)
    shape = seen.pictures.shape[:2]
    if place.exists():
        header = read_header(place)
        if header.metadata.get("encoder") == source and header.entries["pictures"].shape[:2] == shape:
            return dict(read(place))
    latents = encode_all(load_vae(run, plan).to(device), pictures(seen))
    both = latents.unflatten(0, (2, *shape))
    found = {"pictures": both[0].contiguous(), "normals": both[1].contiguous()}
    save(found, place, metadata={"encoder": source})
    return found
