"""Requests with pictures as prompts give the latents of the reference's pipelines, which read the same files."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution

import safelight
from safelight.adapters.ip_adapter.file import load_ip_adapter, read_faces
from safelight.adapters.ip_adapter.use import ImageUse
from safelight.families.sd.model import UNet
from safelight.generate.pipe import Pipe, load
from safelight.generate.request import Request
from safelight.weights.save import save
from tests.generate.scenes import mask, picture
from tests.models import tiny
from tests.parity.ip_adapters import FACE, SHOWN, half, tensors, write
from tests.parity.networks import difference, random
from tests.parity.pipelines import config_of, latents, noise_of, ours, reference, start

PROMPT, STEPS, SEED, EDGE = "a person with green hair", 3, 7, 32
EXACT, FROM_PICTURE = 1e-9, 1e-7
PIPELINES = {"sd1": "StableDiffusion", "sdxl": "StableDiffusionXL"}


@pytest.fixture(autouse=True)
def _as_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """The autoencoder's most probable latents, and noise drawn in float32."""
    monkeypatch.setattr(DiagonalGaussianDistribution, "sample", lambda self, generator=None: self.mode())
    for family in ("stable_diffusion", "stable_diffusion_xl"):
        for module in ("", "_img2img", "_inpaint"):
            place = import_module(f"diffusers.pipelines.{family}.pipeline_{family}{module}")
            monkeypatch.setattr(place, "randn_tensor", noise_of)


def written(place: Path, pipe: Pipe, *kinds: str) -> list[Path]:
    assert isinstance(pipe.model.network, UNet)
    return [
        write(place, tensors(kind, pipe.model.network, seed), f"{kind}.safetensors") for seed, kind in enumerate(kinds)
    ]


def theirs(pipeline: str, kind: str, files: list[Path], scales: list[Any], **asked: Any) -> torch.Tensor:
    pipe = reference(pipeline, kind, config_of(kind, "DDIMScheduler"))
    pipe.register_modules(unet=deepcopy(pipe.unet))  # it is changed, and others share it
    place = files[0].parents[1]
    pipe.load_ip_adapter(str(place), subfolder="models", weight_name=[file.name for file in files])
    pipe.set_ip_adapter_scale(scales)
    generator = torch.Generator().manual_seed(SEED)
    found: torch.Tensor = pipe(
        PROMPT, num_inference_steps=STEPS, output_type="latent", generator=generator, **asked
    ).images
    return found


@pytest.mark.parametrize("guidance", [1.0, 4.0])
@pytest.mark.parametrize("adapter", ["base", "plus"])
@pytest.mark.parametrize("kind", ["sd1", "sdxl"])
def test_text_to_image(kind: str, adapter: str, guidance: float, tmp_path: Path) -> None:
    pipe = ours(kind, config_of(kind, "DDIMScheduler"))
    (file,) = written(tmp_path, pipe, adapter)
    use = ImageUse(load_ip_adapter(file, pipe.model), SHOWN[:1], 0.6)
    drawn = latents(pipe, Request(PROMPT, steps=STEPS, guidance=guidance, seed=SEED, adapters=[use]))
    asked = {"guidance_scale": guidance, "latents": start(SEED), "ip_adapter_image": SHOWN[0]}
    assert difference(drawn, theirs(f"{PIPELINES[kind]}Pipeline", kind, [file], [0.6], **asked)) < EXACT
    plain = latents(pipe, Request(PROMPT, steps=STEPS, guidance=guidance, seed=SEED))
    assert difference(drawn, plain) > 1e-3


@pytest.mark.parametrize("kind", ["sd1", "sdxl"])
def test_two_adapters_with_two_pictures_each_and_masks(kind: str, tmp_path: Path) -> None:
    pipe = ours(kind, config_of(kind, "DDIMScheduler"))
    files = written(tmp_path, pipe, "base", "plus")
    size, sides = (EDGE, EDGE), ("left", "top")
    base, plus = (load_ip_adapter(file, pipe.model) for file in files)
    uses = [
        ImageUse(base, SHOWN, 0.6, masks=[half(size, side) for side in sides]),
        ImageUse(plus, SHOWN, 0.9, masks=[half(size, side) for side in sides[::-1]]),
    ]
    drawn = latents(pipe, Request(PROMPT, steps=STEPS, guidance=4.0, seed=SEED, adapters=uses))
    processor = diffusers.image_processor.IPAdapterMaskProcessor()
    masks = [
        processor.preprocess([half(size, side) for side in each], height=EDGE, width=EDGE).reshape(1, 2, EDGE, EDGE)
        for each in (sides, sides[::-1])
    ]
    asked: dict[str, Any] = {"guidance_scale": 4.0, "latents": start(SEED), "ip_adapter_image": [SHOWN, SHOWN]}
    asked["cross_attention_kwargs"] = {"ip_adapter_masks": masks}
    assert difference(drawn, theirs(f"{PIPELINES[kind]}Pipeline", kind, files, [0.6, 0.9], **asked)) < EXACT


