"""Sample sheets: what the U-Net draws so far for a few fixed descriptions, each beside its true render.

Axes: N descriptions, latents [N, Z, h, w]. The people are held out, the noise is their number's own, and nothing that
training reads is touched: no global generator, no weight, no mode. Source: Song et al. 2010.02502 (DDIM, eta 0).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from safelight.core.guidance import CFG
from safelight.core.noise import Fresh, key, start_noise
from safelight.core.path import Level
from safelight.core.prediction import denoised_rows
from safelight.core.sample import Job, sample_many
from safelight.core.samplers.table import find
from safelight.core.schedule import trailing
from safelight.figurines.captions import caption
from safelight.figurines.person import Person, random_people
from safelight.figurines.render import portrait
from safelight.figurines.sheet import sheet
from safelight.train.ema import Average
from safelight.train.figurines.denoising import Denoising
from safelight.train.figurines.plan import Plan
from safelight.train.figurines.words import token_rows
from safelight.train.journal import save_png
from safelight.vae.kl import AutoencoderKL

SEED = 20
"""Of the people, their descriptions and the noise they are drawn from: the same in every sheet of every run."""


@dataclass(frozen=True)
class Sheet:
    """How sample sheets of one run are drawn.

    Args:
        vae: on the device of the task. scale: of the latents, as the U-Net sees them.
        count: descriptions. steps: of DDIM. guidance: see `safelight.core.guidance.CFG`.
    """

    plan: Plan
    task: Denoising
    vae: AutoencoderKL
    scale: float
    count: int = 12
    steps: int = 20
    guidance: float = 2.0

    @cached_property
    def people(self) -> list[Person]:
        """Who is described: nobody that training sees."""
        return random_people(np.random.default_rng(key(SEED, "people")), self.count, "test")

    @cached_property
    def captions(self) -> list[str]:
        """What is said of each."""
        rng = np.random.default_rng(key(SEED, "captions"))
        return [caption(person, rng)[0] for person in self.people]

    @torch.no_grad()
    def draw(self, average: Average, path: Path) -> None:
        """Write the sheet of the present averages as a PNG: per description the true render, then the drawn picture.

        Raises:
            FileError: it cannot be written.
        """
        size = self.plan.data.size
        pictures = self.vae.decode(self.latents(average) / self.scale).float().cpu()
        colours = ((pictures.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
        pairs = [
            np.concatenate([portrait(person, size), drawn], 1)
            for person, drawn in zip(self.people, colours, strict=True)
        ]
        save_png(sheet(pairs, self.captions, columns=4), path)

    def latents(self, average: Average) -> Tensor:
        """What the averaged weights draw: [N, Z, h, w] as the U-Net sees latents, float32."""
        device = self.task.examples.latents.device
        unet = copy.deepcopy(self.task.module).eval()
        average.copy_to(unet)
        kind, path = self.plan.unet.prediction, self.plan.path

        def evaluate(x: Tensor, levels: Sequence[Level], contexts: Sequence[Tensor]) -> Tensor:
            t = torch.tensor([level.t for level in levels], device=device)
            return denoised_rows(kind, x, unet(x, t, torch.cat(list(contexts))), levels)

        ids = token_rows(self.task.tokenizer, [*self.captions, ""]).to(device)
        *conds, empty = self.task.text(ids).last.split(1)
        shape = tuple(self.task.examples.latents.shape[1:])
        jobs = [
            Job(
                sampler=find("ddim").bind(path),
                levels=trailing(path, self.steps),
                x=start_noise(key(SEED, "start", i), shape).to(device),
                noise=Fresh(i, shape, device=device),
                guidance=CFG(self.guidance, prediction=kind),
                conds={"cond": cond, "uncond": empty},
                width=2 * self.count,
            )
            for i, cond in enumerate(conds)
        ]
        final = {place: step.x for place, step in sample_many(evaluate, jobs)}
        return torch.cat([final[i] for i in range(self.count)])
