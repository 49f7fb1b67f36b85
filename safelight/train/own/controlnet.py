"""Teach a ControlNet: a copy of the U-Net's way down that is shown a picture beside, zero where it meets the U-Net.

Axes: B rows, hints [B, 3, H, W] in [0, 1], latents [B, Z, h, w]. Source: Zhang et al. 2023 (2302.05543, section 3).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import torch
from PIL.Image import Image
from torch import Tensor, nn

from safelight.adapters.controlnet.checkpoints import open_control
from safelight.adapters.controlnet.model import OF_THE_UNET, beside
from safelight.adapters.controlnet.use import ControlUse, Hint
from safelight.adapters.fitting import unet_of
from safelight.adapters.picture import to_hint
from safelight.adapters.use import Use
from safelight.errors import ConfigError
from safelight.families.family import Model
from safelight.families.sd.model import Added
from safelight.generate.pipe import Pipe
from safelight.nn.ports import Ports
from safelight.train.order import first_weights
from safelight.train.own.buckets import fit
from safelight.train.own.lesson import Lesson
from safelight.train.own.lora import DTYPES
from safelight.train.own.pictures import Entry, rgb
from safelight.train.own.plan import ControlPlan
from safelight.weights.save import make_folder, save, write


class Guiding:
    """The task: the U-Net and the new network together should say what is under the noise.

    What reads the hint begins at full strength and not at zero, as it was released: the convolutions towards the U-Net
    are zero anyway, and behind two zeros nothing was learned of a hint in 600 steps.

    Args:
        seed: of the first numbers of what reads the hint.
    """

    suffix = ""

    def __init__(self, plan: ControlPlan, lesson: Lesson, seed: int) -> None:
        self.plan, self.lesson, self.model = plan, lesson, lesson.model
        with first_weights(seed):
            self.module = beside(unet_of("a ControlNet", self.model), widths=plan.widths).requires_grad_(True)
            for layer in self.module.controlnet_cond_embedding.modules():
                if isinstance(layer, nn.Conv2d):
                    nn.init.kaiming_normal_(layer.weight)

    def loss(self, step: int, part: slice) -> Tensor:
        """The weighted error of the U-Net's prediction."""
        batch = self.lesson.draw(step, part)
        hints = torch.cat([self.hint(row, flip) for row, flip in zip(batch.rows, batch.mirrored)]).to(batch.x)
        told = batch.told
        added = Added(pooled=told.pooled, times=told.times, labels=told.labels)
        said = self.module(batch.x, batch.t, told.context, self.module.look(hints), added=added)
        ported = self.model.ported
        assert ported is not None  # `check_teachable` saw it
        ports = Ports(residuals=said.skips, mid_residual=said.middle)
        return self.lesson.error(ported.predict(batch.x, batch.t, told, ports), batch)

    def hint(self, row: int, mirrored: bool) -> Tensor:
        """What the network is shown of one picture, fitted as the picture was: [1, 3, H, W]."""
        album = self.lesson.album
        bucket = album.seen[row].bucket
        hint = to_hint(fit(picture_of(album.entries[row]), bucket).picture, bucket, 3)
        return hint.flip(-1) if mirrored else hint

    def export(self, tensors: Mapping[str, Tensor], path: Path, told: Mapping[str, str]) -> None:
        """Write a released folder: ``config.json`` and ``diffusion_pytorch_model.safetensors``.

        Raises:
            FileError: it cannot be written.
        """
        make_folder(path)
        config = {key: value for key, value in asdict(self.module.config).items() if key not in OF_THE_UNET}
        text = json.dumps({"_class_name": "ControlNetModel", **config}, indent=2) + "\n"
        dtype = DTYPES[self.plan.dtype]
        made = {name: tensor.to(dtype) for name, tensor in tensors.items()}
        save(made, path / "diffusion_pytorch_model.safetensors", told)
        write(path / "config.json", [text.encode()])

    @contextmanager
    def used(self, pipe: Pipe, path: Path, count: int) -> Iterator[Sequence[tuple[Use, ...]]]:
        """What ``count`` requests ask for so that the exported folder guides them, each by a hint of the album."""
        control = open_control(path, pipe.model)
        entries = self.lesson.album.entries
        yield [(ControlUse(control, (Hint(picture_of(entries[i % len(entries)])),)),) for i in range(count)]


def check(plan: ControlPlan, model: Model) -> None:
    """Refuse early.

    Raises:
        RequestError: the model has no U-Net of Stable Diffusion.
        ConfigError: the widths do not bring the hint to the grid of the latents.
    """
    unet_of("a ControlNet", model)
    stride = model.latent.stride
    if 2 ** (len(plan.widths) - 1) != stride:
        raise ConfigError(f"[controlnet] widths: {stride} pixels to a latent need {stride.bit_length()} numbers")


def picture_of(entry: Entry) -> Image:
    """What a ControlNet is shown of an entry; ImageError where it cannot be read any more."""
    assert entry.control is not None
    return rgb(entry.control[0].read_bytes(), entry.control[0])
