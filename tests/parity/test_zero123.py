"""Zero123 equals diffusers' parts put together by hand, view by view, from the picture to the last step."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import cache

import diffusers
import numpy as np
import pytest
import torch
import transformers
from torch import Tensor
from torch.nn import functional as F

from safelight.core.camera import Camera
from safelight.core.guidance import CFG
from safelight.core.noise import start_noise
from safelight.core.sample import Job, sample
from safelight.core.samplers.table import find
from safelight.multiview.answer import evaluator
from safelight.multiview.presets import preset
from safelight.multiview.zero123 import files, model
from safelight.multiview.zero123.model import Told, Zero123
from safelight.weights.load import read
from tests.generate.scenes import picture
from tests.parity.networks import BARS, difference
from tests.parity.pipelines import config_of, plan_of
from tests.zero123 import WEIGHTS, tiny_zero123

STEPS, SCALE = 3, 3.0
SHOWN = picture(32, seed=3)
REFERENCE = Camera.orbit(20.0, 10.0, 1.7, dtype=torch.float64)
VIEWS = Camera.orbit([50.0, -30.0, 200.0], [-20.0, 10.0, 35.0], [1.6, 1.7, 2.1], dtype=torch.float64)
WAYS = [(30.0, 30.0, -0.1), (0.0, -50.0, 0.0), (-25.0, 180.0, 0.4)]
"""The same in the terms of the released code: how much further from straight above, azimuth and distance."""
START = torch.cat([start_noise(7, (4, 1, 8, 8), view) for view in range(3)], dim=2).double()


def ours() -> Zero123:
    loaded = files.load(tiny_zero123(), preset("zero123"))
    for module in loaded.modules:
        module.double()
    return loaded


def drawn(loaded: Zero123, told: dict[str, Told] | None = None, scale: float = SCALE) -> Tensor:
    conds = told or loaded.tell(SHOWN, VIEWS, REFERENCE)
    levels = loaded.plan.levels(STEPS)
    weight = loaded.unet.conv_in.weight
    job = Job(find("ddim").bind(loaded.plan.path), levels, START, lambda s, t: START, CFG(scale), conds)
    *_, last = sample(evaluator(loaded.predict, loaded.plan.prediction, weight), job)
    return last.x


@torch.no_grad()
def theirs(scale: float = SCALE) -> tuple[Tensor, Tensor]:
    """Latents and decoded pictures of the three views, each drawn alone."""
    folder, double = tiny_zero123(), {"torch_dtype": torch.float64}
    unet = diffusers.UNet2DConditionModel.from_pretrained(folder / "unet", **double)
    vae = diffusers.AutoencoderKL.from_pretrained(folder / "vae", **double)
    clip = transformers.CLIPVisionModelWithProjection.from_pretrained(folder / "image_encoder", **double)
    layer = {name: value.double() for name, value in read(folder / "cc_projection" / WEIGHTS).items()}
    pixels = torch.from_numpy(np.array(SHOWN)).permute(2, 0, 1)[None].float() / 127.5 - 1.0
    seen = F.interpolate(pixels, (12, 12), mode="bicubic", align_corners=True) / 2.0 + 0.5
    mean, std = ([0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711])
    seen = (seen - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    embeds = clip(seen.double()).image_embeds
    beside = vae.encode(pixels.double()).latent_dist.mode()
    made, decoded = [], []
    for view, (down, turn, away) in enumerate(WAYS):
        turn = math.radians(turn)
        way = torch.tensor([[math.radians(down), math.sin(turn), math.cos(turn), away]], dtype=torch.float64)
        token = F.linear(torch.cat([embeds, way], -1), layer["projection.weight"], layer["projection.bias"])[:, None]
        told, shown = torch.cat([torch.zeros_like(token), token]), torch.cat([torch.zeros_like(beside), beside])
        plan = plan_of(config_of("sd1", "DDIMScheduler"))
        plan.set_timesteps(STEPS)
        x = START[:, :, view]
        for t in plan.timesteps:
            uncond, cond = unet(torch.cat([torch.cat([x, x]), shown], 1), t, told).sample.chunk(2)
            x = plan.step(uncond + scale * (cond - uncond) if scale != 1.0 else cond, t, x).prev_sample
        made.append(x)
        decoded.append(vae.decode(x / vae.config.scaling_factor).sample)
    return torch.stack(made, 2), torch.cat(decoded)


@pytest.mark.parametrize("scale", [1.0, SCALE])
def test_views_are_drawn_as_by_the_references_parts(scale: float) -> None:
    loaded = ours()
    latents, pictures = theirs(scale)
    x = drawn(loaded, scale=scale)
    assert difference(x, latents) <= BARS[torch.float64]
    assert difference(torch.cat([*loaded.decode(x)]), pictures) <= BARS[torch.float64]


def _scaled(loaded: Zero123) -> dict[str, Told]:
    told = loaded.tell(SHOWN, VIEWS, REFERENCE)
    return {name: replace(each, shown=loaded.latent.scaled(each.shown)) for name, each in told.items()}


def _nothing_projected(loaded: Zero123) -> dict[str, Told]:
    told, bias = dict(loaded.tell(SHOWN, VIEWS, REFERENCE)), loaded.projection.projection.bias
    return {**told, "uncond": replace(told["uncond"], context=told["uncond"].context + bias)}


def _still_shown(loaded: Zero123) -> dict[str, Told]:
    told = loaded.tell(SHOWN, VIEWS, REFERENCE)
    return {**told, "uncond": replace(told["uncond"], shown=told["cond"].shown)}


def _grey_shown(loaded: Zero123) -> dict[str, Told]:
    told = loaded.tell(SHOWN, VIEWS, REFERENCE)
    grey = loaded.vae.encode(torch.zeros(1, 3, 32, 32, dtype=torch.float64)).mode()
    return {**told, "uncond": replace(told["uncond"], shown=grey)}


def _mirrored(loaded: Zero123) -> dict[str, Told]:
    mirrored = Camera.orbit([-10.0, 70.0, -160.0], [-20.0, 10.0, 35.0], [1.6, 1.7, 2.1], dtype=torch.float64)
    return dict(loaded.tell(SHOWN, mirrored, REFERENCE))


def _views_swapped(loaded: Zero123) -> dict[str, Told]:
    told = loaded.tell(SHOWN, VIEWS, REFERENCE)
    return {name: replace(each, context=each.context.flip(1)) for name, each in told.items()}


def _stable(loaded: Zero123) -> dict[str, Told]:
    return dict(replace(loaded, camera="stable_zero123").tell(SHOWN, VIEWS, REFERENCE))


WRONG = (_scaled, _nothing_projected, _still_shown, _grey_shown, _mirrored, _views_swapped, _stable)


@pytest.mark.parametrize("wrong", WRONG)
@torch.no_grad()
def test_what_is_wrongly_told_would_show(wrong: Callable[[Zero123], dict[str, Told]]) -> None:
    loaded = ours()
    assert difference(drawn(loaded, wrong(loaded)), right()) > 1e-5


@cache
def right() -> Tensor:
    return theirs()[0]


@pytest.mark.parametrize("wrong", ["other corners", "the preprocessor of the folder", "the picture first"])
def test_what_is_wrongly_shown_would_show(wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = ours()
    if wrong == "other corners":
        resize = F.interpolate
        change = {"mode": "bicubic", "align_corners": False}
        monkeypatch.setattr(model.F, "interpolate", lambda x, size, **_: resize(x, size, **change))
    elif wrong == "the preprocessor of the folder":
        monkeypatch.setattr(model, "MEAN", (0.5, 0.4, 0.3))
    else:
        forward = type(loaded.unet).forward
        monkeypatch.setattr(
            type(loaded.unet), "forward", lambda self, x, *rest, **more: forward(self, x.roll(4, 1), *rest, **more)
        )
    assert difference(drawn(loaded), right()) > 1e-5
