"""One run that makes the default model, or a part of it: its stages in order, and what is published of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from safelight.errors import RequestError
from safelight.train.checkpoint import found
from safelight.train.figurines import stages
from safelight.train.figurines.card import card
from safelight.train.figurines.export import export
from safelight.train.figurines.finished import AVERAGE
from safelight.train.figurines.plan import Plan
from safelight.train.figurines.published import unpack
from safelight.train.run import Clock, Progress
from safelight.weights.folder import weight_files
from safelight.weights.load import read
from safelight.weights.save import make_folder, save


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

    def stages(self, what: str, start: Path | None) -> Iterator[Iterator[Progress]]:
        """The stages in their order; what an earlier run finished ends at once.

        Args:
            what: ``figurines``, or ``figurines-words`` or ``figurines-vae`` for one part alone.
            start: weights to begin with: of a file, or in a model's folder.

        Raises:
            RequestError: weights of a folder that do not fit ``what``.
        """
        run, plan, clock, device = self.run, self.plan, self.clock, self.device
        folder = start if start is not None and start.is_dir() else None
        if what == "figurines-words":
            if folder:
                raise RequestError(f"{folder}: a model keeps no heads to go on with; --from takes a run's text/average")
            yield stages.learn_words(run, plan, clock, start, device)
            return
        yield stages.render(run, plan)
        if what == "figurines-vae":
            yield stages.learn_vae(run, plan, clock, _weights(folder / "vae") if folder else start, device)
            yield stages.learn_decoder(run, plan, clock, device)
            return
        if folder:
            self.unpack(folder)
        if not self.given("text"):
            yield stages.learn_words(run, plan, clock, None, device)
        if not self.given("vae"):
            yield stages.learn_vae(run, plan, clock, None, device)
            yield stages.learn_decoder(run, plan, clock, device)
        begin = start if folder is None else None
        yield stages.learn_unet(run, plan, clock, device, begin or (self.kept if self.kept.is_file() else None))

    def publish(self) -> Path | None:
        """Put the averaged weights together as a model's folder, finished or not; None before there are any."""
        if not (self.run / "unet" / AVERAGE).is_file():
            return None
        return export(self.run, self.plan, self.run / "model", card(self.run, self.plan))

    @property
    def kept(self) -> Path:
        """Published weights that the U-Net begins with, for a run that is stopped before its first checkpoint."""
        return self.run / "unet" / "start.safetensors"

    def unpack(self, model: Path) -> None:
        """Lay the parts of a published model into this run."""
        network = unpack(model, self.run, self.plan)
        make_folder(self.kept.parent)
        save(read(network), self.kept, metadata={"from": model.name})

    def given(self, part: str) -> bool:
        """Whether a part came finished from a published model: averaged weights that no run of ours made."""
        return (self.run / part / AVERAGE).is_file() and not found(self.run / part / "checkpoints")


def _weights(folder: Path) -> Path:
    """The one file of weights in a part of a model's folder."""
    files = weight_files(folder)
    if len(files) > 1:
        raise RequestError(f"{folder}: training begins with one file of weights, not with {len(files)}")
    return files[0]