@pytest.mark.parametrize("kind", ["sd1", "sdxl"])
def test_image_to_image(kind: str, tmp_path: Path) -> None:
    pipe = ours(kind, config_of(kind, "DDIMScheduler"))
    (file,) = written(tmp_path, pipe, "plus")
    use = ImageUse(load_ip_adapter(file, pipe.model), SHOWN, 0.8)
    asked = {"image": picture(), "strength": 0.7}
    drawn = latents(pipe, Request(PROMPT, steps=STEPS, guidance=4.0, seed=SEED, adapters=[use], **asked))
    wanted = theirs(
        f"{PIPELINES[kind]}Img2ImgPipeline", kind, [file], [0.8], guidance_scale=4.0, ip_adapter_image=[SHOWN], **asked
    )
    assert difference(drawn, wanted) < FROM_PICTURE


@pytest.mark.parametrize("kind", ["sd1", "sdxl"])
def test_inpainting(kind: str, tmp_path: Path) -> None:
    pipe = ours(kind, config_of(kind, "DDIMScheduler"))
    (file,) = written(tmp_path, pipe, "base")
    use = ImageUse(load_ip_adapter(file, pipe.model), SHOWN, 0.8)
    request = Request(PROMPT, steps=STEPS, guidance=4.0, seed=SEED, adapters=[use], image=picture(), mask=mask())
    drawn = latents(pipe, replace(request, strength=0.7))
    asked = {"image": picture(), "mask_image": mask(), "strength": 0.7, "height": EDGE, "width": EDGE}
    wanted = theirs(
        *(f"{PIPELINES[kind]}InpaintPipeline", kind, [file], [0.8]),
        guidance_scale=4.0,
        ip_adapter_image=[SHOWN],
        **asked,
    )
    assert difference(drawn, wanted) < FROM_PICTURE


def test_faces_with_the_lora_of_their_adapter(tmp_path: Path) -> None:
    pytest.importorskip("peft", reason="the reference reads the LoRA with it; it is in the extra dev")
    pipe = load(str(tiny("sd1")), device="cpu", threads=1)
    for module in pipe.model.modules:
        module.double()
    assert isinstance(pipe.model.network, UNet)
    (file,) = written(tmp_path, pipe, "face id")
    vectors = random(2, FACE, seed=9, dtype=torch.float32)
    save({"faces": vectors}, tmp_path / "faces.safetensors")
    adapter = load_ip_adapter(file, pipe.model)
    use = ImageUse(adapter, scale=0.8, faces=read_faces(tmp_path / "faces.safetensors"))
    request = Request(PROMPT, steps=STEPS, guidance=4.0, seed=SEED, adapters=[use])
    with safelight.applied(pipe, adapter.lora(pipe.model)):
        drawn = latents(pipe, request)
    plain = reference("StableDiffusionPipeline", "sd1", config_of("sd1", "DDIMScheduler"))
    parts = {**plain.components, "unet": deepcopy(plain.unet)}
    theirs = type(plain)(**parts, requires_safety_checker=False)
    theirs.load_ip_adapter(str(file.parents[1]), subfolder="models", weight_name=file.name, image_encoder_folder=None)
    theirs.set_ip_adapter_scale([0.8])
    shown = torch.stack([torch.zeros_like(vectors), vectors]).double()
    wanted = theirs(
        PROMPT,
        num_inference_steps=STEPS,
        output_type="latent",
        guidance_scale=4.0,
        latents=start(SEED),
        ip_adapter_image_embeds=[shown],
    ).images
    assert difference(drawn, wanted) < EXACT
    assert difference(latents(pipe, request), wanted) > 1e-3  # without the LoRA
