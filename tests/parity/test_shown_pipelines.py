"""Networks that are shown depth, or a small picture with noise on it, draw what the reference's pipelines draw.

Everything is float64 but for what the reference keeps in float32, and what comes in as a picture; see `test_pipelines`.
"""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from PIL import Image

from safelight.core.noise import draw, key
from safelight.core.path import vp_scaled_linear
from safelight.errors import RequestError
from safelight.families.sd.convert import to_file
from safelight.generate.hires import Hires
from safelight.generate.pipe import load
from safelight.generate.request import Request
from safelight.generate.source import Source
from safelight.weights.folder import read_index
from tests.generate.scenes import picture, pipe
from tests.models import tiny
from tests.parity.networks import difference
from tests.parity.pipelines import SCHEDULERS, config_of, latents, noise_of, ours, parts_of, plan_of, start

PROMPT, NEGATIVE, STEPS, SEED = "a person with green hair", "a red hat", 4, 7
ROUNDED, ENCODED = 2e-5, 1e-6
FAMILY = "diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion_"


def ramp(mode: str = "L") -> Image.Image:
    """Depth that rises to one corner, of another size than the picture."""
    rise = np.add.outer(np.arange(26.0) ** 2, 30.0 * np.sin(np.arange(37.0)) ** 2 + 7.0 * np.arange(37.0))
    if mode == "L":
        return Image.fromarray((rise * 255 / rise.max()).astype(np.uint8), "L")
    return Image.fromarray((rise * 60).astype(np.int32), "I")


def small(size: int = 8) -> Image.Image:
    return picture(size, seed=4)


def theirs(built: Any, guidance: float, **asked: Any) -> torch.Tensor:
    built.set_progress_bar_config(disable=True)
    negative = {"negative_prompt": NEGATIVE} if guidance != 1.0 else {}
    generator = torch.Generator().manual_seed(SEED)
    asked = {**asked, **negative, "guidance_scale": guidance, "generator": generator}
    said: torch.Tensor = built(PROMPT, num_inference_steps=STEPS, output_type="latent", **asked).images
    return said


def request(guidance: float, **asked: Any) -> Request:
    negative = NEGATIVE if guidance != 1.0 else ""
    return Request(PROMPT, negative=negative, steps=STEPS, guidance=guidance, seed=SEED, **asked)


@pytest.mark.parametrize("mode", ["L", "I"])
@pytest.mark.parametrize("guidance", [1.0, 4.0])
@pytest.mark.parametrize("name", SCHEDULERS)
def test_depth(name: str, guidance: float, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DiagonalGaussianDistribution, "sample", lambda self, generator=None: self.mode())
    monkeypatch.setattr(import_module(FAMILY + "depth2img"), "randn_tensor", noise_of)
    config = config_of("depth", name)
    parts = {**parts_of("depth"), "scheduler": plan_of(config), "depth_estimator": None}
    kept = ("vae", "text_encoder", "tokenizer", "unet", "scheduler", "depth_estimator", "feature_extractor")
    built = diffusers.StableDiffusionDepth2ImgPipeline(**{part: parts[part] for part in kept})
    depth = torch.tensor(np.asarray(ramp(mode), np.float64))[None]
    wanted = theirs(built, guidance, image=picture(), strength=0.7, depth_map=depth)
    drawn = latents(ours("depth", config), request(guidance, image=picture(), strength=0.7, depth=ramp(mode)))
    assert difference(drawn, wanted) < (ENCODED if name == "DDIMScheduler" else ROUNDED)


def upscaler(config: dict[str, Any]) -> Any:
    raw = json.loads((tiny("x4") / "low_res_scheduler/scheduler_config.json").read_text("utf-8"))
    blur = diffusers.DDPMScheduler.from_config(raw)
    blur.alphas_cumprod = torch.tensor(vp_scaled_linear(0.0001, 0.02).alphas_cumprod, dtype=torch.float64)
    parts = {**parts_of("x4"), "scheduler": plan_of(config), "low_res_scheduler": blur, "max_noise_level": 50}
    kept = ("vae", "text_encoder", "tokenizer", "unet", "low_res_scheduler", "scheduler", "max_noise_level")
    return diffusers.StableDiffusionUpscalePipeline(**{part: parts[part] for part in kept})


