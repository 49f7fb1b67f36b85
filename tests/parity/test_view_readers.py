"""Views drawn from prompts and portraits equal a loop over stock parts: from words and pixels to the last step.

Encoders, autoencoder and schedule are those of transformers and diffusers, networks those of `tests.parity.views` and
`tests.parity.domains`; cameras are written out. The state of a run is in float32, so that is the bar.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
import transformers
from diffusers.models.embeddings import get_timestep_embedding
from diffusers.pipelines.stable_diffusion import StableUnCLIPImageNormalizer
from PIL import Image
from torch import Tensor

from safelight.core.camera import Camera
from safelight.core.noise import draw as keyed
from safelight.core.noise import key, start_noise
from safelight.encoders.clip_vision import ClipVisionOutput
from safelight.encoders.viewer import Viewer
from safelight.generate import telling
from safelight.generate.views import Seen, ViewRequest, draw
from safelight.multiview import readers
from safelight.multiview.model import ViewModel, load, named
from safelight.multiview.network import Conditions
from safelight.multiview.presets import Preset, preset
from safelight.multiview.rig import rig
from safelight.multiview.unclip import Noising
from safelight.runtime.device import pick
from tests.dreams import dream, reference, small
from tests.generate.scenes import picture
from tests.parity import domains, test_zero123, test_zero123plus
from tests.parity.networks import BARS, difference
from tests.zero123 import tiny_zero123
from tests.zero123plus import tiny_zero123plus

BAR = BARS[torch.float32]
SEED, STEPS, SCALE, EDGE = 7, 2, 5.0, 32
TEXT, NEGATIVE = "a person with green hair", "red hat"
TURNS = {"mvdream": (15.0, (90, 180, 270, 0)), "imagedream": (5.0, (90, 180, 270, 0))}
TURNS["imagedream-local"] = TURNS["imagedream"]
"""Elevation and azimuths of the released scripts."""


@pytest.fixture(autouse=True)
def sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    small(monkeypatch)
    monkeypatch.setattr(domains, "H", 8)  # the reference of rows is told its grid
    monkeypatch.setattr(domains, "W", 8)


def see_through() -> Image.Image:
    """A picture with a hole, behind which grey shows."""
    pixels = np.array(picture(EDGE, seed=3).convert("RGBA"))
    pixels[:, :20, 3] = np.arange(EDGE, dtype=np.uint8)[:, None] * 8
    return Image.fromarray(pixels, "RGBA")


def ours(name: str) -> ViewModel:
    made = load(dream(name), pick("cpu"))
    for module in made.modules:
        module.double()
    return made


def cameras(told: Preset) -> Camera:
    if told.name not in TURNS:
        return rig(told.rig).cameras(EDGE, torch.float64)
    up, around = TURNS[told.name]
    return Camera.orbit(list(around), up, 1.0, 40.0, EDGE, dtype=torch.float64)


def drawn(name: str, **change: Any) -> Seen:
    made = ours(name)
    told = made.preset
    plain = ViewRequest(
        see_through() if told.pictured else None,
        cameras(told),
        steps=STEPS,
        guidance=SCALE,
        seed=SEED,
        prompt=TEXT if told.prompted else None,
        negative=NEGATIVE if told.prompted else None,
        sampler="ddim",
    )
    *_, last = draw(made, replace(plain, **change))
    return last


def poses(elevation: float, azimuths: tuple[int, ...]) -> Tensor:
    """[1, V, 16], row after row: the camera stands on the unit sphere, front at -y, and looks at its middle."""
    rows = []
    up = math.radians(elevation)
    for azimuth in map(math.radians, azimuths):
        out = [math.cos(up) * math.sin(azimuth), -math.cos(up) * math.cos(azimuth), math.sin(up)]
        right = [math.cos(azimuth), math.sin(azimuth), 0.0]
        over = np.cross(out, right)
        rows.append([each for row in zip(right, over, out, out, strict=True) for each in row] + [0, 0, 0, 1])
    return torch.tensor(rows, dtype=torch.float64)[None]


@cache
def parts(name: str) -> Mapping[str, Any]:
    """Of the folder, as the references read them, in float64."""
    folder, double = dream(name), {"torch_dtype": torch.float64}
    made: dict[str, Any] = {
        "vae": diffusers.AutoencoderKL.from_pretrained(folder / "vae", **double),
        "plan": diffusers.DDIMScheduler.from_pretrained(folder / "scheduler"),
    }
    if (folder / "text_encoder").is_dir():
        made["text"] = transformers.CLIPTextModel.from_pretrained(folder / "text_encoder", **double)
        made["words"] = transformers.CLIPTokenizer.from_pretrained(folder / "tokenizer")
    if (folder / "image_encoder").is_dir():
        made["clip"] = transformers.CLIPVisionModelWithProjection.from_pretrained(folder / "image_encoder", **double)
        made["pixels"] = transformers.CLIPImageProcessorPil.from_pretrained(folder / "feature_extractor")
    return made


def read(name: str, text: str) -> Tensor:
    known = parts(name)
    told = known["words"](text, padding="max_length", max_length=77, truncation=True, return_tensors="pt")
    return known["text"](told.input_ids).last_hidden_state


def seen(name: str, grey: int) -> tuple[Any, Tensor]:
    """What CLIP and the autoencoder make of the picture over a grey."""
    known, shown = parts(name), see_through()
    flat = Image.new("RGB", shown.size, (grey,) * 3)
    flat.paste(shown, mask=shown.getchannel("A"))
    clip = known["clip"](
        known["pixels"](images=flat, return_tensors="pt").pixel_values.double(), output_hidden_states=True
    )
    pixels = torch.from_numpy(np.array(flat)).permute(2, 0, 1)[None].double() / 127.5 - 1.0
    return clip, known["vae"].encode(pixels).latent_dist.mode() * known["vae"].config.scaling_factor


def told_of(name: str) -> tuple[Conditions, Conditions]:
    """What is led away from, and what is led towards, written out."""
    if name == "wonder3d":
        clip, latents = seen(name, 255)
        told = preset(name)
        labels = torch.tensor(
            [
                [0.0, *WONDER[azimuth % 360], float(domain == "normals"), float(domain == "colours")]
                for domain in told.domains
                for azimuth in (0, 45, 90, 180, -90, -45)
            ],
            dtype=torch.float16,
        ).double()
        labels = torch.cat([labels.sin(), labels.cos()], -1)[None]
        cond = Conditions(
            clip.image_embeds[:, None], labels, shown=latents[:, :, None].expand(-1, -1, 12, -1, -1).contiguous()
        )
        assert cond.shown is not None
        return replace(cond, context=0 * cond.context, shown=0 * cond.shown), cond
    if name in ("era3d", "facelift"):
        return unclip(name)
    cond = Conditions(read(name, f"{TEXT}, 3d asset"), poses(*TURNS[name]))
    away = replace(cond, context=read(name, NEGATIVE))
    if name.startswith("imagedream"):
        clip, latents = seen(name, 128)
        states = clip.hidden_states[-2]
        cond, away = replace(cond, hidden=states), replace(away, hidden=torch.zeros_like(states))
    if name == "imagedream":
        cond, away = replace(cond, reference=latents), replace(away, reference=torch.zeros_like(latents))
    return away, cond


def unclip(name: str) -> tuple[Conditions, Conditions]:
    """With the reference's own normaliser and noise, at its level 0."""
    folder, (clip, latents) = dream(name), seen(name, 255)
    normalizer = StableUnCLIPImageNormalizer.from_pretrained(folder / "image_normalizer").double()
    plan = diffusers.DDPMScheduler.from_pretrained(folder / "image_noising_scheduler")
    level, embeds = torch.tensor([0]), normalizer.scale(clip.image_embeds)
    noise = keyed(key(SEED, "projection"), (embeds.shape[1],)).double()
    noisy = normalizer.unscale(plan.add_noise(embeds, timesteps=level, noise=noise))
    label = get_timestep_embedding(level, embeds.shape[1], flip_sin_to_cos=True, downscale_freq_shift=0)
    maps = {"era3d": ("normal", "color"), "facelift": ("color",)}[name]
    words = [
        f"a rendering image of 3D models, {view} view, {kind} map."
        for kind in maps
        for view in ("front", "front_right", "right", "back", "left", "front_left")
    ]
    context = torch.cat([read(name, each) for each in words])[None]
    shown = latents[:, :, None].expand(-1, -1, len(words), -1, -1).contiguous()
    cond = Conditions(context, embedding=torch.cat([noisy, label.double()], 1), shown=shown)
    return replace(cond, embedding=torch.zeros(1, 2 * embeds.shape[1]).double(), shown=torch.zeros_like(shown)), cond


