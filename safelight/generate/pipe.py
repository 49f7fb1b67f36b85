"""The way in: load a model, watch it draw, keep the pictures with their recipes.

pipe = safelight.load()
for step in pipe("a person with green hair and a red hat"):
    step.preview()
picture, = pipe.draw(safelight.Request("a person with green hair", seed=7))
picture.image.save("hat.png", pnginfo=picture.metadata())
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from PIL.Image import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from safelight.core.path import Level
from safelight.core.sample import sample_many
from safelight.families.family import Model
from safelight.generate import image as task
from safelight.generate import models
from safelight.generate.picture import to_picture
from safelight.generate.recipe import KEY, TEXT, Recipe
from safelight.generate.request import Request
from safelight.generate.settle import Settled, settle
from safelight.runtime.device import Place, pick
from safelight.weights.hash import sha256


@dataclass(frozen=True)
class Drawn:
    """A finished picture.

    Attributes:
        image: RGB.
        recipe: all that it was drawn from.
        latents: [1, Z, h, w] as the network sees them, float32.
        cut: the ends of prompts that did not fit the text encoders.
        seconds: what each part took: ``encode``, ``denoise``, ``decode``; shared parts count for the first picture.
    """

    image: Image
    recipe: Recipe
    latents: Tensor
    cut: tuple[str, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)

    def metadata(self) -> PngInfo:
        """What belongs into the PNG: the recipe, and its text for other programs."""
        info = PngInfo()
        info.add_text(TEXT, self.recipe.parameters())
        info.add_text(KEY, self.recipe.json())
        return info


@dataclass(frozen=True)
class Shown:
    """One evaluation of one picture.

    Attributes:
        picture: place of the picture in its request, from 0.
        index, total: evaluations done, of all.
        level: where the picture is now.
        latents: what the network believes it to be: [1, Z, h, w].
        pipe: whose latents they are.
        drawn: the finished picture, with the last evaluation only.
    """

    picture: int
    index: int
    total: int
    level: Level
    latents: Tensor
    pipe: Pipe
    drawn: Drawn | None = None

    def preview(self) -> Image | None:
        """A cheap look, one pixel per latent; None where the model brings no linear preview."""
        colours = self.pipe.model.latent.picture(self.latents)
        return None if colours is None else to_picture(colours)

    def decode(self) -> Image:
        """A full look, through the autoencoder."""
        return to_picture(task.decode(self.pipe.model, self.latents))


@dataclass(frozen=True)
class Pipe:
    """A loaded model, ready to draw. Nothing in it changes, so several threads may draw from it at once.

    Attributes:
        name: of the model, as it was asked for. folder: where it lies.
        model: its parts. place: device, number format and threads.
    """

    name: str
    folder: Path
    model: Model
    place: Place

    def __call__(self, request: Request | str, count: int = 1) -> Iterator[Shown]:
        """Draw ``count`` pictures one after the other, watching every evaluation; the last of each brings `Drawn`.

        Closing the iterator stops at once. The bits of a picture do not depend on ``count`` or on who else draws.

        Raises:
            RequestError: before anything is computed, if the request cannot be honoured.
        """
        settled = self.settle(request)
        begun = time.perf_counter()
        scene = task.read(self.model, settled)
        spent = time.perf_counter() - begun
        for index in range(count):
            yield from self._one(index, settled.seeded(index), scene, spent if index == 0 else 0.0)

    def draw(self, request: Request | str, count: int = 1) -> list[Drawn]:
        """Draw ``count`` pictures and return them; see `__call__`."""
        return [shown.drawn for shown in self(request, count) if shown.drawn]

    def draw_many(self, requests: Sequence[Request], tell: Callable[[int, int], None] | None = None) -> list[Drawn]:
        """Draw requests of strangers together, sharing network calls where their ``rows`` are equal and above their own.

        Every picture has the bits that it has alone. ``tell`` is called with (place of the request, evaluations done).
        """
        settled = [self.settle(request) for request in requests]
        scenes = [task.read(self.model, each) for each in settled]
        jobs = [task.job(self.model, s, scene) for s, scene in zip(settled, scenes, strict=True)]
        final: dict[int, Tensor] = {}
        for place, step in sample_many(task.evaluator(self.model), jobs):
            final[place] = step.x
            if tell:
                tell(place, step.index)
        return [self._drawn(settled[i], scenes[i], final[i], {}) for i in range(len(requests))]

    def settle(self, request: Request | str) -> Settled:
        """What exactly a request would compute, without computing it."""
        return settle(self.model, Request(request) if isinstance(request, str) else request)

    def _one(self, index: int, settled: Settled, scene: task.Scene, encode: float) -> Iterator[Shown]:
        begun = time.perf_counter()
        for _, step in sample_many(task.evaluator(self.model), [task.job(self.model, settled, scene)]):
            shown = Shown(index, step.index, step.total, step.level, step.denoised, self)
            if step.index == step.total:
                spent = {"encode": encode, "denoise": time.perf_counter() - begun}
                shown = replace(shown, latents=step.x, drawn=self._drawn(settled, scene, step.x, spent))
            yield shown

    def _drawn(self, settled: Settled, scene: task.Scene, x: Tensor, spent: dict[str, float]) -> Drawn:
        begun = time.perf_counter()
        picture = to_picture(task.finish(settled, task.decode(self.model, x)))
        seconds = {**spent, "decode": time.perf_counter() - begun}
        return Drawn(picture, self.recipe(settled), x, scene.cut, seconds)

    def recipe(self, settled: Settled) -> Recipe:
        """All that a picture will be drawn from."""
        request = settled.request
        rows = request.rows or (1 if settled.guidance == 1.0 else 2)
        return Recipe(
            model={"name": self.name, "family": self.model.family, "files": self.hashes},
            task=settled.task,
            prompt=request.prompt,
            negative=request.negative,
            seed=request.seed,
            steps=request.steps or len(settled.levels) - 1,
            sampler=settled.sampler.sampler.name,
            options=dict(settled.sampler.options),
            schedule=settled.schedule,
            levels=[list(level) for level in settled.levels],
            guidance=settled.guidance,
            rescale=request.rescale,
            size=settled.size,
            skip=request.skip,
            rows=rows,
            device=self.place.device.type,
            dtype=str(self.place.dtype).removeprefix("torch."),
            threads=self.place.threads,
            strength=request.strength,
            image=source(request.image),
            mask=source(request.mask),
            camera=models.notes(self.folder).get("camera"),
        )

    @cached_property
    def hashes(self) -> dict[str, str]:
        """File below the model's folder -> SHA-256, of every file that was read."""
        return {str(file.relative_to(self.folder)): sha256(file) for file in self.model.files}


def source(picture: Image | None) -> dict[str, str] | None:
    """What a recipe says of a picture that came in: the hash of its pixels, and its file where it has one."""
    if picture is None:
        return None
    digest = hashlib.sha256(f"{picture.mode}{picture.size}".encode() + picture.tobytes()).hexdigest()
    return {"sha256": digest, "file": str(getattr(picture, "filename", ""))}


def load(
    model: str = models.DEFAULT, device: str | None = None, dtype: str | None = None, threads: int | None = None
) -> Pipe:
    """Load a model.

    Args:
        model: the name of one that came with safelight, or a released folder with a ``model_index.json``.
        device, dtype, threads: see `safelight.runtime.device.pick`.

    Raises:
        UnknownNameError: no such model. WeightsError, ConfigError: it is damaged or of an unknown kind.
    """
    place = pick(device, dtype, threads)
    folder = models.locate(model)
    return Pipe(model, folder, models.load_model(folder, place), place)
