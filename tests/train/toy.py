"""A task that learns in milliseconds, and a program that trains it until somebody kills it."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from safelight.train.loop import Trainer
from safelight.train.order import generator, rows
from safelight.train.settings import Fit

FIT = Fit(
    steps=100_000, batch=8, lr=1e-2, warmup=5, decay="constant", ema=0.9, precision="fp32", save_every=1, log_every=1
)


class Fitting:
    """The task: three layers learn a table of random numbers."""

    def __init__(self, seed: int = 0, width: int = 16) -> None:
        torch.manual_seed(seed)
        layers = (nn.Linear(4, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, 2))
        self.module = nn.Sequential(*layers)
        self.table = torch.randn(50, 6, generator=torch.Generator().manual_seed(1))

    def loss(self, step: int, part: slice) -> Tensor:
        chosen = self.table[rows(0, step, 8, 50)]
        noise = 0.1 * torch.randn(8, 4, generator=generator(0, step, "noise"))
        x, y = (chosen[:, :4] + noise)[part], chosen[part, 4:]
        return (self.module(x) - y).square().mean()


def weights(folder: Path, steps: int, **changes: object) -> dict[str, Tensor]:
    """All tensors of a run that is begun, or gone on with, in ``folder`` until ``steps``."""
    trainer = Trainer(Fitting(), replace(FIT, steps=steps, **changes), folder)
    for _ in trainer.run():
        pass
    return {name: tensor.clone() for name, tensor in trainer.tensors().items()}


if __name__ == "__main__":
    weights(Path(sys.argv[1]), FIT.steps)
