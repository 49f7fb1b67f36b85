"""One training on a folder of pictures: latents, the run, previews, and the files that other programs read.

RUN/
  latents/              made once for each picture
  checkpoints/, log.jsonl, loss.png, average.safetensors      as in every run
  NAME-000200.safetensors, NAME-000200-0.png ...              previews, and the file that they are drawn with
  NAME.safetensors      what was learned; or the folder NAME/. NAME is that of the run's folder
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from safelight import __version__
from safelight.adapters.lora.wear import TRIGGER
from safelight.adapters.use import Use
from safelight.generate.pipe import Pipe
from safelight.generate.request import Request
from safelight.train.ema import Average
from safelight.train.journal import save_png
from safelight.train.loop import Task
from safelight.train.own import controlnet, image_prompt, lora, words
from safelight.train.own.controlnet import Guiding
from safelight.train.own.image_prompt import Seeing
from safelight.train.own.latents import Seen, Sizes, prepare
from safelight.train.own.lesson import Album, Lesson, check_teachable
from safelight.train.own.lora import Tuning
from safelight.train.own.pictures import Entry, scan
from safelight.train.own.plan import ControlPlan, ImagePlan, LoraPlan, Plan, WordsPlan, check_edges
from safelight.train.own.words import Naming
from safelight.train.run import AVERAGE, Clock, Look, Progress, train
from safelight.weights.load import read

SHOWN = 4
"""Captions of the data that are drawn where the plan names no prompts."""


class Learner(Task, Protocol):
    """A task whose result is a file of its own."""

    @property
    def suffix(self) -> str:
        """Of its file; empty for a folder."""
        ...

    def export(self, tensors: dict[str, Any], path: Path, told: Mapping[str, str]) -> None:
        """Write the file from tensors by the names of ``module``."""
        ...

    def used(self, pipe: Pipe, path: Path, count: int) -> AbstractContextManager[Sequence[tuple[Use, ...]]]:
        """What each of ``count`` requests asks for so that the file is at work as in ``safelight generate``."""
        ...


@dataclass(frozen=True)
class Course:
    """Everything that one training needs.

    Attributes:
        run: its folder. pipe: the model, in float32. plan: every number. entries: the pictures.
    """

    run: Path
    pipe: Pipe
    plan: Plan
    entries: Sequence[Entry]

    def learn(self, clock: Clock, start: Path | None = None) -> Iterator[Progress]:
        """Make the latents, then train, with previews; at the end, and where the clock stops it, export.

        Args:
            start: averaged weights of another run to begin with.

        Raises:
            RequestError: the model cannot be taught so. CheckpointError: the run there is another.
            FileError: something cannot be written.
        """
        self.check()
        seen: list[Seen] = []
        for seen in prepare(self.pipe.model, self.entries, self.sizes, self.run / "latents"):
            yield Progress("latents", len(seen), len(self.entries))
            if clock.over and len(seen) < len(self.entries):
                return
        task = self.task(Album(self.entries, tuple(seen)))
        fit = self.plan.fit
        yield from train(task, fit, self.run, clock, start, self.facts(), self.look(task))
        task.export(read(self.run / AVERAGE), self.product(task), self.told())

    def check(self) -> None:
        """Refuse early what cannot be taught.

        Raises:
            RequestError: the model is none of those that are taught, or not so. ConfigError: numbers that do not fit.
        """
        model, own = self.pipe.model, self.plan.own
        check_teachable(model, self.pipe.name)
        if isinstance(own, WordsPlan):
            words.check(own, model, self.entries)
        if isinstance(own, ControlPlan):
            controlnet.check(own, model)
        if isinstance(own, ImagePlan):
            image_prompt.check(own, model)

    def made(self) -> Path | None:
        """What was exported; None before anything was."""
        name = self.run.resolve().name
        return next((each for each in (self.run / f"{name}.safetensors", self.run / name) if each.exists()), None)

    @property
    def sizes(self) -> Sizes:
        """Which sizes the pictures are seen at; RequestError where the plan's do not fit together."""
        model, data = self.pipe.model, self.plan.data
        levels = len(getattr(getattr(model.network, "config", None), "block_out_channels", (1,)))
        step = data.step or model.latent.stride * 2 ** (levels - 1)
        edge = data.size or model.defaults.width
        model.latent.shape(step, step)  # a multiple of the stride
        check_edges(edge, step)
        return Sizes(edge, step, data.flip)

    def task(self, album: Album) -> Learner:
        """What is taught."""
        plan, own = self.plan, self.plan.own
        reads = isinstance(own, WordsPlan) or (isinstance(own, LoraPlan) and own.text)
        model, fit = self.pipe.model, plan.fit
        lesson = Lesson(model, album, plan.objective, fit.batch, fit.seed, plan.data.empty, learns=reads)
        if isinstance(own, LoraPlan):
            return Tuning(own, lesson, fit.seed)
        if isinstance(own, WordsPlan):
            return Naming(own, lesson)
        if isinstance(own, ControlPlan):
            return Guiding(own, lesson, fit.seed)
        assert isinstance(own, ImagePlan)
        return Seeing(own, lesson, fit.seed)

    def product(self, task: Learner, step: int | None = None) -> Path:
        """The file that is made, at the end or after ``step`` steps."""
        name = self.run.resolve().name
        return self.run / f"{name}{'' if step is None else f'-{step:06d}'}{task.suffix}"

    def look(self, task: Learner) -> Look | None:
        """Draws the previews; None where there are none."""
        if not self.plan.fit.sample_every:
            return None

        def draw(average: Average, step: int) -> None:
            path = self.product(task, step)
            task.export(average.shadow, path, self.told())
            preview(self.pipe, task, path, self.requests())

        return draw

    def requests(self) -> list[Request]:
        """What is drawn in a preview."""
        wanted = self.plan.preview
        prompts = list(wanted.prompts)
        if prompts == [""]:
            prompts = list(dict.fromkeys(entry.caption for entry in self.entries))[:SHOWN]
        guidance = wanted.guidance or None
        return [
            Request(text, wanted.negative, steps=wanted.steps or None, guidance=guidance, seed=wanted.seed)
            for text in prompts
        ]

    def facts(self) -> dict[str, Any]:
        """What a resumption must share beside the numbers of the loop: plan, pictures, model."""
        plan = {"data": self.plan.data, "objective": self.plan.objective, "own": self.plan.own}
        said = {f"{part}.{name}": value for part, each in plan.items() for name, value in asdict(each).items()}
        pictures = [
            [each.digest, each.caption, each.repeats, each.control and each.control[1]] for each in self.entries
        ]
        return {**said, "pictures": hashed(pictures), "model": hashed(sorted(self.pipe.hashes.items()))}

    def told(self) -> dict[str, str]:
        """What the file says of itself."""
        fit, data = self.plan.fit, self.plan.data
        facts = {
            "modelspec.title": self.run.resolve().name,
            TRIGGER: data.trigger,
            "ss_output_name": self.run.resolve().name,
            "ss_sd_model_name": self.pipe.name,
            "ss_num_train_images": str(len(self.entries)),
            "ss_max_train_steps": str(fit.steps),
            "ss_learning_rate": f"{fit.lr:g}",
            "ss_seed": str(fit.seed),
            "made_by": f"safelight {__version__}",
        }
        own = self.plan.own
        return lora.told(self.pipe.model, own, facts) if isinstance(own, LoraPlan) else facts


def preview(pipe: Pipe, task: Learner, path: Path, requests: Sequence[Request]) -> list[Path]:
    """Draw requests with an exported file at work; pictures with their recipes beside it, ``NAME-0.png`` and so on."""
    places = []
    with task.used(pipe, path, len(requests)) as uses:
        for number, (request, used) in enumerate(zip(requests, uses)):
            (drawn,) = pipe.draw(replace(request, adapters=used))
            place = path.with_name(f"{path.stem}-{number}.png")
            save_png(drawn.image, place, drawn.metadata())
            places.append(place)
    return places


def hashed(value: Any) -> str:
    """The SHA-256 of what JSON says of a value."""
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()


def entries_of(what: str, data: Path, control: Path | None, plan: Plan) -> list[Entry]:
    """The pictures of a folder; for a ControlNet with what it is shown.

    Args:
        control: the folder of what a ControlNet is shown; None: the folder ``control`` beside the pictures.

    Raises:
        FileError, ImageError: see `safelight.train.own.pictures.scan`.
    """
    shown = (control or data / "control") if what == "controlnet" else None
    return scan(data, caption=plan.data.caption, trigger=plan.data.trigger, control=shown)
