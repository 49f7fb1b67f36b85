"""A small network learns a mixture in one dimension, by every objective, and samplers draw the mixture from it.

Whatever sign, factor or level were wrong between training and sampling would show here as a wrong mean or spread.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from safelight.core import path as paths
from safelight.core.guidance import Unguided
from safelight.core.noise import Fresh, start_noise
from safelight.core.path import Flow, Level
from safelight.core.prediction import denoised_rows, noised
from safelight.core.sample import Job, sample
from safelight.core.samplers.table import find
from safelight.core.schedule import trailing
from safelight.train.loop import Trainer
from safelight.train.objective import Objective, draw_shares, error
from safelight.train.order import generator
from safelight.train.settings import Fit

CENTRES, SPREAD, SHARE = (-1.0, 1.2), 0.25, 0.7  # of the second centre
MEAN = (1 - SHARE) * CENTRES[0] + SHARE * CENTRES[1]
VARIANCE = SPREAD**2 + SHARE * (1 - SHARE) * (CENTRES[1] - CENTRES[0]) ** 2
BATCH, DRAWN = 256, 4096
FIT = Fit(steps=400, batch=BATCH, lr=5e-3, warmup=20, decay="cosine", ema=0.98, precision="fp32", save_every=1000)
VP = paths.vp_scaled_linear()
OBJECTIVES: dict[str, tuple[paths.Path, Objective]] = {
    "eps": (VP, Objective("uniform", 0.0)),
    "v": (paths.zero_terminal_snr(VP), Objective("uniform", 5.0)),
    "x0": (paths.zero_terminal_snr(VP), Objective("uniform", 5.0)),
    "flow": (Flow(), Objective("logit_normal", 0.0)),
}


class Mixture:
    """The task: denoise numbers from the mixture."""

    def __init__(self, kind: str, path: paths.Path, objective: Objective) -> None:
        torch.manual_seed(0)
        self.module = nn.Sequential(nn.Linear(4, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 1))
        self.kind, self.path, self.objective = kind, path, objective

    def say(self, x: Tensor, levels: Sequence[Level]) -> Tensor:
        """The network's answer to x [B, 1]; it sees the level as an angle."""
        angle = torch.tensor([math.atan2(level.sigma, level.alpha) for level in levels])[:, None]
        return self.module(torch.cat([x, angle, angle.cos(), (2 * angle).cos()], 1))

    def loss(self, step: int, part: slice) -> Tensor:
        shares = draw_shares(self.objective, BATCH, generator(0, step, "levels")).tolist()
        levels = [self.path.trained(int(share * self.path.steps)) for share in shares]
        rng = generator(0, step, "data")
        centre = torch.tensor(CENTRES)[(torch.rand(BATCH, generator=rng) < SHARE).long()]
        x0 = (centre + SPREAD * torch.randn(BATCH, generator=rng))[:, None]
        eps = torch.randn(BATCH, 1, generator=rng)
        x = noised(x0, eps, levels)
        return error(self.kind, self.objective, self.say(x, levels), x0, eps, levels)


@pytest.mark.parametrize("kind", OBJECTIVES)
def test_a_mixture_is_learned_and_drawn(kind: str, tmp_path: Path) -> None:
    path, objective = OBJECTIVES[kind]
    task = Mixture(kind, path, objective)
    trainer = Trainer(task, FIT, tmp_path)
    for _ in trainer.run():
        pass
    trainer.average.copy_to(task.module)

    @torch.no_grad()
    def evaluate(x: Tensor, levels: Sequence[Level], conds: Sequence[Any]) -> Tensor:
        column = x.view(-1, 1)
        return denoised_rows(kind, column, task.say(column, levels * len(column)), levels * len(column)).view_as(x)

    sampler = find("dpmpp_2m" if kind == "eps" else "ddim").bind(path)
    job = Job(sampler, trailing(path, 40), start_noise(1, (DRAWN,)), Fresh(1, (DRAWN,)), Unguided(), {"cond": None})
    *_, last = sample(evaluate, job)
    assert last.x.mean().item() == pytest.approx(MEAN, abs=0.12)
    assert last.x.var().item() == pytest.approx(VARIANCE, rel=0.15)
    assert (last.x > 0).float().mean().item() == pytest.approx(SHARE, abs=0.06)