WONDER = {
    0: (0.0, 0.0),
    45: (-0.2362, 0.8125),
    90: (-0.1686, 1.6934),
    180: (0.5220, 3.1406),
    270: (0.6904, 4.8359),
    315: (0.3733, 5.5859),
}


@cache
@torch.no_grad()
def theirs(name: str) -> tuple[Tensor, Tensor]:
    """The latents of all slots, and each of them decoded."""
    known, network, (away, cond) = parts(name), reference(name), told_of(name)
    slots = {"wonder3d": 12, "era3d": 12, "facelift": 6}.get(name, 4)
    x = torch.stack([start_noise(SEED, (4, 8, 8), slot) for slot in range(slots)], 2).double()
    plan = known["plan"]
    plan.set_timesteps(STEPS)
    for t in plan.timesteps:
        uncond, said = (network(x, t[None], told) for told in (away, cond))
        x = plan.step(uncond + SCALE * (said - uncond), t, x).prev_sample
    decoded = [known["vae"].decode(view / known["vae"].config.scaling_factor).sample for view in x.unbind(2)]
    return x, torch.cat(decoded)


@pytest.mark.parametrize("name", ["mvdream", "imagedream", "imagedream-local", "wonder3d", "era3d", "facelift"])
def test_views_are_drawn_as_by_the_stock_parts(name: str) -> None:
    last, (latents, colours) = drawn(name), theirs(name)
    assert difference(last.latents, latents) <= BAR
    shown = np.stack([last.domain(domain) for domain in last.model.preset.domains]).reshape(-1, EDGE, EDGE, 3)
    wanted = ((colours.clamp(-1, 1) + 1) * 127.5).permute(0, 2, 3, 1).numpy()
    assert np.abs(shown - wanted).max() < 0.51


