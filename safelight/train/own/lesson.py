"""What every training on pictures does in a step: chosen pictures, noise, levels, read captions, and the error.

Axes: B rows, latents [B, Z, h, w]. A step's choices are functions of (seed, step); its pictures have one size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from safelight.core.path import Level
from safelight.core.prediction import noised
from safelight.errors import RequestError
from safelight.families.family import Model, Prompt
from safelight.train.objective import Objective, draw_shares, error
from safelight.train.order import alike, generator
from safelight.train.own.latents import Seen
from safelight.train.own.pictures import Entry, spread

MOST_READ = 4096
"""Captions whose reading is remembered while the text encoders do not learn."""


class Batch(NamedTuple):
    """The rows of one step, or of a part of it.

    Attributes:
        x: [B, Z, h, w], noisy latents. t: [B], their labels. told: the family's record of B rows.
        x0, eps: what x is mixed of, at ``levels``.
        rows: places of the pictures in the album. mirrored: whether each is seen in the mirror.
    """

    x: Tensor
    t: Tensor
    told: Any
    x0: Tensor
    eps: Tensor
    levels: Sequence[Level]
    rows: Sequence[int]
    mirrored: Sequence[bool]


@dataclass(frozen=True)
class Album:
    """Pictures, and how each is seen."""

    entries: Sequence[Entry]
    seen: Sequence[Seen]


def check_teachable(model: Model, name: str) -> None:
    """Refuse a network that is shown or told more than noisy latents and a text.

    Raises:
        RequestError: it repaints, enlarges, is shown depth, is distilled, or draws latents of another model.
    """
    if model.ported is None or model.conceal or model.deepen or model.enlarge or model.after or model.tell:
        raise RequestError(
            f"{name}: adapters are trained on models that draw pictures from text alone; this one repaints, enlarges, "
            "is shown depth, is distilled or is followed by another; name the model it was made from"
        )


class Lesson:
    """Batches of an album and the error of a model's answers to them.

    Args:
        read: how a prompt is read: `Model.encode`, or another way that learns; see ``learns``.
        empty: share of captions left out. learns: whether reading changes from step to step.
    """

    def __init__(
        self,
        model: Model,
        album: Album,
        objective: Objective,
        batch: int,
        seed: int,
        empty: float,
        *,
        learns: bool = False,
    ) -> None:
        self.model, self.album, self.objective, self.batch, self.seed = model, album, objective, batch, seed
        self.empty, self.learns = empty, learns
        self.encode: Callable[[Prompt], Any] = lambda prompt: model.encode(prompt).cond
        self.table: tuple[Level, ...] = tuple(model.path.trained(k) for k in range(model.path.steps))
        sizes = sorted({each.bucket for each in album.seen})
        every = spread(album.entries)
        self.groups = [[row for row in every if album.seen[row].bucket == size] for size in sizes]
        self.remembered: dict[tuple[Any, ...], Any] = {}

    def draw(self, step: int, part: slice) -> Batch:
        """The rows of a part of a step."""
        seed, device = self.seed, next(self.model.network.parameters()).device
        rows = alike(seed, step, self.batch, self.groups)
        chances = torch.rand(self.batch, 2, generator=generator(seed, step, "captions")).tolist()
        shares = draw_shares(self.objective, self.batch, generator(seed, step, "levels"))
        levels = [self.table[int(share * len(self.table))] for share in shares.clamp(max=1 - 1e-6).tolist()]
        mirrored = [len(self.album.seen[row].latents) > 1 and chance[1] < 0.5 for row, chance in zip(rows, chances)]
        x0 = torch.stack([self.album.seen[row].latents[int(flip)] for row, flip in zip(rows, mirrored)])
        eps = torch.randn(x0.shape, generator=generator(seed, step, "noise"))
        x0, eps, levels = x0[part].to(device), eps[part].to(device), levels[part]
        left_out = [chance[0] < self.empty for chance in chances]
        told = [self.told(row, left) for row, left in zip(rows[part], left_out[part])]
        t = torch.tensor([level.t for level in levels], dtype=torch.float32, device=device)
        x = noised(x0, eps, levels)
        record = told[0].cat(told[1:]).to(x)
        return Batch(x, t, record, x0, eps, levels, rows[part], mirrored[part])

    def told(self, row: int, left_out: bool) -> Any:
        """What the network is told of one picture: its caption, or as little as of an empty negative prompt."""
        seen, entry = self.album.seen[row], self.album.entries[row]
        sizes = {"original": seen.original, "crop": seen.crop, "target": seen.bucket}
        facts = {name: tuple(map(float, pair)) for name, pair in sizes.items() if name in self.model.facts}
        prompt = Prompt("" if left_out else entry.caption, seen.bucket, negative=left_out, facts=facts)
        if self.learns:
            return self.encode(prompt)
        place = (prompt.text, left_out, prompt.size, *facts.values())
        if place not in self.remembered:
            if len(self.remembered) >= MOST_READ:
                self.remembered.clear()
            with torch.no_grad():
                self.remembered[place] = self.encode(prompt)
        return self.remembered[place]

    def error(self, output: Tensor, batch: Batch) -> Tensor:
        """The weighted error of what the network said; what it says of a step's variance is left alone."""
        said = output[:, : batch.x.shape[1]]
        return error(self.model.prediction, self.objective, said, batch.x0, batch.eps, batch.levels)
