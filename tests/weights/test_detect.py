"""A header alone says which model it is, what is missing and what is left over; an adapter says what it is for."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from safelight.evaluate.hollow import single, write_file
from safelight.families.sd.shape import scheduler
from safelight.weights.detect import Found, detect, known
from safelight.weights.dialects import adapter
from safelight.weights.header import Entry, Header
from safelight.weights.keys import Shape
from safelight.weights.variants import expected, tables_of
from tests.architecture.source import ROOT

SD = tables_of("sd")
STORED = expected(SD.folder)
VARIANTS = [variant.name for variant in SD.variants if variant.task != "views"]
"""Zero123's U-Net and autoencoder are those of Stable Diffusion 1; its whole file has tests of its own."""


def header(shapes: dict[str, Shape], **metadata: str) -> Header:
    return Header({name: Entry("F16", shape, 0, 0) for name, shape in shapes.items()}, metadata)


def sound(found: Found) -> bool:
    return not found.left and all(
        part.full and not (part.missing or part.extra or part.bent or part.plan.left) for part in found.components
    )


@pytest.mark.parametrize("channels", [0, 9, 5])
@pytest.mark.parametrize("name", VARIANTS)
def test_a_single_file_is_known_by_its_header(name: str, channels: int) -> None:
    found = detect(header(single(name, channels)))
    assert (found.family, found.variant, found.layout) == ("sd", name, "ldm")
    assert found.task == ("upscale" if name in ("x4", "x2") else {0: "text", 9: "inpaint", 5: "depth"}[channels])
    assert sound(found)
    wanted = {part.name for part in SD.variant(name).written} - {"controlnet"}
    assert {part.part for part in found.components} == wanted


@pytest.mark.parametrize("name", VARIANTS)
def test_a_unet_alone_is_known_with_any_prefix(name: str) -> None:
    prefixes = SD.variant(name).part("unet").prefixes
    inside = {n.removeprefix(p): s for p in prefixes[:1] for n, s in single(name).items() if n.startswith(p)}
    for before in prefixes:
        found = detect(header({before + n: s for n, s in inside.items()}))
        assert found.variant == name and sound(found) and [part.part for part in found.components] == ["unet"]


@pytest.mark.parametrize("stored", STORED)
def test_a_file_of_a_released_folder_is_known(stored: str) -> None:
    found = detect(header(dict(STORED[stored])))
    assert found.layout == "diffusers" and sound(found)
    if stored.startswith("unet"):
        assert SD.variant(found.variant).expected["unet"] == stored
    assert [part.part for part in found.components] == [
        {"clip": "text_encoder"}.get(stored.split("-")[0], stored.split("-")[0])
    ]


@pytest.mark.parametrize("name", [name for name in VARIANTS if name != "x2"])
def test_what_is_missing_left_over_or_bent_is_named(name: str) -> None:
    rows = single(name)
    rows["model.diffusion_model.out.2.weightx"] = rows.pop("model.diffusion_model.out.2.weight")
    rows["first_stage_model.quant_conv.bias"] = (9,)
    rows["junk"] = (1,)
    rows["model_ema.decay"] = ()
    found = detect(header(rows))
    unet, vae = found.component("unet"), found.component("vae")
    assert unet and unet.missing == ("conv_out.weight",) and unet.extra == ("conv_out.weightx",)
    assert vae and vae.bent == ("quant_conv.bias",)
    assert found.left == ("junk",) and found.unread == ("model_ema.decay",)


@pytest.mark.parametrize(("name", "task"), [("sd1", "text"), ("sd2", "depth"), ("sdxl", "text")])
def test_a_network_that_is_told_the_scale_of_guidance_is_no_stranger(name: str, task: str) -> None:
    rows = single(name, 5 if task == "depth" else 0)
    rows["model.diffusion_model.time_embed.cond_proj.weight"] = (320, 256)
    found, variant = known(header(rows), "m")
    assert sound(found) and found.task == task
    plan = scheduler(variant.prediction, variant.config.get("scheduler"))
    assert plan["_class_name"] == ("DDIMScheduler" if name == "sd2" else "LCMScheduler")
    assert (variant.pipeline == "LatentConsistencyModelPipeline") == (name == "sd1")


def test_the_task_changes_the_pipeline_and_what_is_predicted() -> None:
    def of(name: str, channels: int) -> tuple[str, str, bool]:
        _, variant = known(header(single(name, channels)), "m")
        return variant.pipeline, variant.prediction, variant.assumed

    assert of("sd2", 4) == ("StableDiffusionPipeline", "v_prediction", True)
    assert of("sd2", 9) == ("StableDiffusionInpaintPipeline", "epsilon", False)
    assert of("sd2", 5) == ("StableDiffusionDepth2ImgPipeline", "epsilon", False)
    assert of("x4", 0)[:2] == ("StableDiffusionUpscalePipeline", "v_prediction")
    assert of("sdxl", 9)[0] == "StableDiffusionXLInpaintPipeline"


def test_a_depth_file_brings_a_network_that_is_not_asked_and_an_upscaler_its_noise() -> None:
    rows = single("sd2", 5) | {"depth_model.model.pretrained.model.cls_token": (1, 1, 768)}
    found = detect(header(rows))
    assert sound(found) and found.unread == ("depth_model.model.pretrained.model.cls_token",)
    found = detect(header(single("x4") | {"low_scale_model.betas": (1000,), "low_scale_model.odd": (1,)}))
    assert found.unread == ("low_scale_model.betas",) and found.left == ("low_scale_model.odd",)


