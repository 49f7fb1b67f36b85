"""Image variations equal the reference's pipeline, and their folder is read strictly."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
import transformers

from safelight.errors import ConfigError, RequestError, SafelightError, WeightsError
from safelight.families.sd import varying
from safelight.generate.hires import Hires
from safelight.generate.pipe import Pipe, load
from safelight.generate.recipe import Recipe
from safelight.generate.request import Request
from tests.generate.scenes import mask, picture
from tests.parity.networks import BARS, difference
from tests.parity.pipelines import config_of, latents, plan_of, start
from tests.variations import tiny_variations

STEPS, SEED = 4, 7
SHOWN = picture(40, seed=3)


def ours() -> Pipe:
    pipe = load(str(tiny_variations()), device="cpu", threads=1)
    for module in pipe.model.modules:
        module.double()
    return pipe


def theirs(guidance: float) -> torch.Tensor:
    folder = tiny_variations()
    double = {"torch_dtype": torch.float64}
    encoder = transformers.CLIPVisionModelWithProjection.from_pretrained(folder / "image_encoder", **double)
    pipe = diffusers.StableDiffusionImageVariationPipeline(
        vae=diffusers.AutoencoderKL.from_pretrained(folder / "vae", **double),
        image_encoder=encoder,
        unet=diffusers.UNet2DConditionModel.from_pretrained(folder / "unet", **double),
        scheduler=plan_of(config_of("sd1", "DDIMScheduler")),
        safety_checker=None,
        feature_extractor=transformers.CLIPImageProcessorPil.from_pretrained(folder / "feature_extractor"),
        requires_safety_checker=False,
    )
    pipe.set_progress_bar_config(disable=True)
    asked: dict[str, Any] = {"guidance_scale": guidance, "latents": start(SEED), "output_type": "latent"}
    found: torch.Tensor = pipe(SHOWN, num_inference_steps=STEPS, **asked).images
    return found


def error(guidance: float) -> float:
    request = Request(image=SHOWN, steps=STEPS, guidance=guidance, seed=SEED)
    return difference(latents(ours(), request), theirs(guidance))


@pytest.mark.parametrize("guidance", [1.0, 4.0])
def test_a_picture_is_varied_as_by_the_reference(guidance: float) -> None:
    assert error(guidance) <= BARS[torch.float64]


def test_led_away_from_the_picture_of_nothing_would_show(monkeypatch: pytest.MonkeyPatch) -> None:
    right = varying.encode
    monkeypatch.setattr(varying, "encode", lambda viewer, prompt: right(viewer, prompt._replace(negative=False)))
    assert error(4.0) > 1e3 * BARS[torch.float64]


def test_it_draws_its_own_size_and_the_recipe_names_the_picture() -> None:
    pipe = load(str(tiny_variations()), device="cpu", threads=1)
    one, two = pipe.draw(Request(image=SHOWN, steps=2), 2)
    assert one.image.size == (32, 32) and not torch.equal(one.latents, two.latents)
    assert one.recipe.task == "vary" and (one.recipe.image or {})["sha256"]
    assert Recipe.from_json(one.recipe.json()) == one.recipe
    (other,) = pipe.draw(Request(image=picture(40, seed=4), steps=2))
    assert not torch.equal(one.latents, other.latents)
    assert {"image_encoder/model.safetensors", "feature_extractor/preprocessor_config.json"} < set(pipe.hashes)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"image": None, "prompt": "a hat"}, "needs an image to draw others like it"),
        ({"mask": mask(40)}, "needs an image to draw others like it, and no mask"),
        ({"prompt": "a hat"}, "a picture and no text"),
        ({"negative": "a hat"}, "a picture and no text"),
        ({"strength": 0.5}, "not painted over"),
        ({"invert": ""}, "not painted over"),
        ({"hires": Hires(2.0)}, "not painted over"),
        ({"emphasis": "a1111"}, "no signs of emphasis"),
        ({"skip": 1}, "cannot be skipped"),
    ],
)
def test_what_it_cannot_do_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        load(str(tiny_variations()), device="cpu", threads=1).settle(Request(**{"image": SHOWN, **fields}))


@pytest.mark.parametrize(
    ("file", "change", "kind", "message"),
    [
        ("model_index.json", {"image_encoder": [None, None]}, WeightsError, "names no image_encoder"),
        ("image_encoder/config.json", {"projection_dim": 12}, WeightsError, "visual_projection.weight is 16×16"),
        ("image_encoder/config.json", {"architectures": ["CLIPVisionModel"]}, WeightsError, "1 unexpected"),
        ("unet/config.json", {"cross_attention_dim": 12}, WeightsError, "of another shape"),
        ("feature_extractor/preprocessor_config.json", {"crop_size": 14}, ConfigError, "cuts out 14 pixels"),
        ("feature_extractor/preprocessor_config.json", {"resample": 2}, ConfigError, "preprocessor_config.json: resam"),
        ("scheduler/scheduler_config.json", {"prediction_type": "strange"}, ConfigError, "strange"),
    ],
)
def test_a_damaged_folder_is_refused_by_the_file(
    file: str, change: dict[str, Any], kind: type[SafelightError], message: str, tmp_path: Path
) -> None:
    place = tmp_path / "model"
    shutil.copytree(tiny_variations(), place)
    told = json.loads((place / file).read_text())
    (place / file).write_text(json.dumps({**told, **change}))
    with pytest.raises(kind, match=message):
        load(str(place), device="cpu", threads=1)
