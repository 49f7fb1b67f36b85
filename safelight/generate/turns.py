"""Pictures on their way through their passes, and what those of one request share."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from torch import Tensor

from safelight.families.family import Model
from safelight.generate import image as task
from safelight.generate.chain import SHOWN
from safelight.generate.request import Request
from safelight.generate.settle import Settled


@dataclass
class Turn:
    """One picture on its way through its passes.

    Attributes:
        place: among the pictures that are drawn at the same time. first: its first pass after an inversion. due: the
            passes that are left, the one to be done now included.
        left: latents that the pass before left. seen: those that a network was shown, last of all. shown: evaluations
            so far. seconds: as in `Drawn`.
    """

    place: int
    first: Settled
    due: list[Settled]
    left: Tensor | None = None
    seen: Tensor | None = None
    shown: int = 0
    seconds: dict[str, float] = field(default_factory=lambda: {"encode": 0.0, "denoise": 0.0, "decode": 0.0})

    @property
    def now(self) -> Settled:
        """The pass to be done now."""
        return self.due[0]

    def go_on(self) -> bool:
        """Turn to the next pass, if there is one."""
        self.due = self.due[1:]
        if self.due and self.now.begin == SHOWN:
            self.seen = self.left
        return bool(self.due)


class Scenes:
    """Encoded texts and pictures, read once for neighbours that differ in nothing but their seed."""

    def __init__(self, model: Model, weak: Model | None) -> None:
        self.model, self.weak = model, weak
        self.last: tuple[Request, task.Scene] | None = None

    def read(self, settled: Settled) -> task.Scene:
        """The scene of this picture."""
        asked = replace(settled.request, variation=None)
        # Noise on what is enlarged, or on a reference, belongs to the picture's seed.
        if self.model.enlarge is None and not any(use.seeded for use in asked.adapters):
            asked = replace(asked, seed=0)
        if self.last is None or self.last[0] != asked:
            self.last = asked, task.read(self.model, settled, self.weak)
        return self.last[1]