MISTAKES = {
    "no suffix": {"prompt": f"{TEXT} "},
    "no negative prompt": {"negative": None},
}


@pytest.mark.parametrize("change", MISTAKES.values(), ids=MISTAKES)
def test_what_is_told_otherwise_would_show(change: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    if "prompt" in change:
        monkeypatch.setattr(readers.Readers, "read", lambda self, texts: _plain(self, texts))
    assert difference(drawn("imagedream", **change).latents, theirs("imagedream")[0]) > 1e3 * BAR


def _over_white(patch: pytest.MonkeyPatch) -> None:
    right = telling.over
    patch.setattr(telling, "over", lambda shown, background: right(shown, 1.0))


def _last_layer(patch: pytest.MonkeyPatch) -> None:
    right = Viewer.see

    def wrong(self: Viewer, pictures: Sequence[Image.Image]) -> ClipVisionOutput:
        made = right(self, pictures)
        return made._replace(hidden=(*made.hidden, made.hidden[-1]))

    patch.setattr(Viewer, "see", wrong)


def _views_swapped(patch: pytest.MonkeyPatch) -> None:
    right = telling.captions
    patch.setattr(telling, "captions", lambda domains: right(domains)[::-1])


def _level_first(patch: pytest.MonkeyPatch) -> None:
    right = Noising.tell
    patch.setattr(Noising, "tell", lambda self, seen, seed: right(self, seen, seed).roll(seen.shape[1], 1))


WRONG = {
    _over_white: "imagedream",
    _last_layer: "imagedream",
    _views_swapped: "facelift",
    _level_first: "facelift",
}


@pytest.mark.parametrize(("mistake", "name"), WRONG.items())
def test_what_is_wrongly_encoded_would_show(
    mistake: Callable[[pytest.MonkeyPatch], None], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    mistake(monkeypatch)
    assert difference(drawn(name).latents, theirs(name)[0]) > 1e3 * BAR


_read = readers.Readers.read


def _plain(self: readers.Readers, texts: tuple[str, str]) -> Tensor:
    return _read(self, [text.removesuffix(", 3d asset") for text in texts])


def test_zero123s_views_are_drawn_as_by_the_stock_parts() -> None:
    made = load(tiny_zero123(), pick("cpu"), "zero123")
    for module in made.modules:
        module.double()
    asked = ViewRequest(
        test_zero123.SHOWN,
        test_zero123.VIEWS,
        steps=test_zero123.STEPS,
        guidance=test_zero123.SCALE,
        seed=7,
        own_camera=test_zero123.REFERENCE,
    )
    *_, last = draw(made, asked)
    assert difference(last.latents, test_zero123.right()) <= BAR
    *_, other = draw(made, replace(asked, own_camera=None))
    assert difference(other.latents, test_zero123.right()) > 1e3 * BAR
    assert named(tiny_zero123(), "zero123").size == 256 and made.preset.size == EDGE


def test_zero123pluss_tile_is_drawn_as_by_the_stock_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = shutil.copytree(tiny_zero123plus(), tmp_path / "plus")
    (place / "safelight.json").write_text('{"views": "zero123pp-1.2", "changes": {"size": 32}}')
    (place / "scheduler" / "scheduler_config.json").write_text(json.dumps(test_zero123plus.DDIM))
    made = load(place, pick("cpu"))
    for module in made.modules:
        module.double()
    start = torch.stack([start_noise(SEED, (4, 8, 8), view) for view in range(6)], 2).double()
    monkeypatch.setattr(test_zero123plus, "START", start)
    latents, colours = test_zero123plus.theirs.__wrapped__(SCALE)
    cameras = rig("zero123pp-1.2").cameras(EDGE)
    asked = ViewRequest(test_zero123plus.see_through(), cameras, steps=4, guidance=SCALE, seed=SEED, sampler="ddim")
    *_, last = draw(made, asked)
    assert difference(last.latents, test_zero123plus.of_the_tile(latents, 8)) <= BAR
    wanted = ((test_zero123plus.of_the_tile(colours, EDGE)[0].clamp(-1, 1) + 1) * 127.5).permute(1, 2, 3, 0)
    assert np.abs(last.pictures() - wanted.numpy()).max() < 0.51
