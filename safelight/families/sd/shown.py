"""What some U-Nets are shown beside noisy latents: a hole to fill, depth, or a small picture to enlarge.

Axes: [1, Z, h, w] latents, [1, 1, h, w] masks and depths, [1, 3, h, w] colours. The released networks know no flag for
it: the channels that they read tell. Source: Rombach et al. 2022, section 4.4; Ho et al. 2021, "Cascaded diffusion
models", section 4.2 (noise on the picture that is enlarged); the released pipelines.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from safelight.core.path import VP
from safelight.errors import ConfigError
from safelight.families.family import Prompt
from safelight.families.sd import scheduler
from safelight.families.sd.model import UNetConfig

NOTHING, HOLE, DEPTH, PICTURE = "latents", "with a mask and a masked picture", "with depth", "with a small picture"
NOISE_LEVEL, NOISIEST = 20, 350
"""Of a picture to enlarge: what the released pipeline adds, and the most that its network was trained on."""


def kind(folder: Path, unet: UNetConfig, channels: int) -> str:
    """What a U-Net is shown, from how many channels it reads.

    Raises:
        ConfigError: so many that no released network reads them.
    """
    if unet.class_embed_type:
        told = f"{unet.projection_width} numbers of every picture (class_embed_type), as networks of several views are"
        raise ConfigError(f"{folder}: the U-Net is told {told}; it is not drawn with as a single picture's")
    known = {channels: NOTHING, 2 * channels + 1: HOLE, channels + 1: DEPTH, channels + 3: PICTURE}
    found = known.get(unet.in_channels)
    if found is None or (found == PICTURE) != bool(unet.num_class_embeds):
        names = ", ".join(f"{count} ({what})" for count, what in known.items())
        classes = " and has noise levels" if unet.num_class_embeds else ""
        raise ConfigError(
            f"{folder}: the U-Net reads {unet.in_channels} channels{classes}; known are {names} and noise levels"
        )
    return found


@dataclass(frozen=True)
class Blurring:
    """How the small picture is made noisy, so that the network does not trust its finest grain.

    Attributes:
        path: the noise levels of the picture; noisiest: the last that the network knows.
    """

    path: VP
    noisiest: int

    @classmethod
    def read(cls, config: Mapping[str, Any], unet: UNetConfig, settings: Mapping[str, Any]) -> Blurring:
        """From ``low_res_scheduler``; ``max_noise_level`` stands in ``model_index.json``.

        Raises:
            ConfigError: it asks for a path that is not known here.
        """
        most = settings.get("max_noise_level", NOISIEST)
        most = most if isinstance(most, int) else NOISIEST
        path = scheduler.read({**config, "clip_sample": False}).path  # what is clipped there is no latent
        return cls(path, min(most, (unet.num_class_embeds or 1) - 1, path.steps - 1))

    def label(self, prompt: Prompt, device: torch.device) -> Tensor:
        """The noise level [1] that a prompt asks for."""
        level = prompt.facts.get("noise-level", (float(min(NOISE_LEVEL, self.noisiest)),))[0]
        return torch.tensor([int(level)], device=device)

    def noisy(self, colours: Tensor, label: Tensor, noise: Tensor) -> Tensor:
        """The picture as the network is shown it."""
        level = self.path.trained(float(label))
        return level.alpha * colours + level.sigma * noise
