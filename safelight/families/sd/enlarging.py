"""The x2 latent upscaler of Stable Diffusion as one `Family`: how a folder is read, and what its network is told.

It is shown the latents of a picture, every one repeated twice along each edge, and draws those of twice the size.

Axes: B rows, Z latent channels, h w grid of the larger latents. Source: Karras et al. 2206.00364, table 1, with data of
unit variance: the network sees x / sqrt(sigma^2 + 1), is told log(sigma) / 4, and says sigma x0 - eps over the same
root. In the variance-preserving chart that is v with its sign turned.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from safelight.core.path import VP, Level
from safelight.encoders.checkpoints import load_clip_text
from safelight.encoders.tokenizer import ClipTokenizer
from safelight.errors import ConfigError, WeightsError
from safelight.families.family import Defaults, Enlarge, Family, Model, Prompt, Words
from safelight.families.sd import scheduler
from safelight.families.sd.kunet import KUNet, KUNetConfig
from safelight.families.sd.parts import Reader, fitting
from safelight.families.sd.wiring import Told
from safelight.vae.checkpoints import load_kl
from safelight.weights.folder import Index, read_json, weight_files
from safelight.weights.load import load_part

PARTS = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")
FACTOR = 2
SILENCE = 128
"""Numbers that say how noisy the shown picture is. It never is: the cosines of 0, then its sines."""
EDGE = 512
"""Pixels of a picture's edge where a request does not say."""


@dataclass(frozen=True)
class Quarters:
    """A table's path under the labels of this network: a quarter of log(sigma / alpha)."""

    table: VP

    @property
    def steps(self) -> int:
        """Rows of the training table."""
        return self.table.steps

    @property
    def ends(self) -> tuple[Level, Level]:
        """The noisiest and the cleanest level seen in training."""
        return self.trained(self.steps - 1), self.trained(0)

    def level(self, t: float) -> Level:
        """The level called t."""
        return self.at(-4.0 * t)

    def trained(self, k: float) -> Level:
        """Row k of the training table, 0 (cleanest) to steps - 1 (noisiest)."""
        return called(self.table.trained(k))

    def at(self, lam: float) -> Level:
        """The level with log(alpha / sigma) = lam."""
        return called(self.table.at(lam))

    def clock(self, level: Level) -> float:
        """sigma / alpha."""
        return self.table.clock(level)

    def at_clock(self, clock: float) -> Level:
        """The level with sigma / alpha = clock."""
        return called(self.table.at_clock(clock))


def called(level: Level) -> Level:
    """A level under this network's label; the clean end, where no network is asked, is called 0."""
    return level._replace(t=-0.25 * level.lam if math.isfinite(level.lam) else 0.0)


