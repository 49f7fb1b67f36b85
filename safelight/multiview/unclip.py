"""CLIP's projection of a picture as unCLIP tells it: noisy by a level, and how noisy.

Axes: B rows, P width of the projection. Source: Ramesh et al. 2204.06125, section 2; Rombach et al., Stable Diffusion
2.1 unCLIP, whose folder has ``image_normalizer`` and ``image_noising_scheduler``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from safelight.core.noise import draw, key
from safelight.core.path import VP
from safelight.errors import ConfigError, WeightsError
from safelight.families.sd import scheduler
from safelight.nn.embed import sinusoid
from safelight.weights.folder import read_json, weight_files
from safelight.weights.load import load_part

NORMALIZER, NOISING = "image_normalizer", "image_noising_scheduler"


class Normalizer(nn.Module):
    """The mean and the spread of projections, [1, P] each."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(1, width))
        self.std = nn.Parameter(torch.ones(1, width))


@dataclass(frozen=True)
class Noising:
    """How a projection is told.

    Attributes:
        normalizer: in whose unit noise is added. path: of the noise. files: that were read.
    """

    normalizer: Normalizer
    path: VP
    files: tuple[Path, ...] = ()

    @torch.no_grad()
    def tell(self, projection: Tensor, seed: int) -> Tensor:
        """[1, P] -> [1, 2 P]: with noise of level 0, the least there is, and the sinusoid of that level behind it."""
        mean, std = self.normalizer.mean, self.normalizer.std
        level = self.path.trained(0.0)
        noise = draw(key(seed, "projection"), tuple(projection.shape[1:])).to(projection)
        noisy = (level.alpha * (projection - mean) / std + level.sigma * noise) * std + mean
        label = torch.zeros(len(projection), device=projection.device)
        return torch.cat([noisy, sinusoid(label, projection.shape[1]).to(noisy)], 1)


def load_noising(folder: Path, width: int, title: str) -> Noising:
    """Read both parts of a released folder.

    Args:
        width: P. title: of the model, for messages.

    Raises:
        WeightsError: a part is missing or damaged. ConfigError: it is of another width, or no known path.
    """
    for part in (NORMALIZER, NOISING):
        if not (folder / part).is_dir():
            raise WeightsError(f"{folder}: has no {part}, by which {title} is told a picture; is the model complete?")
    place, plan = folder / NORMALIZER, folder / NOISING / "scheduler_config.json"

    def build(raw: Mapping[str, Any]) -> Normalizer:
        if raw.get("embedding_dim") != width:
            said = str(raw.get("embedding_dim"))[:40]
            raise ConfigError(f"embedding_dim = {said}; {title} is told projections of width {width}")
        return Normalizer(width)

    normalizer = load_part(place, build)
    try:
        path = scheduler.read({**read_json(plan), "clip_sample": False}).path  # what is clipped there is no projection
    except ConfigError as error:
        raise error if str(plan) in str(error) else ConfigError(f"{plan}: {error}") from error
    return Noising(normalizer, path, (plan, place / "config.json", *weight_files(place)))
