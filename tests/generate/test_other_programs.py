"""InvokeAI and stable-diffusion.cpp, and which program a file is taken for; every text here was made by hand."""

from __future__ import annotations

import json

import pytest

from safelight.errors import ImageError
from safelight.generate.metadata import dialect, invokeai, sdcpp
from safelight.generate.metadata.settings import Settings

LINE = (
    "a cat, SDCPP: {\nNegative prompt: a dog\nSteps: 30, CFG scale: 5.000000, Guidance: 3.500000, Seed: 42, "
    "Size: 512x768, Model: v1.gguf, RNG: cuda, Sampler: dpm++2m karras, Clip skip: 2, Version: stable-diffusion.cpp"
)
OBJECT = {
    "schema": "sdcpp.image.params/v1",
    "generator": {"name": "stable-diffusion.cpp", "version": "master-948"},
    "seed": 2**63,
    "width": 512,
    "height": 768,
    "rng": "cuda",
    "clip_skip": -1,
    "strength": 0.75,
    "prompt": {"positive": "a cat, SDCPP: {", "negative": "a dog"},
    "sampling": {"sample_method": "dpm++2m", "scheduler": "karras", "sample_steps": 30, "guidance": {"txt_cfg": 5.25}},
    "models": {"model": "v1.gguf"},
    "loras": [{"name": "ink", "multiplier": 0.5}],
    "hires": {"enabled": True, "scale": 2.0, "steps": 10, "upscaler": "Latent", "denoising_strength": 0.7},
}


def test_the_line_of_stable_diffusion_cpp_is_read() -> None:
    assert dialect.read({"parameters": LINE}) == Settings(
        program="stable-diffusion.cpp",
        prompt="a cat, SDCPP: {",
        negative="a dog",
        steps=30,
        sampler="dpm++2m",
        schedule="karras",
        guidance=5.0,
        seed=42,
        size=(512, 768),
        model="v1.gguf",
        clip_skip=2,
        rng="cuda",
        other={"Guidance": "3.500000"},
    )


def test_its_object_says_more_than_its_line() -> None:
    read = dialect.read({"parameters": f"{LINE}, SDCPP: {json.dumps(OBJECT)}"})
    assert read is not None
    assert (read.seed, read.guidance, read.version, read.clip_skip) == (2**63, 5.25, "master-948", None)
    assert (read.loras, read.strength) == ((("ink", 0.5),), 0.7)
    assert read.hires == {"scale": 2.0, "steps": 10, "upscaler": "Latent"}
    assert (read.prompt, read.negative, read.sampler, read.schedule) == (
        "a cat, SDCPP: {",
        "a dog",
        "dpm++2m",
        "karras",
    )
    for damage in ("", "x", json.dumps({**OBJECT, "sampling": 3})[1:]):
        with pytest.raises(ImageError, match="object of stable-diffusion"):
            sdcpp.read(f"{LINE}, SDCPP: {{{damage}")


def test_an_object_of_invokeai_is_read() -> None:
    told = {
        "generation_mode": "img2img",
        "app_version": "5.4.2",
        "positive_prompt": "a (hat)++",
        "negative_prompt": "blurry",
        "width": 512,
        "height": 768,
        "seed": 123,
        "rand_device": "cpu",
        "cfg_scale": 7.5,
        "cfg_rescale_multiplier": 0.7,
        "steps": 30,
        "scheduler": "dpmpp_2m_k",
        "clip_skip": 1,
        "model": {"name": "sd15", "hash": "blake3:00"},
        "loras": [{"model": {"name": "ink"}, "weight": 0.75}],
        "strength": 0.6,
        "init_image": "start.png",
        "controlnets": [{"control_model": {"name": "canny"}}],
        "seamless_x": False,
    }
    assert dialect.read({"invokeai_metadata": json.dumps(told), "parameters": "x"}) == Settings(
        program="InvokeAI",
        version="5.4.2",
        prompt="a (hat)++",
        negative="blurry",
        steps=30,
        sampler="dpmpp_2m",
        schedule="karras",
        guidance=7.5,
        rescale=0.7,
        seed=123,
        size=(512, 768),
        model="sd15",
        image="start.png",
        strength=0.6,
        clip_skip=2,
        rng="cpu",
        loras=(("ink", 0.75),),
        other={"generation_mode": "img2img", "seamless_x": "False"},
        unread=("controlnets",),
    )
    for text in ("[]", "{", "[" * 100_000):
        with pytest.raises(ImageError, match="text of InvokeAI"):
            invokeai.read(text)


def test_the_most_direct_of_several_texts_is_believed() -> None:
    graph = json.dumps({"1": {"class_type": "KSampler", "inputs": {"seed": 5, "steps": 4}}})
    both = dialect.read({"parameters": "a\nSteps: 3, Sampler: Euler, Seed: 1", "prompt": graph})
    assert both is not None and (both.program, both.seed) == ("A1111", 1)
    loose = dialect.read({"parameters": "only words", "prompt": graph})
    assert loose is not None and (loose.program, loose.seed) == ("ComfyUI", 5)
    words = dialect.read({"parameters": "only words"})
    assert words is not None and words.prompt == "only words"
    assert dialect.read({"Comment": "hello"}) is None
    assert dialect.read({"prompt": "a hat"}) is None
