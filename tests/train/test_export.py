"""The model that a run leaves: read by our loader, and by diffusers as it is, with equal latents."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import pytest
import torch

from safelight.core.camera import Camera
from safelight.core.noise import start_noise
from safelight.errors import CheckpointError
from safelight.figurines.render import portrait_camera
from safelight.generate.pipe import load
from safelight.generate.request import Request
from safelight.train.figurines import stages
from safelight.train.figurines.export import CAMERA, export
from safelight.train.figurines.finished import AVERAGE, encoder_hash
from safelight.train.figurines.published import unpack
from safelight.train.run import Clock
from safelight.weights.load import read
from tests.train.tiny import tiny

PROMPT = "a person with green hair and a red hat"
CARD = {"data": "eight figurines", "licence": "Apache-2.0"}


@pytest.fixture(scope="module")
def model(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The published folder of the finished run."""
    return export(finished, tiny(), tmp_path_factory.mktemp("model"), CARD)


def test_our_loader_reads_the_model_and_draws_a_picture(model: Path) -> None:
    pipe = load(str(model), device="cpu")
    (drawn,) = pipe.draw(Request(PROMPT, steps=3))
    assert drawn.image.size == (32, 32)
    assert math.isfinite(float(drawn.latents.abs().max()))
    assert pipe.model.prediction == "v" and pipe.model.path.ends[0].alpha == 0.0
    assert pipe.model.latent.picture(drawn.latents) is not None, "it brings a linear preview"


def test_weights_are_published_in_half_precision_with_their_card(finished: Path, model: Path) -> None:
    trained, halved = read(finished / "unet" / AVERAGE), read(model / "unet" / "diffusion_pytorch_model.safetensors")
    assert trained.keys() == halved.keys()
    assert all(torch.equal(halved[name], tensor.half()) for name, tensor in trained.items())
    notes = json.loads((model / "safelight.json").read_text())
    assert notes["card"] == CARD
    camera = Camera.orbit(
        *(CAMERA[name] for name in ("azimuth", "elevation", "distance", "fov")), target=(0.0, 0.0, CAMERA["target_z"])
    )
    assert all(
        torch.equal(getattr(camera, n), getattr(portrait_camera(), n)) for n in ("rotation", "position", "focal")
    )


def test_diffusers_reads_the_model_and_draws_the_same_latents(model: Path) -> None:
    from diffusers import DDIMScheduler, StableDiffusionPipeline

    theirs = StableDiffusionPipeline.from_pretrained(model, local_files_only=True, torch_dtype=torch.float32)
    theirs.set_progress_bar_config(disable=True)
    assert isinstance(theirs.scheduler, DDIMScheduler)
    assert theirs.scheduler.alphas_cumprod[-1] == 0.0 and theirs.scheduler.config.timestep_spacing == "trailing"
    pipe = load(str(model), device="cpu", dtype="float32")
    shape = pipe.model.latent.shape(32, 32)
    (ours,) = pipe.draw(Request(PROMPT, seed=5, steps=20, guidance=2.0))
    noise = start_noise(5, shape)
    (latents,) = theirs(PROMPT, num_inference_steps=20, guidance_scale=2.0, latents=noise, output_type="latent").images
    assert float((ours.latents[0] - latents).abs().max()) < 1e-3
    assert float(ours.latents.std()) > 0.1, "they are no zeros"


def test_training_goes_on_from_a_published_model(finished: Path, model: Path, tmp_path: Path) -> None:
    run, small = tmp_path / "run", tiny("unet_fit.lr=0.0", "unet_fit.steps=1")
    start = unpack(model, run, small)
    shutil.copytree(finished / "data", run / "data")
    for _ in stages.learn_unet(run, small, Clock(None), "cpu", start):
        pass
    trained, published = read(run / "unet" / AVERAGE), read(start)
    assert all(torch.equal(tensor, published[name].float()) for name, tensor in trained.items())
    assert encoder_hash(run) != encoder_hash(finished), "the published encoder is rounded, so latents are made anew"
    with pytest.raises(CheckpointError, match="new folder"):
        unpack(model, run, small)


def test_a_published_model_of_another_shape_is_refused(model: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"\[words\]"):
        unpack(model, tmp_path / "run", tiny("words.width=32"))


def test_a_run_that_is_not_finished_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="train the U-Net first"):
        export(tmp_path / "run", tiny(), tmp_path / "model", CARD)
    assert not (tmp_path / "model").exists()