def load(index: Index) -> Model:
    """Read a folder.

    Raises:
        WeightsError: a part is missing, or its weights are unreadable or of another shape than its config says.
        ConfigError: a part is of a kind or a shape that this family does not have, or the parts do not fit together.
    """
    folder, variant, pickles = index.folder, index.variant, index.pickles
    for part in PARTS:
        if part not in index.parts:
            raise WeightsError(f"{folder / 'model_index.json'}: names no {part}; is this the x2 latent upscaler?")
    encoder = load_clip_text(folder / "text_encoder", variant, pickles=pickles)
    reader = fitting(ClipTokenizer.from_folder(folder / "tokenizer"), encoder, folder / "tokenizer")
    unet = load_part(folder / "unet", lambda raw: KUNet(KUNetConfig.from_dict(raw)), variant=variant, pickles=pickles)
    vae = load_kl(folder / "vae", variant, pickles=pickles)
    check(folder, unet.config, encoder.config.hidden_size, vae.config.latent_channels)
    plan = planned(folder, read_json(folder / "scheduler" / "scheduler_config.json"))
    latent = vae.config.latent()
    read = [folder / "model_index.json", folder / "scheduler" / "scheduler_config.json"]
    for part in ("unet", "vae", "text_encoder"):
        read += [folder / part / "config.json", *weight_files(folder / part, variant, pickles=pickles)]
    read += sorted(file for file in (folder / "tokenizer").iterdir() if file.is_file())

    def predict(x: Tensor, t: Tensor, told: Told) -> Tensor:
        assert told.pooled is not None and told.shown is not None
        said = unet(torch.cat([x, told.shown], dim=1), t, told.context, told.pooled)
        return -said[:, : x.shape[1]]  # the last channel is a variance, which no sampler here asks for

    return Model(
        family="sd-x2",
        folder=folder,
        network=unet,
        encoders=(encoder,),
        vae=vae,
        path=Quarters(plan.path),
        prediction="v",
        latent=latent,
        tasks=("upscale",),
        defaults=Defaults(
            width=FACTOR * EDGE,
            height=FACTOR * EDGE,
            levels=lambda n: [called(level) for level in plan.levels(n)],
            start=plan.start,
            sampler=plan.sampler,
            options=plan.options,
            steps=20,
            guidance=1.0,
        ),
        encode=lambda prompt: encode(reader, prompt),
        predict=predict,
        enlarge=Enlarge(FACTOR, 2 ** (len(unet.config.block_out_channels) - 1) * latent.stride, show),
        files=tuple(read),
    )


def check(folder: Path, unet: KUNetConfig, text: int, channels: int) -> None:
    """Check that the parts speak of the same things.

    Raises:
        ConfigError: they do not.
    """
    if unet.cross_attention_dim != text or unet.time_cond_proj_dim != SILENCE + text:
        raise ConfigError(
            f"{folder}: the U-Net reads text of width {unet.cross_attention_dim} and is told "
            f"{unet.time_cond_proj_dim} numbers beside it; the text encoder writes {text}, which makes {SILENCE + text}"
        )
    if unet.in_channels != 2 * channels or unet.out_channels != channels + 1:
        raise ConfigError(
            f"{folder}: the U-Net reads {unet.in_channels} and writes {unet.out_channels} channels; with this "
            f"autoencoder they would be {2 * channels} (latents and picture) and {channels + 1} (and a variance)"
        )


def planned(folder: Path, raw: Mapping[str, object]) -> scheduler.Plan:
    """What the scheduler's file asks for.

    Raises:
        ConfigError: it is of a kind that this program does not know, or says that the network means something else.
    """
    plan = scheduler.read_of(folder, raw)
    if plan.path.ends[0].alpha == 0.0:
        raise ConfigError(f"{folder / 'scheduler'}: a path that ends in pure noise has no label for it here")
    # What the network says is known, and preconditioned before the scheduler sees it, which it then takes for x0.
    if plan.prediction != "x0":
        raise ConfigError(f"{folder / 'scheduler'}: prediction_type must be 'sample' for this upscaler")
    return plan


@torch.no_grad()
def encode(reader: Reader, prompt: Prompt) -> Words:
    """A prompt as the network is told it: the last layer before its normalisation, and the pooled text."""
    tokens = reader.tokenizer.encode(prompt.text)
    device = next(reader.encoder.parameters()).device
    read = reader.encoder(torch.tensor([tokens.ids], device=device))
    half = read.pooled.new_ones(1, SILENCE // 2)
    told = torch.cat([half, torch.zeros_like(half), read.pooled], dim=-1)
    return Words(Told(read.hidden[-1], told), (tokens.cut,) if tokens.cut else ())


def show(told: Told, latents: Tensor) -> Told:
    """Show the latents [1, Z, h / 2, w / 2] of the picture to enlarge."""
    return replace(told, shown=F.interpolate(latents, scale_factor=FACTOR, mode="nearest"))


ENLARGING = Family("sd-x2", frozenset({"StableDiffusionLatentUpscalePipeline"}), load)
