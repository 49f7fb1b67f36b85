"""The default model: it loads in diffusers, draws the same there, and changes its bits only with a new number."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from safelight.core.noise import start_noise
from safelight.errors import RequestError
from safelight.generate.pipe import Pipe, load
from safelight.generate.recipe import NUMERICS
from safelight.generate.request import Request
from safelight.generate.source import shipped
from safelight.weights.load import read
from tests.architecture.source import ROOT
from tests.golden.requests import REQUESTS, STORE, draw

TOLERANCE = 2e-3
"""Machines add floating-point numbers in different orders; a change of the algorithm moves latents by far more."""


@pytest.fixture(scope="module")
def pipe() -> Pipe:
    """The model that comes with the program."""
    return load()


def test_it_is_small_and_in_half_precision():
    folder = shipped()["figurines"]
    assert sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) <= 25e6
    for file in folder.rglob("*.safetensors"):
        assert {tensor.dtype for tensor in read(file).values()} == {torch.float16}


def test_it_draws_in_diffusers_what_it_draws_here(pipe: Pipe):
    diffusers = pytest.importorskip("diffusers")
    theirs = diffusers.StableDiffusionPipeline.from_pretrained(
        shipped()["figurines"], torch_dtype=torch.float32, local_files_only=True
    )
    theirs.set_progress_bar_config(disable=True)
    prompt, seed = "a smiling person with green skin, a red top hat and round glasses", 11
    ours = pipe.draw(Request(prompt, seed=seed, steps=20))[0]
    noise = start_noise(seed, tuple(ours.latents.shape[1:]))
    asked = {"prompt": prompt, "num_inference_steps": 20, "guidance_scale": ours.recipe.guidance, "latents": noise}
    with torch.no_grad():
        latents = theirs(**asked, output_type="latent").images
        picture = theirs(**asked, output_type="np").images[0]
    assert (latents - ours.latents).abs().max() <= 1e-3
    other = np.rint(picture * 255).astype(int)
    assert (np.abs(other - np.asarray(ours.image, dtype=int)) > 1).mean() <= 1e-3


@pytest.mark.parametrize("name", REQUESTS)
def test_its_numbers_are_those_of_this_version(pipe: Pipe, name: str):
    stored = read(STORE)[name]
    drawn = draw(pipe, name)
    assert (drawn - stored).abs().max() <= TOLERANCE, (
        f"default bits changed: raise NUMERICS above {NUMERICS}, write a CHANGELOG line, then run "
        "python -m tests.golden.requests"
    )


def test_the_changes_name_the_number_of_these_bits():
    assert f"`numerics = {NUMERICS}`" in (ROOT / "CHANGELOG.md").read_text("utf-8")


def test_a_size_that_is_no_multiple_of_the_stride_is_refused(pipe: Pipe):
    with pytest.raises(RequestError, match="multiple of 8"):
        pipe.draw(Request("a person", size=(127, 128)))


def test_words_reach_the_picture(pipe: Pipe):
    red = np.asarray(pipe.draw(Request("a person on a mint background", seed=1, steps=8))[0].image, float)
    blue = np.asarray(pipe.draw(Request("a person on a rose background", seed=1, steps=8))[0].image, float)
    corner = np.s_[2:12, 2:12]
    assert red[corner].mean((0, 1))[1] > red[corner].mean((0, 1))[0] + 40  # mint: more green than red
    assert blue[corner].mean((0, 1))[0] > blue[corner].mean((0, 1))[1] + 30  # rose: more red than green


def test_an_image_can_be_the_start(pipe: Pipe, tmp_path: Path):
    first = pipe.draw(Request("a person with purple hair", seed=2, steps=8))[0].image
    near = pipe.draw(Request("a person with purple hair", seed=3, steps=8, image=first, strength=0.25))[0].image
    far = pipe.draw(Request("a person with purple hair", seed=3, steps=8))[0].image
    assert distance(near, first) < distance(far, first)


def distance(a: Image.Image, b: Image.Image) -> float:
    """Mean absolute difference of two pictures, 0 to 255."""
    return float(np.abs(np.asarray(a, float) - np.asarray(b, float)).mean())
