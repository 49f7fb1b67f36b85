"""One run that makes the model of views: its stages in order, and what is published of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from safelight.train.checkpoint import found
from safelight.train.figurines.card import history, machine
from safelight.train.figurines.finished import AVERAGE
from safelight.train.run import Clock, Progress
from safelight.train.views import stages
from safelight.train.views.begin import unpack
from safelight.train.views.export import export
from safelight.train.views.plan import Plan
from safelight.train.views.scenes import ELEVATIONS
from safelight.weights.safetensors import read_header

STAGES = ("vae", "decoder", "views")


@dataclass(frozen=True)
class Course:
    """One run of training.

    Attributes:
        run: its folder. plan: every number. clock: says when to stop. device: where networks learn.
    """

    run: Path
    plan: Plan
    clock: Clock
    device: str

    def stages(self, start: Path | None = None) -> Iterator[Iterator[Progress]]:
        """The stages in their order; what an earlier run finished ends at once.

        Args:
            start: what the U-Net begins with: a file of averaged weights, or a published model of views, whose
                autoencoder is taken over. Either may know less than the plan says, see `begin.begun`.
        """
        run, plan, clock = self.run, self.plan, self.clock
        yield stages.render(run, plan)
        if self.kept.is_file():
            start = self.kept
        elif start is not None and start.is_dir():
            start = unpack(start, run, plan, self.kept)
        if found(run / "vae" / "checkpoints") or not (run / "vae" / AVERAGE).is_file():
            yield stages.learn_vae(run, plan, clock, None, self.device)
            yield stages.learn_decoder(run, plan, clock, self.device)
        yield stages.learn_views(run, plan, clock, self.device, start)

    def publish(self) -> list[Path]:
        """Put the averaged weights together as a model's folder, finished or not; nothing before there are any.

        Where coarse normals were hidden now and then, the same network is a model without them, too: ``model-plain``.
        """
        if not (self.run / "views" / AVERAGE).is_file():
            return []
        made = [export(self.run, self.plan, self.run / "model", self.card())]
        views = self.plan.views
        if views.normals and views.bare:
            plain = replace(self, plan=replace(self.plan, views=replace(views, normals=False)))
            made.append(export(self.run, plain.plan, self.run / "model-plain", plain.card()))
        return made

    @property
    def kept(self) -> Path:
        """What the U-Net began with, where that was another model."""
        return self.run / "views" / stages.START

    def card(self) -> dict[str, Any]:
        """What people should know of the model, as far as the run can say it."""
        data, shown = self.plan.data, "a portrait and coarse normals" if self.plan.views.normals else "a portrait"
        learned = {stage: history(self.run / stage / "log.jsonl") for stage in STAGES}
        before = {"begun from": read_header(self.kept).metadata["from"]} if self.kept.is_file() else {}
        return {
            "what": f"draws views of a figurine from {shown}, {data.size}x{data.size}",
            "data": f"{data.people} people, {data.views} views each, rendered by safelight.figurines (split train, "
            f"seed {data.seed}); no photographs, no people",
            "licence": "Apache-2.0, weights and data",
            "training": before
            | {stage: f"{steps} steps, {hours:.2f} hours" for stage, (steps, hours) in learned.items() if steps},
            "machine": machine(),
            "limits": "one person on one plain background; cameras at the portrait's distance, with its lens, at "
            f"elevations from {ELEVATIONS[0]:g} to {ELEVATIONS[1]:g} degrees",
        }
