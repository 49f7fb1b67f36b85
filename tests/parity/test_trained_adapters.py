"""What safelight trained, read by diffusers and peft: every tensor is used there, and says the same as here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import diffusers
import pytest
import torch
from PIL import Image
from torch import Tensor

from safelight.adapters.controlnet.checkpoints import load_controlnet
from safelight.adapters.ip_adapter.file import load_ip_adapter
from safelight.adapters.ip_adapter.use import ImageUse
from safelight.adapters.lora.attach import attach
from safelight.adapters.lora.file import load as load_lora
from safelight.adapters.textual_inversion import load_embedding
from safelight.core.noise import start_noise
from safelight.families.family import Prompt
from safelight.families.sd.model import Added
from safelight.generate.request import Request
from safelight.generate.wardrobe import applied
from safelight.weights.load import read
from tests.models import tiny
from tests.train.album import learn, pipe, write_pictures

NEAR = 2e-6
"""In float32 of the largest number; both sides add in their own order."""


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("own") / "pictures")


def _theirs(kind: str) -> diffusers.DiffusionPipeline:
    found = diffusers.DiffusionPipeline.from_pretrained(tiny(kind), local_files_only=True, torch_dtype=torch.float32)
    found.set_progress_bar_config(disable=True)
    return found


def _question(kind: str) -> tuple[Tensor, Tensor, Tensor, dict[str, Tensor]]:
    rng = torch.Generator().manual_seed(1)
    width = 32 if kind == "sdxl" else 16
    x, context = torch.randn(2, 4, 8, 8, generator=rng), torch.randn(2, 7, width, generator=rng)
    more = {"text_embeds": torch.randn(2, 12, generator=rng), "time_ids": torch.rand(2, 6, generator=rng) * 32}
    return x, torch.tensor([900.0, 13.0]), context, more if kind == "sdxl" else {}


def _added(more: Mapping[str, Tensor]) -> Added:
    return Added(pooled=more.get("text_embeds"), times=more.get("time_ids"))


def _near(ours: Tensor, theirs: Tensor) -> bool:
    return float((ours - theirs).abs().max()) <= NEAR * float(theirs.abs().max()) * 10


@pytest.mark.parametrize("form", ["kohya", "diffusers"])
@pytest.mark.parametrize("kind", ["sd1", "sd2", "sdxl"])
@torch.no_grad()
def test_a_trained_lora_is_read_whole_by_diffusers_and_says_the_same(
    kind: str, form: str, pictures: Path, tmp_path: Path
) -> None:
    changes = ("lora.text=true", "lora.targets=all", f"lora.format={form}", "lora.dtype=float32", "fit.steps=2")
    with torch.enable_grad():
        learn("lora", tmp_path / "moss", pictures, *changes, kind=kind)
    path = tmp_path / "moss/moss.safetensors"
    pytest.importorskip("peft", reason="diffusers reads LoRA with it; it is in the extra dev")
    theirs, ours = _theirs(kind), pipe(kind)
    x, t, context, more = _question(kind)
    plain = theirs.unet(x, t, context, added_cond_kwargs=more).sample
    theirs.load_lora_weights(path.parent, weight_name=path.name, adapter_name="moss")
    attach(ours.model, load_lora(path))
    said = theirs.unet(x, t, context, added_cond_kwargs=more).sample
    assert not _near(plain, said), "it learned something"
    assert _near(ours.model.network(x, t, context, added=_added(more)), said)
    ids = torch.tensor([list(range(77))]) % 20
    for encoder, name in zip(ours.model.encoders, ("text_encoder", "text_encoder_2")):
        assert _near(encoder(ids).hidden[-2], getattr(theirs, name)(ids, output_hidden_states=True).hidden_states[-2])
    matrices = [name for name, tensor in read(path).items() if tensor.ndim > 1]
    networks = [theirs.unet, *(getattr(theirs, n) for n in ("text_encoder", "text_encoder_2") if hasattr(theirs, n))]
    used = [n for net in networks if net is not None for n, _ in net.named_parameters() if ".lora_" in n]
    assert len(used) == len(matrices), "every tensor of the file has a place there"


@pytest.mark.parametrize("kind", ["sd1", "sdxl"])
@torch.no_grad()
def test_a_trained_controlnet_is_read_by_diffusers_and_says_the_same(kind: str, pictures: Path, tmp_path: Path) -> None:
    with torch.enable_grad():
        learn("controlnet", tmp_path / "cn", pictures, "controlnet.dtype=float32", "fit.steps=2", kind=kind)
    folder = tmp_path / "cn/cn"
    theirs = diffusers.ControlNetModel.from_pretrained(folder, local_files_only=True)
    ours = load_controlnet(folder)
    x, t, context, more = _question(kind)
    hint = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    skips, middle = theirs(x, t, context, hint, added_cond_kwargs=more, return_dict=False)
    said = ours(x, t, context, ours.look(hint), added=_added(more))
    assert float(middle.abs().max()) > 0 and len(skips) == len(said.skips)
    for one, other in zip((*said.skips, said.middle), (*skips, middle)):
        assert _near(one, other)


@pytest.mark.parametrize("kind", ["sd1", "sdxl"])
@torch.no_grad()
def test_a_learned_word_is_read_by_diffusers_and_says_the_same(kind: str, pictures: Path, tmp_path: Path) -> None:
    with torch.enable_grad():
        learn("textual-inversion", tmp_path / "moss", pictures, "fit.steps=2", kind=kind)
    path, theirs, ours = tmp_path / "moss/moss.safetensors", _theirs(kind), pipe(kind)
    if kind == "sdxl":
        for name, part in (("clip_l", ""), ("clip_g", "_2")):
            chosen = {kind: getattr(theirs, kind + part) for kind in ("text_encoder", "tokenizer")}
            theirs.load_textual_inversion({"<mira>": read(path)[name]}, **chosen)
    else:
        theirs.load_textual_inversion(path)
    text = "a person <mira> and a red hat"
    with applied(ours, load_embedding(path, "<mira>")):
        model = ours.wardrobe.dressed
        said = model.encode(Prompt(text, (32, 32), learned=model.learned)).cond
    plain = ours.model.encode(Prompt(text, (32, 32))).cond
    wanted = theirs.encode_prompt(text, device="cpu", num_images_per_prompt=1, do_classifier_free_guidance=False)
    assert _near(said.context, wanted[0]) and not _near(plain.context, wanted[0])


@pytest.mark.parametrize("kind", ["sd1", "sdxl"])
@torch.no_grad()
def test_a_trained_ip_adapter_is_read_by_diffusers_and_says_the_same(kind: str, pictures: Path, tmp_path: Path) -> None:
    with torch.enable_grad():
        learn("ip-adapter", tmp_path / "eye", pictures, "ip_adapter.dtype=float32", "fit.steps=3", kind=kind)
    folder, theirs, ours = tmp_path / "eye/eye", _theirs(kind), pipe(kind)
    theirs.load_ip_adapter(
        str(folder), subfolder="", weight_name="eye.safetensors", image_encoder_folder="image_encoder"
    )
    theirs.set_ip_adapter_scale(0.7)
    shown = Image.open(pictures / "0.png").convert("RGB")
    asked = {"num_inference_steps": 2, "output_type": "latent", "guidance_scale": 3.0}
    start = start_noise(3, (4, 8, 8))
    wanted = theirs("a person", latents=start, ip_adapter_image=shown, **asked).images
    use = ImageUse(load_ip_adapter(folder / "eye.safetensors", ours.model), [shown], 0.7)
    request = Request("a person", steps=2, guidance=3.0, seed=3, adapters=[use])
    (drawn,), (plain,) = ours.draw(request), ours.draw(replace(request, adapters=()))
    assert _near(drawn.latents, wanted) and not _near(plain.latents, wanted)
