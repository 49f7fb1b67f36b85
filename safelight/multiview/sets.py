"""A set of views as one run of a sampler: its noise and its guidance.

Axes: B rows, one set each, Z channels, V views, h w grid. The state of a run is [1, Z, V, h, w]. What view v starts
from, and what is added on its way, depends on (seed, v) alone: more views leave the noise of earlier ones as it was.
(What is drawn from it still differs where views read each other; see docs/learn/views.md.)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from safelight.core.guidance import Guidance
from safelight.core.noise import Fresh, start_noise
from safelight.core.path import Level
from safelight.core.run import Solver
from safelight.core.sample import Job
from safelight.multiview.network import Conditions


@dataclass(frozen=True)
class Apart:
    """Fresh noise for every step of a set, each view its own: a ``Noise``.

    Args:
        shape: of one view, (Z, h, w). views: the numbers of the V views. device: where the draws are put.
    """

    seed: int
    shape: tuple[int, int, int]
    views: Sequence[int]
    device: str | torch.device = "cpu"

    def start(self) -> Tensor:
        """What the set starts from: [1, Z, V, h, w]; view 0 as a picture of this seed does."""
        return torch.stack([start_noise(self.seed, self.shape, v) for v in self.views], 2).to(self.device)

    def __call__(self, s: Level, t: Level) -> Tensor:
        """Unit normal [1, Z, V, h, w] for the step from s to t."""
        each = (Fresh(self.seed, self.shape, view, self.device) for view in self.views)
        return torch.stack([noise(s, t) for noise in each], 2)


def run(
    noise: Apart,
    levels: list[Level],
    solver: Solver,
    conds: Mapping[str, Conditions],
    guidance: Guidance,
    *,
    begun: Tensor | None = None,
    width: int = 0,
    start: Callable[[Tensor, list[Level]], Tensor] | None = None,
) -> Job:
    """The run that draws one set.

    Args:
        levels: to visit, noisiest first.
        conds: what each branch of the guidance is told, one row each; "uncond" is of ``Preset.led_away``.
        begun: clean views [1, Z, V, h, w], of which the start keeps as much as the first level does; None: nothing.
        width: rows of each network call; 0 for as many as there are branches here, even where one is not asked.
        start: (unit noise, levels) -> the state in which a run begins that is not begun; None: sigma times the noise.
    """
    unit, (alpha, sigma, _) = noise.start(), levels[0]
    if begun is not None:
        x = alpha * begun + sigma * unit
    else:
        x = sigma * unit if start is None else start(unit, levels)
    return Job(
        sampler=solver,
        levels=levels,
        x=x,
        noise=noise,
        guidance=guidance,
        conds=conds,
        width=width or len(conds),
    )
