"""Teach the U-Net to draw the portraits' latents from captions.

Axes: B rows, latents [B, Z, h, w], context [B, 77, C]. Every step writes new captions for its people; a share of them
is empty, which teaches the unconditional branch that guidance needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from safelight.core.noise import key
from safelight.core.path import VP, Level, vp_scaled_linear, zero_terminal_snr
from safelight.core.prediction import noised
from safelight.encoders.clip import ClipText
from safelight.encoders.tokenizer import ClipTokenizer
from safelight.errors import ConfigError, UnknownNameError
from safelight.families.sd.model import UNet, UNetConfig
from safelight.figurines.person import Person
from safelight.train.figurines.words import captions, token_rows
from safelight.train.objective import Objective, draw_shares, error
from safelight.train.order import first_weights, generator, rows

PREDICTIONS = {"v": "v_prediction", "eps": "epsilon", "x0": "sample"}
"""What a network may predict, and the word of a released ``scheduler_config.json`` for it."""


@dataclass(frozen=True)
class Drawing:
    """The U-Net's shape and what it is taught.

    Attributes:
        channels: widths from the finest level of the latents to the coarsest.
        attended: the levels that attend, to themselves and to the text, 0 the finest; the middle always does.
        layers: residual blocks per level. heads: of attention, one number for all levels or one for each, the finest
            first. groups: of every normalisation.
        empty: share of empty captions, 0 to 1.
        prediction: one of PREDICTIONS; ``eps`` says nothing at pure noise, so its path ends a little before.
        levels, min_snr: see `safelight.train.objective.Objective`.
        detail: how much small parts weigh, 0 (by their area) to 1 (as much as large ones); see
            `safelight.train.figurines.places`.

    Raises:
        UnknownNameError: a prediction that a released folder has no word for. ConfigError: a number out of its range.
    """

    channels: tuple[int, ...] = (96, 128, 160)
    attended: tuple[int, ...] = (1,)
    layers: int = 1
    heads: tuple[int, ...] = (4,)
    groups: int = 16
    empty: float = 0.1
    prediction: str = "v"
    levels: str = "uniform"
    min_snr: float = 0.0
    detail: float = 0.0

    def __post_init__(self) -> None:
        if self.prediction not in PREDICTIONS:
            raise UnknownNameError("prediction of a released U-Net", self.prediction, PREDICTIONS)
        for name in ("empty", "detail"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} = {getattr(self, name)} must lie between 0 and 1")
        if not set(self.attended) <= set(range(len(self.channels))):
            raise ConfigError(f"attended = {list(self.attended)} names a level that is not there, 0 is the finest")
        if len(self.heads) not in (1, len(self.channels)):
            raise ConfigError(f"heads = {list(self.heads)} must be one number, or one for each of channels")
        self.objective()

    @property
    def path(self) -> VP:
        """Stable Diffusion's table, stretched to pure noise where the prediction is defined there."""
        table = vp_scaled_linear()
        return table if self.prediction == "eps" else zero_terminal_snr(table)

    def objective(self) -> Objective:
        """How levels are drawn and errors weighted."""
        return Objective(self.levels, self.min_snr)

    def config(self, latent: int, size: int, context: int) -> UNetConfig:
        """The released configuration for ``latent`` channels on a grid of ``size`` and a text of width ``context``."""
        down = ["CrossAttnDownBlock2D" if i in self.attended else "DownBlock2D" for i in range(len(self.channels))]
        up = [kind.replace("Down", "Up") for kind in reversed(down)]
        return UNetConfig(
            sample_size=size,
            in_channels=latent,
            out_channels=latent,
            block_out_channels=self.channels,
            down_block_types=tuple(down),
            up_block_types=tuple(up),
            layers_per_block=self.layers,
            attention_head_dim=self.heads if len(self.heads) > 1 else self.heads[0],
            cross_attention_dim=context,
            norm_num_groups=self.groups,
            use_linear_projection=True,
        )


@dataclass(frozen=True)
class Examples:
    """What the U-Net learns from: scaled latents [N, Z, h, w] of N people, on its own device."""

    latents: Tensor
    people: Sequence[Person]


class Denoising:
    """The task: say, of a noisy latent and a caption, what the network's prediction should be.

    The network is trained, and the text encoder (frozen) reads, on the device of the examples.

    Args:
        places: how much each place of the latents counts, [h, w]; None counts all the same.
    """

    def __init__(
        self,
        drawing: Drawing,
        examples: Examples,
        text: ClipText,
        tokenizer: ClipTokenizer,
        path: VP,
        batch: int,
        seed: int,
        places: Tensor | None = None,
    ) -> None:
        device = examples.latents.device
        shape = examples.latents.shape
        with first_weights(seed):
            self.module = UNet(drawing.config(shape[1], shape[2], text.config.hidden_size)).to(device)
        self.drawing, self.examples, self.batch, self.seed = drawing, examples, batch, seed
        self.text, self.tokenizer = text.to(device).requires_grad_(False), tokenizer
        self.objective, self.places = drawing.objective(), None if places is None else places.to(device)
        self.table: tuple[Level, ...] = tuple(path.trained(k) for k in range(path.steps))

    def context(self, people: Sequence[Person], step: int) -> Tensor:
        """New captions for these people, read by the text encoder: [B, 77, C]."""
        texts, _ = captions(people, key(self.seed, "captions", step), self.drawing.empty)
        with torch.no_grad():
            return self.text(token_rows(self.tokenizer, texts).to(self.examples.latents.device)).last

    def loss(self, step: int, part: slice) -> Tensor:
        """The weighted error of the prediction."""
        chosen = rows(self.seed, step, self.batch, len(self.examples.people))
        x0 = self.examples.latents[chosen]
        shares = draw_shares(self.objective, self.batch, generator(self.seed, step, "levels"))
        levels = [self.table[int(share * len(self.table))] for share in shares.clamp(max=1 - 1e-6).tolist()]
        eps = torch.randn(x0.shape, generator=generator(self.seed, step, "noise")).to(x0.device)
        context = self.context([self.examples.people[i] for i in chosen], step)[part]
        x0, eps, levels = x0[part], eps[part], levels[part]
        t = torch.tensor([level.t for level in levels], device=x0.device)
        output = self.module(noised(x0, eps, levels), t, context)
        return error(self.drawing.prediction, self.objective, output, x0, eps, levels, self.places)
