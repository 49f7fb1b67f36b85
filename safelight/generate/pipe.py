"""The way in: load a model, watch it draw, keep the pictures with their recipes.

pipe = safelight.load()
for step in pipe("a person with green hair and a red hat"):
    step.preview()
picture, = pipe.draw(safelight.Request("a person with green hair", seed=7))
picture.image.save("hat.png", pnginfo=picture.metadata())
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import NoReturn

from PIL.Image import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from safelight.core.path import Level
from safelight.core.sample import sample_many
from safelight.errors import PredictionError, WeightsError
from safelight.families.family import Model
from safelight.generate import image as task
from safelight.generate import models
from safelight.generate.chain import SHOWN, chained
from safelight.generate.hires import PICTURE
from safelight.generate.passes import carried
from safelight.generate.picture import to_picture
from safelight.generate.recipe import Recipe
from safelight.generate.request import Request
from safelight.generate.settle import HANDED, Settled
from safelight.generate.source import DEFAULT, USUAL, Source, label, locate
from safelight.generate.turns import Scenes, Turn
from safelight.generate.wardrobe import Wardrobe
from safelight.generate.written import written
from safelight.runtime.device import Place, adopt, pick, wait
from safelight.vae.tiny import AutoencoderTiny
from safelight.weights.hash import sha256
from safelight.weights.sound import unsound


@dataclass(frozen=True)
class Drawn:
    """A finished picture.

    Attributes:
        image: RGB.
        recipe: all that it was drawn from.
        latents: [1, Z, h, w] as the network sees them, float32.
        cut: the ends of prompts that did not fit the text encoders.
        seconds: what each part took: ``encode``, ``denoise``, ``decode``. What is read once for several pictures
            counts for the first, a call that several share for all in equal parts.
    """

    image: Image
    recipe: Recipe
    latents: Tensor
    cut: tuple[str, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)

    def metadata(self) -> PngInfo:
        """What belongs into the PNG: the recipe, and its text for other programs."""
        info = PngInfo()
        for name, text in self.recipe.texts().items():
            info.add_text(name, text)
        return info


@dataclass(frozen=True)
class Shown:
    """One evaluation of one picture.

    Attributes:
        picture: place of the picture in its request, from 0.
        index, total: evaluations done, of all; total is None where nobody knows before (adaptive steps).
        level: where the picture is now.
        latents: what the network believes it to be: [1, Z, h, w].
        pipe: what draws. model: whose latents they are.
        drawn: the finished picture, with the last evaluation only.
    """

    picture: int
    index: int
    total: int | None
    level: Level
    latents: Tensor
    pipe: Pipe
    model: Model
    drawn: Drawn | None = None

    def preview(self) -> Image | None:
        """A cheap look: full-size where a tiny autoencoder was loaded, else one pixel per latent.

        None where the model brings no linear preview either.
        """
        if self.pipe.tiny is not None:
            adopt(self.pipe.place)
            return to_picture(task.glance(self.pipe.tiny, self.latents))
        latent = self.model.latent if self.model.latent.preview else self.pipe.model.latent
        colours = latent.picture(self.latents)
        return None if colours is None else to_picture(colours)

    def decode(self) -> Image:
        """A full look, through the autoencoder."""
        adopt(self.pipe.place)
        return to_picture(task.decode(self.model, self.latents))


@dataclass(frozen=True)
class Pipe:
    """A loaded model, ready to draw. Only `applied` changes it, so several threads may draw from it at once.

    Attributes:
        name: of the model, or of its folder. folder: where it lies.
        model: its parts. place: device, number format and threads.
        weak: a weaker model of the same latents, which autoguidance leads away from.
        refiner: the model that takes over where a request says.
        tiny: an autoencoder for previews.
        upscaler: a model that draws larger what was drawn.
        wardrobe: the adapters that lie over the model now; see `safelight.applied`.
    """

    name: str
    folder: Path
    model: Model
    place: Place
    weak: Pipe | None = None
    refiner: Pipe | None = None
    tiny: AutoencoderTiny | None = None
    upscaler: Pipe | None = None
    wardrobe: Wardrobe = field(default=None, compare=False)  # type: ignore[assignment]

    def __post_init__(self) -> None:
        if self.wardrobe is None or self.wardrobe.bare is not self.model:
            object.__setattr__(self, "wardrobe", Wardrobe(self.model))

    def __call__(self, request: Request | str, count: int = 1) -> Iterator[Shown]:
        """Draw ``count`` pictures, watching every evaluation; see `watch`."""
        return self.watch(_request(request).series(count))

    def draw(self, request: Request | str, count: int = 1) -> list[Drawn]:
        """Draw ``count`` pictures and return them; see `watch`."""
        return [shown.drawn for shown in self(request, count) if shown.drawn]

    def draw_many(self, requests: Sequence[Request | str]) -> list[Drawn]:
        """Draw requests of strangers, all at once, and return the pictures in the order of the requests."""
        drawn = {shown.picture: shown.drawn for shown in self.watch(requests, len(requests)) if shown.drawn}
        return [drawn[place] for place in range(len(requests))]

    def followed(self, upscaler: Pipe) -> Pipe:
        """The same, and every picture is then drawn larger by the upscaler, from its latents."""
        return replace(self, upscaler=upscaler)

    def enlarge(self, settled: Settled, latents: Tensor) -> Iterator[Shown]:
        """Draw, as an upscaler, what another model drew: `safelight.generate.chain.larger` settles it.

        Args:
            latents: [1, Z, h, w], as the other's network sees them.
        """
        yield from self._pass([Turn(0, settled, [settled], left=latents)], Scenes(self.wardrobe.dressed, None))

    def watch(self, requests: Sequence[Request | str], together: int = 0) -> Iterator[Shown]:
        """Draw requests in order; the last `Shown` of each brings its `Drawn`. Closing the iterator stops at once.

        The bits of a picture depend on its own request alone, never on ``together`` or on who else draws.

        Args:
            together: how many are drawn at the same time, sharing network calls where their rows are equal; 0 for as
                many neighbours as fill a call.

        Raises:
            RequestError: at once, before anything is computed, if a request cannot be honoured.
        """
        return self._watch([self.settle(request) for request in requests], together)

    def settle(self, request: Request | str) -> Settled:
        """What exactly a request would compute, without computing it."""
        weak, refiner, upscaler = map(_model, (self.weak, self.refiner, self.upscaler))
        return chained(self.wardrobe.dressed, _request(request), weak, refiner, upscaler)

    def _watch(self, settled: Sequence[Settled], together: int) -> Iterator[Shown]:
        first, scenes = 0, Scenes(self.wardrobe.dressed, _model(self.weak))
        while first < len(settled):
            end = first + 1
            most = together or settled[first].together
            while end < min(first + most, len(settled)) and (together or settled[end].alike(settled[first])):
                end += 1
            for shown in self._group(settled[first:end], scenes):
                yield replace(shown, picture=first + shown.picture)
            first = end

    def _group(self, settled: Sequence[Settled], scenes: Scenes) -> Iterator[Shown]:
        """Draw these at the same time, pass after pass."""
        turns = [Turn(place, each, each.passes) for place, each in enumerate(settled)]
        # A model may take over from itself: it is asked once, and for all.
        of = {**{id(model): Scenes(model, None) for model in self._others}, id(scenes.model): scenes}
        while turns:
            for each in of.values():
                if mine := [turn for turn in turns if (self._draws(turn.now) or scenes.model) is each.model]:
                    yield from self._pass(mine, each)
            turns = [turn for turn in turns if turn.go_on()]

    @property
    def _others(self) -> list[Model]:
        """The models that draw after the first."""
        models = (_model(self.refiner), self.model.after, _model(self.upscaler))
        return [model for model in models if model is not None]

    def _draws(self, settled: Settled) -> Model | None:
        """Whose pass this is; None where it is that of the first."""
        after, upscaler = self.model.after, _model(self.upscaler)
        return {HANDED: _model(self.refiner), SHOWN: after or upscaler, PICTURE: after}.get(settled.begin)

    def _pass(self, turns: Sequence[Turn], scenes: Scenes) -> Iterator[Shown]:
        """Draw one pass of each, with the model of the scenes."""
        adopt(self.place)
        model, shared = scenes.model, []
        for turn in turns:
            begun = time.perf_counter()
            scene = scenes.read(turn.now)
            shared.append(scene if turn.left is None else carried(model, turn.now, scene, turn.left, turn.seen))
            turn.seconds["encode"] += time.perf_counter() - begun
        jobs = [task.job(model, turn.now, scene) for turn, scene in zip(turns, shared)]
        steps = sample_many(task.evaluator(model, scenes.weak), jobs)
        live = dict(enumerate(turns))
        while live:
            adopt(self.place)  # at every resumption: another pipe of this thread may have drawn in between
            begun = time.perf_counter()
            place, step = next(steps)
            if step.last:
                wait(self.place.device)
            for one in live.values():  # a call is the work of all who share it
                one.seconds["denoise"] += (time.perf_counter() - begun) / len(live)
            turn = live[place]
            turn.shown += 1
            shown = Shown(turn.place, turn.shown, turn.first.evaluations, step.level, step.denoised, self, model)
            if step.last:
                turn = live.pop(place)
                turn.left = step.x
                drawn = None if turn.due[1:] else self._drawn(turn, shared[place], model)
                shown = replace(shown, latents=step.x, drawn=drawn)
            yield shown

    def _drawn(self, turn: Turn, scene: task.Scene, model: Model) -> Drawn:
        begun, x, seconds = time.perf_counter(), turn.left, turn.seconds
        assert x is not None
        colours = task.decode(model, x)
        if not x.isfinite().all() or not colours.isfinite().all():
            self._blame()
        picture = to_picture(task.finish(turn.now.request, colours))
        seconds["decode"] = time.perf_counter() - begun
        return Drawn(picture, self.recipe(turn.first), x, scene.cut, seconds)

    def _blame(self) -> NoReturn:
        """Say why a picture became infinite or no number: the weights, or else the computation."""
        for module in (self.model.network, *self.model.encoders, self.model.vae):
            tensor = unsound(module)
            if tensor is not None:
                raise WeightsError(
                    f"{self.name}: the tensor {tensor} of {type(module).__name__} holds what is no number in"
                    f" {self.place.dtype}; the file is damaged, download it again (or try --dtype float32)"
                )
        raise PredictionError("the picture became infinite or not a number; try --dtype float32 or less guidance")

    def recipe(self, settled: Settled) -> Recipe:
        """All that a picture will be drawn from."""
        return written(self, settled)

    @cached_property
    def hashes(self) -> dict[str, str]:
        """File below the model's folder -> SHA-256, of every file that was read; a vocabulary lying elsewhere too."""
        return {below(self.folder, file): sha256(file) for file in self.model.files}