def test_sd2_leaves_the_layer_that_is_never_asked() -> None:
    rows = single("sd2")
    before = "cond_stage_model.model.transformer.resblocks."
    rows |= {n.replace(".22.", ".23."): s for n, s in rows.items() if n.startswith(before + "22.")}
    rows["cond_stage_model.model.text_projection"] = (1024, 1024)
    rows["cond_stage_model.model.logit_scale"] = ()
    found = detect(header(rows))
    assert sound(found) and len(found.unread) == 14


def test_the_oldest_merges_leave_a_word_out() -> None:
    rows = single("sd1")
    before = "cond_stage_model.transformer."
    old = {name.replace(f"{before}text_model.", before): shape for name, shape in rows.items()}
    old[f"{before}embeddings.position_ids"] = (1, 77)
    found = detect(header(old))
    assert found.variant == "sd1" and sound(found) and len(found.unread) == 1
    assert {part.part for part in found.components} == {"unet", "vae", "text_encoder"}


def test_nothing_known_is_no_error() -> None:
    found = detect(header({"a": (1,)}))
    assert (found.family, found.components, found.adapter) == ("", (), None)
    assert detect(Header({})).family == ""


LORAS: dict[str, tuple[dict[str, Shape], tuple[str, str, str, tuple[str, ...]]]] = {
    "kohya": (
        {
            "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k.lora_down.weight": (8, 768),
            "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k.alpha": (),
            "lora_te_text_model_encoder_layers_0_mlp_fc1.lora_down.weight": (4, 768),
        },
        ("lora", "kohya", "sd1", ("unet", "text_encoder")),
    ),
    "kohya xl": (
        {
            "lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k.lora_down.weight": (8, 2048),
            "lora_te1_text_model_encoder_layers_0_mlp_fc1.lora_down.weight": (8, 768),
            "lora_te2_text_model_encoder_layers_0_mlp_fc1.lora_down.weight": (8, 1280),
        },
        ("lora", "kohya", "sdxl", ("unet", "text_encoder", "text_encoder_2")),
    ),
    "diffusers": (
        {"unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.lora_A.weight": (8, 1024)},
        ("lora", "diffusers", "sd2", ("unet",)),
    ),
    "old diffusers": (
        {"unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2.processor.to_k_lora.down.weight": (8, 768)},
        ("lora", "diffusers", "sd1", ("unet",)),
    ),
    "peft": (
        {"base_model.model.down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.lora_A.weight": (8, 768)},
        ("lora", "peft", "sd1", ("unet",)),
    ),
    "dora": (
        {
            "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_k.lora_down.weight": (8, 768),
            "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_k.dora_scale": (1, 768),
        },
        ("dora", "kohya", "sd1", ("unet",)),
    ),
    "loha": (
        {"lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_k.hada_w1_b": (8, 768)},
        ("loha", "kohya", "sd1", ("unet",)),
    ),
    "another family": (
        {"transformer.single_transformer_blocks.0.attn.to_k.lora_A.weight": (16, 3072)},
        ("lora", "diffusers", "", ("transformer",)),
    ),
    "embedding": ({"emb_params": (4, 768)}, ("textual inversion", "", "sd1", ("text_encoder",))),
    "embedding xl": (
        {"clip_l": (4, 768), "clip_g": (4, 1280)},
        ("textual inversion", "", "sdxl", ("text_encoder",)),
    ),
}


@pytest.mark.parametrize("name", LORAS)
def test_an_adapter_says_what_it_is_for(name: str) -> None:
    shapes, (kind, dialect, variant, changes) = LORAS[name]
    found = detect(header(shapes, ss_base_model_version="x"))
    assert found.layout == "adapter" and found.adapter
    assert (found.adapter.kind, found.adapter.dialect, found.variant) == (kind, dialect, variant)
    assert found.adapter.changes == changes
    assert found.metadata == {"ss_base_model_version": "x"}


def test_the_rank_of_a_lora_is_read() -> None:
    made = adapter(LORAS["kohya"][0])
    assert made and made.rank == (4, 8)


@pytest.mark.parametrize(
    ("name", "told"),
    [("sdxl", "Stable Diffusion XL, text: a single file"), ("imagedream", "ImageDream, views: a single file")],
)
def test_inspect_of_a_full_size_file_loads_no_torch_and_is_quick(name: str, told: str, tmp_path: Path) -> None:
    """The bar is 0.4 s on an idle machine. No test has one, so the processor's time is counted, not the wall's.

    The first of two runs leaves the modules compiled, as pip does where it installs.
    """
    path = write_file(tmp_path / "m.safetensors", single(name))
    code = f"from safelight.cli.main import main; import sys; main(['inspect', {str(path)!r}]); print(*sys.modules)"
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    again = partial(subprocess.run, [sys.executable, "-c", code], cwd=ROOT, env=kept, capture_output=True, text=True)
    again(check=True)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    run = again(check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    loaded = set(run.stdout.splitlines()[-1].split())
    assert not loaded & {"torch", "numpy", "safetensors", "tokenizers", "PIL", "rich", "huggingface_hub"}
    assert told in run.stdout
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.4
