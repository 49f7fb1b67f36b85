"""Zero123++ equals diffusers' parts with reference attention written by hand, from the picture to the last step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
import transformers
from diffusers.models.attention_processor import AttnProcessor2_0
from PIL import Image
from torch import Tensor

from safelight.adapters import bank
from safelight.core.guidance import CFG
from safelight.core.noise import Fresh, draw, key
from safelight.core.path import vp_linear
from safelight.core.sample import Job, sample
from safelight.core.samplers.table import find
from safelight.families.sd import scheduler
from safelight.multiview.answer import evaluator
from safelight.multiview.presets import preset
from safelight.multiview.zero123plus import files, model, tile
from safelight.multiview.zero123plus.model import Remembering, Told, Zero123Plus
from tests.generate.scenes import picture
from tests.parity.networks import BARS, difference
from tests.parity.pipelines import encoder
from tests.zero123plus import PLAN, RAMP, noise, tiny_zero123plus

STEPS, SCALE, SEED, EDGE = 4, 4.0, 7, 32  # steps that divide 1000: else DDIM of the reference aims beside its own grid
BETAS = vp_linear(0.00085, 0.012)
START = noise((4, 6, 8, 8), 5)
DDIM: dict[str, Any] = {
    **{key: value for key, value in PLAN.items() if key != "steps_offset"},
    "_class_name": "DDIMScheduler",
    "timestep_spacing": "trailing",
    "clip_sample": False,
    "set_alpha_to_one": True,
}


def see_through() -> Image.Image:
    """A picture with a hole, behind which grey shows."""
    pixels = np.array(picture(40, seed=3).convert("RGBA"))
    pixels[:, :20, 3] = np.arange(40, dtype=np.uint8)[:, None] * 6
    return Image.fromarray(pixels, "RGBA")


def ours(strength: float = 1.0) -> Zero123Plus:
    loaded = replace(
        files.load(tiny_zero123plus(), preset("zero123pp-1.2")), strength=strength, plan=scheduler.read(DDIM)
    )
    for module in loaded.modules:
        module.double()
    return loaded


def drawn(
    loaded: Zero123Plus, told: dict[str, Told] | None = None, scale: float = SCALE, sampler: str = "ddim"
) -> Tensor:
    conds = told or loaded.tell(see_through(), SEED)
    weight = loaded.parts.unet.conv_in.weight
    ask = evaluator(Remembering(loaded), loaded.plan.prediction, weight)
    job = Job(
        find(sampler).bind(loaded.plan.path),
        loaded.plan.levels(STEPS),
        START,
        Fresh(1, START.shape[1:]),
        CFG(scale),
        conds,
    )
    *_, last = sample(ask, job)
    return last.x


class Reading:
    """Keeps what it is shown while it writes; else reads that beside its own."""

    def __init__(self, kept: dict[str, Tensor], name: str) -> None:
        self.kept, self.name = kept, name

    def __call__(self, attn: Any, hidden_states: Tensor, *_: Any, **__: Any) -> Tensor:
        if self.name not in self.kept:
            self.kept[self.name] = hidden_states
            return AttnProcessor2_0()(attn, hidden_states)
        return AttnProcessor2_0()(attn, hidden_states, torch.cat([hidden_states, self.kept.pop(self.name)], dim=1))


def on_grey() -> Image.Image:
    shown = see_through()
    grey = Image.fromarray(np.full((40, 40, 3), 127, np.uint8), "RGB")
    grey.paste(shown, mask=shown.getchannel("A"))
    return grey


@cache
@torch.no_grad()
def theirs(scale: float = SCALE) -> tuple[Tensor, Tensor]:
    """The latents of the whole tile, and its colours."""
    folder, double = tiny_zero123plus(), {"torch_dtype": torch.float64}
    unet = diffusers.UNet2DConditionModel.from_pretrained(folder / "unet", **double)
    vae = diffusers.AutoencoderKL.from_pretrained(folder / "vae", **double)
    clip = transformers.CLIPVisionModelWithProjection.from_pretrained(folder / "vision_encoder", **double)
    tokenizer = transformers.CLIPTokenizer.from_pretrained(folder / "tokenizer")
    kept: dict[str, Tensor] = {}
    unet.set_attn_processor(
        {name: Reading(kept, name) if "attn1" in name else AttnProcessor2_0() for name in unet.attn_processors}
    )
    prepared = [
        transformers.CLIPImageProcessorPil.from_pretrained(folder / f"feature_extractor_{each}")(
            images=on_grey(), return_tensors="pt"
        ).pixel_values.double()
        for each in ("vae", "clip")
    ]
    seeds = [key(SEED, 0, "views", side) for side in ("uncond", "cond")]
    condition = []
    for pixels, seed in zip((torch.zeros_like(prepared[0]), prepared[0]), seeds):
        found = vae.encode(pixels).latent_dist
        condition.append(found.mean + found.std * draw(key(seed, "drawn"), (4, 6, 6)).double())
    ids = tokenizer("", padding="max_length", max_length=77, truncation=True, return_tensors="pt").input_ids
    text = encoder(folder / "text_encoder").double()(ids)[0]
    token = clip(prepared[1]).image_embeds[:, None]
    context = torch.cat([text, text + token * torch.tensor(RAMP, dtype=torch.float64)[:, None]])
    shown = torch.cat(condition)
    plan = diffusers.DDIMScheduler.from_config(DDIM)
    plan.alphas_cumprod = torch.tensor(BETAS.alphas_cumprod, dtype=torch.float64)
    plan.set_timesteps(STEPS)
    x = torch.cat([torch.cat([START[:, :, 2 * row + column] for column in (0, 1)], 3) for row in range(3)], 2)
    assert x.shape == (1, 4, 24, 16)
    for t in plan.timesteps:
        level = BETAS.level(float(t))
        grain = torch.cat([Fresh(key(seed, 0, "reference"), (4, 6, 6))(level, level) for seed in seeds]).double()
        square = plan.alphas_cumprod[t]
        unet(square.sqrt() * shown + (1 - square).sqrt() * grain, t, context)
        uncond, cond = unet(torch.cat([x, x]), t, context).sample.chunk(2)
        assert not kept
        x = plan.step(uncond + scale * (cond - uncond) if scale != 1.0 else cond, t, x).prev_sample
    colours = vae.decode((x / 0.75 + 0.22) / vae.config.scaling_factor).sample / 0.5 * 0.8
    return x, colours


def of_the_tile(whole: Tensor, edge: int) -> Tensor:
    """[1, C, 6, edge, edge] of a tile [1, C, 3 edge, 2 edge], cut out one by one."""
    corners = [(edge * row, edge * column) for row in range(3) for column in range(2)]
    return torch.stack([whole[..., y : y + edge, x : x + edge] for y, x in corners], 2)


@pytest.mark.parametrize("scale", [1.0, SCALE])
def test_views_are_drawn_as_by_the_references_parts(scale: float) -> None:
    loaded, (latents, colours) = ours(), theirs(scale)
    x = drawn(loaded, scale=scale)
    assert difference(x, of_the_tile(latents, 8)) <= BARS[torch.float64]
    assert difference(torch.stack([*loaded.decode(x)], 2), of_the_tile(colours, EDGE)) <= BARS[torch.float64]


def test_the_released_schedule_is_the_references_with_trailing_steps() -> None:
    plan = diffusers.EulerAncestralDiscreteScheduler.from_config(PLAN, timestep_spacing="trailing")
    plan.set_timesteps(28)
    loaded = files.load(tiny_zero123plus(), preset("zero123pp-1.2"))
    levels = loaded.plan.levels(28)
    assert loaded.plan.sampler == "euler_ancestral" and loaded.plan.prediction == "v"
    found = torch.tensor([level.sigma / level.alpha for level in levels])
    torch.testing.assert_close(found, plan.sigmas, rtol=1e-5, atol=1e-6)
    assert [level.t for level in levels[:-1]] == plan.timesteps.tolist()
    assert (
        difference(loaded.plan.start(START, levels), START * plan.init_noise_sigma / (plan.sigmas[0] ** 2 + 1) ** 0.5)
        < 1e-6
    )


def _told(change: Callable[[Zero123Plus, Told, Told], dict[str, Told]]) -> Callable[[Zero123Plus], dict[str, Told]]:
    def make(loaded: Zero123Plus) -> dict[str, Told]:
        told = loaded.tell(see_through(), SEED)
        return change(loaded, told["cond"], told["uncond"])

    return make


WRONG = {
    "both are told of the picture": lambda _, c, u: {"cond": c, "uncond": replace(u, context=c.context)},
    "both are shown the picture": lambda _, c, u: {"cond": c, "uncond": replace(u, reference=c.reference)},
    "one is shown zero latents": lambda _, c, u: {"cond": c, "uncond": replace(u, reference=u.reference * 0)},
    "the reference is scaled": lambda m, c, u: {
        "cond": replace(c, reference=m.latent.scaled(c.reference)),
        "uncond": u,
    },
    "the noise is shared": lambda _, c, u: {"cond": c, "uncond": replace(u, seed=c.seed)},
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_wrongly_told_would_show(wrong: str) -> None:
    loaded = ours()
    assert difference(drawn(loaded, _told(WRONG[wrong])(loaded)), of_the_tile(theirs()[0], 8)) > 1e-5


def test_what_is_wrongly_drawn_would_show(monkeypatch: pytest.MonkeyPatch) -> None:
    (latents, colours), loaded = theirs(), ours()
    latents, colours = of_the_tile(latents, 8), of_the_tile(colours, EDGE)
    told = dict(loaded.tell(see_through(), SEED))

    def differs(place: Any, name: str, wrong: Any, record: dict[str, Told] | None) -> bool:
        with monkeypatch.context() as patch:
            patch.setattr(place, name, wrong)
            return difference(drawn(loaded, record), latents) > 1e-5

    assert differs(model, "tiled", lambda x: tile.tiled(x.flip(2)), told), "views in another order"
    assert differs(model, "read", lambda layer, there, q, k, v: layer.mix(q, k, v), told), "the reference is not read"
    assert differs(model, "read", lambda layer, there, *own: bank.read(layer, there.roll(1, 0), *own), told), "others'"
    assert differs(model, "noise_on", lambda seed, like: lambda level: torch.zeros_like(like), told), "shown clean"
    assert differs(model, "over", lambda shown, grey: shown.convert("RGB"), None), "not over grey"
    other = scheduler.read({**DDIM, "beta_schedule": "scaled_linear"})
    assert difference(drawn(replace(loaded, plan=other), told), latents) > 1e-5
    assert difference(drawn(replace(loaded, ramp=tuple(RAMP[::-1]))), latents) > 1e-5
    for name in ("SHIFT", "SPREAD"):
        with monkeypatch.context() as patch:
            patch.setattr(model, name, 1.0)
            assert difference(torch.stack([*loaded.decode(latents)], 2), colours) > 1e-5, name
    plain = replace(loaded, preset=replace(loaded.preset, contrast=1.0))
    assert difference(torch.stack([*plain.decode(latents)], 2), colours) > 1e-5