def _model(pipe: Pipe | None) -> Model | None:
    return None if pipe is None else pipe.model


def _request(request: Request | str) -> Request:
    return Request(request) if isinstance(request, str) else request


def below(model: Path, file: Path) -> str:
    """What a recipe calls a file: its place in the model's folder or one beside it, or its name and its folder's."""
    if model in file.parents:
        return str(file.relative_to(model))
    if model.parent in file.parent.parents:
        return str(file.relative_to(model.parent))
    return file.name if file == model else f"{file.parent.name}/{file.name}"


def load(
    model: str = DEFAULT,
    device: str | None = None,
    dtype: str | None = None,
    threads: int | None = None,
    weak: str | None = None,
    source: Source = USUAL,
    refiner: str | None = None,
    preview: str | None = None,
) -> Pipe:
    """Load a model.

    Args:
        model: the name of one that came with safelight, a released folder with a ``model_index.json``, a single file,
            or the name of one in the hub's cache, ``org/name[@revision][:folder]``.
        device, dtype, threads: see `safelight.runtime.device.pick`.
        weak: name or folder of a weaker model of the same latents, for the rule ``autoguidance``.
        source: which files are taken where there is a choice.
        refiner: name or folder of a model of the same latents, which takes over where a request says.
        preview: folder of a tiny autoencoder (TAESD); None takes ``preview_vae`` in the model's folder, if it is there.

    Raises:
        UnknownNameError: no such model. WeightsError, ConfigError: it is damaged or of an unknown kind.
    """
    place = pick(device, dtype, threads)
    folder = locate(model, source)
    lesser = None if weak is None else load(weak, device, dtype, threads)
    finer = None if refiner is None else load(refiner, device, dtype, threads)
    loaded = models.load_model(folder, place, source)
    tiny = models.load_preview(folder, loaded, place, preview)
    return Pipe(label(model, folder), folder, loaded, place, lesser, finer, tiny)