@pytest.mark.parametrize("level", [None, 0, 50])
@pytest.mark.parametrize("guidance", [1.0, 4.0])
@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_picture_is_enlarged_four_times(
    name: str, guidance: float, level: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def blurred(shape: tuple[int, ...], generator: Any, device: Any, dtype: torch.dtype) -> torch.Tensor:
        return draw(key(SEED, 0, "small"), shape[1:]).to(dtype)

    monkeypatch.setattr(import_module(FAMILY + "upscale"), "randn_tensor", blurred)
    config = config_of("x4", name)
    told = {} if level is None else {"noise_level": level}
    wanted = theirs(upscaler(config), guidance, image=small(), latents=start(SEED), **told)
    facts = {} if level is None else {"noise-level": level}
    drawn = latents(ours("x4", config), request(guidance, image=small(), facts=facts))
    assert difference(drawn, wanted) < (ENCODED if name == "DDIMScheduler" else ROUNDED)


def test_the_noise_on_what_is_enlarged_belongs_to_the_seed() -> None:
    asked = Request(PROMPT, steps=2, seed=3, image=small())
    series = pipe("x4").draw(asked, 2)
    (alone,) = pipe("x4").draw(Request(PROMPT, steps=2, seed=4, image=small()))
    assert torch.equal(series[1].latents, alone.latents)
    assert alone.image.size == (32, 32)


def test_what_these_networks_cannot_do_is_told() -> None:
    for kind, asked, words in (
        ("x4", {}, "image to enlarge"),
        ("x4", {"image": small(), "strength": 0.5}, "leave out strength"),
        ("x4", {"image": small(), "size": (30, 32)}, "multiples of 4|multiple of 4"),
        ("depth", {"image": picture()}, "is shown depth; give"),
        ("sd1", {"depth": ramp()}, "is shown no depth"),
        ("sd1", {"facts": {"noise-level": 3}}, "unknown fact"),
    ):
        with pytest.raises(RequestError, match=words):
            pipe(kind).settle(Request(PROMPT, steps=2, **asked))
    for level in (51, 2.5):
        with pytest.raises(RequestError, match="whole number from 0 to 50"):
            pipe("x4").settle(Request(PROMPT, steps=2, image=small(), facts={"noise-level": level}))


def test_depth_is_fitted_to_the_second_pass_too() -> None:
    first, second = (
        pipe("depth").draw(Request(PROMPT, steps=2, depth=shown, hires=Hires(1.5)))[0].image
        for shown in (ramp(), ramp().transpose(Image.Transpose.FLIP_TOP_BOTTOM))
    )
    assert first.size == (48, 48)
    assert first.tobytes() != second.tobytes()


@pytest.mark.parametrize("kind", ["depth", "refiner", "x4", "lcm"])
def test_a_single_file_draws_what_its_folder_draws(laid_alike: None, kind: str, tmp_path: Path) -> None:
    to_file(read_index(tiny(kind)), tmp_path / "one.safetensors")
    source = Source(tokenizer=tiny(kind))
    shown = {"depth": {"depth": ramp()}, "refiner": {"image": picture(), "strength": 0.6}, "x4": {"image": small()}}
    asked = Request(PROMPT, steps=4, guidance=3.0, seed=3, **shown.get(kind, {}))  # type: ignore[arg-type]
    (drawn,) = load(str(tmp_path / "one.safetensors"), device="cpu", threads=1, source=source).draw(asked)
    apart = load(str(tiny(kind)), device="cpu", threads=1)
    assert torch.equal(drawn.latents, apart.draw(asked)[0].latents)
