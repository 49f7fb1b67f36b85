"""A U-Net that says its own variance draws as diffusers' of the same weights does with DDPMScheduler."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch

from safelight.core.noise import start_noise
from safelight.errors import ConfigError, RequestError
from safelight.families.sd.model import UNet, UNetConfig
from safelight.generate import image as task
from safelight.generate.pipe import Pipe, load
from safelight.generate.request import Request
from safelight.weights.save import save
from tests.models import SD1, tiny
from tests.parity.networks import difference

PROMPT, STEPS = "a person with green hair", 5
CONFIG: dict[str, Any] = {
    "_class_name": "DDPMScheduler",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "variance_type": "learned_range",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model whose U-Net writes eight channels."""
    place = tmp_path_factory.mktemp("learned") / "model"
    shutil.copytree(tiny(), place)
    torch.manual_seed(0)
    raw = json.loads((place / "unet/config.json").read_text("utf-8"))
    (place / "unet/config.json").write_text(json.dumps({**raw, "out_channels": 8}))
    save(UNet(UNetConfig(**SD1, out_channels=8)).state_dict(), place / "unet/diffusion_pytorch_model.safetensors")
    (place / "scheduler/scheduler_config.json").write_text(json.dumps(CONFIG))
    return place


@pytest.fixture(scope="module")
def pipe(folder: Path) -> Pipe:
    return load(str(folder), device="cpu", threads=1)


@pytest.mark.parametrize("guidance", [1.0, 4.0])
def test_the_latents_are_equal(folder: Path, pipe: Pipe, guidance: float) -> None:
    request = Request(PROMPT, steps=STEPS, guidance=guidance, seed=7)
    settled = pipe.settle(request)
    assert settled.sampler.sampler.name == "ddpm" and settled.sampler.options["variance"] == "learned_range"
    (drawn,) = pipe.draw(request)
    unet = diffusers.UNet2DConditionModel.from_pretrained(folder / "unet")
    plan = diffusers.DDPMScheduler.from_config(CONFIG)
    plan.set_timesteps(STEPS)
    scene = task.read(pipe.model, settled)
    job = task.job(pipe.model, settled, scene)
    noises = [job.noise(s, t) for s, t in zip(settled.levels, settled.levels[1:])]
    x = start_noise(7, (4, 8, 8))
    for place, t in enumerate(plan.timesteps):
        told = [unet(x, t, encoder_hidden_states=scene.conds[name].context).sample for name in scene.conds]
        eps, spread = told[0].chunk(2, dim=1)
        if guidance != 1.0:
            other = told[list(scene.conds).index("uncond")].chunk(2, dim=1)[0]
            eps = other + guidance * (eps - other)
        with pytest.MonkeyPatch.context() as patch:
            drawn_there = "diffusers.schedulers.scheduling_ddpm.randn_tensor"
            patch.setattr(drawn_there, lambda *_, noise=noises[place], **__: noise)
            x = plan.step(torch.cat([eps, spread], dim=1), t, x).prev_sample.detach()
    assert difference(drawn.latents, x) < 1e-5


def test_each_variance_gives_another_picture_and_others_ignore_it(pipe: Pipe) -> None:
    ways = [{"variance": name} for name in ("learned_range", "fixed_small", "fixed_large")]
    seen = {
        pipe.draw(Request(PROMPT, sampler="ddpm", options=way, steps=3, guidance=3.0))[0].image.tobytes()
        for way in ways
    }
    assert len(seen) == 3
    rules = [{}, {"guidance": 3.0}, {"sampler": "heun"}, {"sampler": "euler_cfg_pp"}]
    for change in rules:
        asked = Request(PROMPT, **{"sampler": "ddim", "steps": 3, "guidance": 1.0, **change})  # type: ignore[arg-type]
        assert pipe.draw(asked)[0].latents.isfinite().all()


def test_company_changes_no_bit(pipe: Pipe) -> None:
    asked = [Request(PROMPT, seed=seed, steps=3, guidance=2.0) for seed in (3, 4)]
    alone = [pipe.draw(each)[0].latents for each in asked]
    assert all(torch.equal(a.latents, b) for a, b in zip(pipe.draw_many(asked), alone))


def test_a_network_that_says_none_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="says no variance of its own"):
        load(str(tiny()), device="cpu", threads=1).settle(
            Request(PROMPT, sampler="ddpm", options={"variance": "learned_range"})
        )
    shutil.copytree(tiny(), tmp_path / "model")
    (tmp_path / "model/scheduler/scheduler_config.json").write_text(json.dumps(CONFIG))
    with pytest.raises(ConfigError, match="says no variance"):
        load(str(tmp_path / "model"), device="cpu", threads=1)
