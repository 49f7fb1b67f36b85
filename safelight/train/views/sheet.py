"""Sample sheets: what the U-Net draws so far of a few people, each beside the portrait and the true views.

Axes: N people, V views, latents [N, Z, V, h, w]. The people are held out, the noise is their number's own, and nothing
that training reads is touched. Source: Song et al. 2010.02502 (DDIM, eta 0).
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from safelight.core.guidance import CFG
from safelight.core.noise import key
from safelight.core.sample import sample_many
from safelight.core.samplers.table import find
from safelight.core.schedule import trailing
from safelight.figurines.person import random_people
from safelight.figurines.render import PORTRAIT
from safelight.figurines.sheet import sheet
from safelight.generate.picture import colours
from safelight.multiview.answer import evaluator
from safelight.multiview.network import Conditions, beside
from safelight.multiview.presets import preset
from safelight.multiview.sets import Apart, run
from safelight.train.ema import Average
from safelight.train.journal import save_png
from safelight.train.views.plan import Plan
from safelight.train.views.scenes import view
from safelight.train.views.viewing import Seeing, nothing, told_of
from safelight.vae.kl import AutoencoderKL

SEED = 20
"""Of the people and of the noise they are drawn from: the same in every sheet of every run."""
ORBIT = ((45.0, 0.0), (-90.0, 10.0), (180.0, 20.0), (-45.0, 30.0))
"""Azimuths and elevations of the views on a sheet, in degrees."""
PLACES = ((PORTRAIT["azimuth"], PORTRAIT["elevation"]), *ORBIT)


@dataclass(frozen=True)
class Sheet:
    """How sample sheets of one run are drawn.

    Args:
        vae: on the device of the task. scale: of the latents, as the U-Net sees them.
        count: people. steps: of DDIM. guidance: see `safelight.core.guidance.CFG`.
    """

    plan: Plan
    task: Seeing
    vae: AutoencoderKL
    scale: float
    count: int = 6
    steps: int = 20
    guidance: float = 2.0

    @cached_property
    def true(self) -> np.ndarray:
        """Pictures and coarse normals, uint8 [N, 1 + V, 2, S, S, 3], of people that training does not see."""
        people = random_people(np.random.default_rng(key(SEED, "people")), self.count, "test")
        return np.array([[view(person, self.plan.data.size, *at)[:2] for at in PLACES] for person in people])

    @torch.no_grad()
    def draw(self, average: Average, path: Path) -> None:
        """Write the sheet of the present averages as a PNG: a person a row; above the true views, below the drawn.

        Raises:
            FileError: it cannot be written.
        """
        drawn = self.vae.decode(self.latents(average).transpose(1, 2).flatten(0, 1) / self.scale).float().cpu()
        pixels = ((drawn.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1)
        made = pixels.unflatten(0, (self.count, len(ORBIT))).numpy()
        true = self.true[:, :, 0]
        rows = [
            np.concatenate([np.concatenate([*true[i]], 1), np.concatenate([true[i, 0], *made[i]], 1)], 0)
            for i in range(self.count)
        ]
        save_png(sheet(rows, columns=1), path)

    def latents(self, average: Average) -> Tensor:
        """What the averaged weights draw: [N, Z, V, h, w] as the U-Net sees latents, float32."""
        network = copy.deepcopy(self.task.module).eval()
        average.copy_to(network)
        kind, path = self.plan.views.prediction, self.plan.path
        x0 = self.task.latents.pictures
        shape = (x0.shape[2], x0.shape[3], x0.shape[4])
        guidance, facts = CFG(self.guidance, prediction=kind), preset(self.plan.views.preset)
        jobs = [
            run(
                Apart(key(SEED, "start", i), shape, range(len(ORBIT)), x0.device),
                trailing(path, self.steps),
                find("ddim").bind(path),
                {"cond": told, "uncond": facts.led_away(told, told.context)},
                guidance,
                width=2 * self.count,
            )
            for i, told in enumerate(self.told)
        ]
        final = {place: step.x for place, step in sample_many(evaluator(network, kind, x0), jobs)}
        return torch.cat([final[i] for i in range(self.count)])

    @cached_property
    def told(self) -> list[Conditions]:
        """What the network is told of each person, one row each."""
        viewing, latents = self.plan.views, self.task.latents.pictures
        places = torch.tensor([(*at, 0.0, 0.0) for at in PLACES])
        cameras = told_of(places, latents.shape[-1], viewing.camera)
        cameras = None if cameras is None else cameras.to(latents.device)
        found = []
        for views in self.true:
            parts = [] if cameras is None or viewing.vector else [_parted(cameras)]
            parts += [_parted(self.encoded(views[:, 1]))] if viewing.normals else []
            told = None if cameras is None or not viewing.vector else cameras[None, 1:]
            portrait = self.encoded(views[:1, 0])
            found.append(Conditions(nothing(1, portrait), told, reference=portrait, **beside(parts)))
        return found

    def encoded(self, pictures: np.ndarray) -> Tensor:
        """uint8 [n, S, S, 3] -> [n, Z, h, w] as the U-Net sees latents."""
        weight = next(self.vae.parameters())
        return self.vae.encode(colours(pictures).to(weight)).mode().float() * self.scale


def _parted(all_of_them: Tensor) -> tuple[Tensor, Tensor]:
    """[1 + V, C, h, w], the portrait's first -> beside the views [1, C, V, h, w], and beside it [1, C, h, w]."""
    return all_of_them[1:].transpose(0, 1)[None], all_of_them[:1]
