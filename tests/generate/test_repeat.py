"""Settings of any program as a request: what is mapped is drawn, what is not is said in one line."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from safelight.errors import ImageError, RequestError
from safelight.generate.metadata import a1111
from safelight.generate.metadata.settings import A1111, COMFYUI, INVOKEAI, SAFELIGHT, SD_CPP, Settings
from safelight.generate.repeat import Repeat, counted, easier, of_recipe, of_settings, other_model, repeat
from safelight.generate.reproduce import request_of
from safelight.generate.request import Request
from tests.generate.scenes import PROMPT, pipe, requests

FULL = Settings(
    program=A1111,
    prompt="a (red:1.2) hat <lora:ink:0.8>",
    negative="blurry",
    steps=20,
    sampler="DPM++ 2M Karras",
    guidance=7.0,
    seed=5,
    size=(512, 768),
    clip_skip=2,
    ensd=31337,
    rng="NV",
    variation=(9, 0.25),
)


def lines(asked: Repeat) -> str:
    return "\n".join(line for _, line in asked.left)


def test_what_is_known_is_mapped() -> None:
    asked = of_settings(FULL)
    assert asked.fields == {
        "prompt": "a (red:1.2) hat ",
        "negative": "blurry",
        "steps": 20,
        "sampler": "dpmpp_2m",
        "schedule": "karras",
        "guidance": 7.0,
        "seed": 5,
        "size": (512, 768),
        "skip": 1,
        "variation": (9, 0.25),
        "emphasis": "a1111",
        "noise": "a1111-gpu",
        "ensd": 31337,
    }
    assert lines(asked) == "LoRA 'ink' at 0.8, which this command does not load"


@pytest.mark.parametrize(
    ("program", "sampler", "schedule", "pair"),
    [
        (A1111, "Euler a", "SGM Uniform", ("euler_ancestral", "sgm_uniform")),
        (A1111, "DPM++ 2M SDE Karras", None, ("dpmpp_2m_sde", "karras")),
        (A1111, "DPM++ 2M", None, ("dpmpp_2m", None)),
        (COMFYUI, "dpmpp_2m_sde_gpu", "normal", ("dpmpp_2m_sde", "linspace")),
        (SD_CPP, "dpm++2m", "discrete", ("dpmpp_2m", "linspace")),
        (INVOKEAI, "kdpm_2_a", "karras", ("dpm_2_ancestral", "karras")),
        (INVOKEAI, "unipc", None, ("unipc2_bh2", None)),
        (SAFELIGHT, "er_sde3", "gits_cifar10", ("er_sde3", "gits_cifar10")),
    ],
)
def test_samplers_are_read_in_each_programs_words(
    program: str, sampler: str, schedule: str | None, pair: tuple[str, str | None]
) -> None:
    asked = of_settings(Settings(program, sampler=sampler, schedule=schedule))
    assert (asked.fields["sampler"], asked.fields.get("schedule")) == pair
    assert not [line for name, line in asked.left if name in ("sampler", "schedule")]


def test_what_is_unknown_is_said_with_the_nearest_and_the_rest_is_kept() -> None:
    asked = of_settings(Settings(A1111, sampler="Eular a", schedule="Karras", rng="CPU"))
    assert "sampler" not in asked.fields and asked.fields["schedule"] == "karras"
    assert "unknown sampler 'Eular a'; the nearest known: " in lines(asked)
    asked = of_settings(Settings(A1111, sampler="Euler a", schedule="Karas"))
    assert asked.fields["sampler"] == "euler_ancestral" and "schedule" not in asked.fields
    assert "'Karas'; the nearest known: karras" in lines(asked)
    asked = of_settings(Settings(A1111, sampler="Euler a", schedule="Automatic"))
    assert "the schedule, which A1111 chose by itself" in lines(asked)
    assert "a FreeU on the way was not followed" in lines(
        of_settings(Settings(COMFYUI, unread=("a FreeU on the way",)))
    )


def test_a_picture_to_start_from_is_asked_for() -> None:
    told = Settings(COMFYUI, steps=20, strength=0.6, image="start.png", sampler="euler", schedule="normal")
    asked = of_settings(told)
    assert asked.left == [("image", "start.png, over which it was drawn at strength 0.6; give it with --image")]
    assert "strength" not in asked.fields
    brought = of_settings(told, {"image"})
    assert brought.left == [] and brought.fields["steps"] == 33
    assert int(33 * brought.fields["strength"]) == 20
    old = of_settings(Settings(A1111, steps=20, strength=0.6), {"image"})
    assert (old.fields["steps"], old.fields["strength"]) == (20, 0.6)
    empty = of_settings(replace(told, image=None), {"image"})
    assert "denoise 0.6 of an empty picture" in lines(empty) and "strength" not in empty.fields


@given(st.integers(1, 300), st.floats(0.01, 1))
def test_as_many_steps_run_as_ran(run: int, strength: float) -> None:
    steps, share = counted(run, strength)
    assert int(steps * share) == run and steps in (int(run / strength), int(run / strength + 1e-9), run)
    assert 0 < share <= 1 or share == pytest.approx(1)


def test_a_second_pass_is_repeated_where_its_upscaler_is_here() -> None:
    told = replace(FULL, strength=0.5, hires={"scale": 2.0, "steps": 10, "upscaler": "Latent"})
    hires = of_settings(told).fields["hires"]
    assert (hires.scale, hires.strength, hires.steps, hires.upscaler) == (2.0, 0.5, 20, "bilinear")
    asked = of_settings(replace(told, hires={"scale": 2.0, "upscaler": "R-ESRGAN 4x+"}))
    assert asked.fields["hires"].upscaler == "lanczos" and asked.fields["hires"].steps is None
    assert "the upscaler 'R-ESRGAN 4x+'; enlarged by lanczos" in lines(asked)
    for broken in ({"scale": 99.0}, {"steps": 3}):
        asked = of_settings(replace(told, hires=broken))
        assert "hires" not in asked.fields and "second pass" in lines(asked)


@pytest.mark.parametrize(
    ("program", "rng", "kind"),
    [
        (A1111, None, "a1111-gpu"),
        (A1111, "NV", "a1111-gpu"),
        (A1111, "CPU", "a1111"),
        (SD_CPP, "cuda", "a1111-gpu"),
        (SD_CPP, "cpu", "comfyui"),
        (SD_CPP, "std_default", None),
        (COMFYUI, None, "comfyui-gpu"),
        (INVOKEAI, "cpu", None),
        (SAFELIGHT, "CPU", None),
        (SAFELIGHT, "NV", None),
    ],
)
def test_the_noise_is_the_programs_own_where_it_is_known(program: str, rng: str | None, kind: str | None) -> None:
    asked = of_settings(Settings(program, sampler="euler", rng=rng))
    assert asked.fields.get("noise") == kind
    said = "the noise that" in lines(asked)
    assert said == (kind is None and (program, rng) != (SAFELIGHT, "CPU"))


def test_flags_win_and_take_with_them_what_belongs_to_them() -> None:
    asked = Repeat(
        A1111,
        {"sampler": "dpmpp_2m", "options": {"rule": "heun"}, "schedule": "karras", "schedule_options": {"rho": 5.0},
         "noise": "path", "negative": "x", "guidance": 7.0, "prompt": "p"},
        [("sampler", "about the sampler"), ("", "about a LoRA")],
    )  # fmt: skip
    merged, left = asked.under({"sampler": "euler", "steps": 3})
    assert merged == {"sampler": "euler", "steps": 3, "prompt": "p", "negative": "x", "guidance": 7.0,
                      "schedule": "karras", "schedule_options": {"rho": 5.0}}  # fmt: skip
    assert left == ["about a LoRA"]
    merged, _ = asked.under({"sampler": "DPM++ 2M SDE Exponential"})
    assert "schedule" not in merged and "schedule_options" not in merged
    merged, _ = asked.under({"schedule": "simple"})
    assert merged["options"] == {"rule": "heun"} and "schedule_options" not in merged
    merged, left = asked.under({"guidance": (1.0,)})
    assert "negative" not in merged and "the negative prompt, which guidance 1 does not ask" in left
    merged, left = asked.under({"guidance": (1.0,), "negative": "mine"})
    assert merged["negative"] == "mine"


@pytest.mark.parametrize("place", range(len(requests())))
def test_our_own_recipe_asks_for_all_that_it_was(place: int) -> None:
    asked = requests()[place]
    recipe = pipe().recipe(pipe().settle(asked))
    whole = request_of(recipe, asked.image, asked.mask)
    brought = {name: picture for name, picture in (("image", asked.image), ("mask", asked.mask)) if picture}
    again = of_recipe(recipe, set(brought))
    merged, left = again.under(brought)
    assert Request(**merged) == whole and left == []
    without = of_recipe(recipe)
    assert [name for name, _ in without.left] == list(brought)
    merged, _ = without.under({})
    assert Request(**merged) == replace(whole, image=None, mask=None, strength=None, invert=None)


@pytest.mark.parametrize(
    ("about", "flag", "gone"),
    [
        ({"upscaler": {"name": "x2", "files": {}}, "later": 7}, "--upscale-with", "later"),
        ({"refiner": {"name": "xl", "files": {}, "handover": 0.8, "run": 1}}, "--refiner", "handover"),
        ({"weak": {"name": "w", "files": {}}}, "--weak-model", "rules"),
    ],
)
def test_a_second_model_is_asked_for_and_its_settings_wait(about: dict[str, Any], flag: str, gone: str) -> None:
    rules = [{"name": "autoguidance", "options": {"scale": 2.0}}]
    told = replace(pipe().recipe(pipe().settle(PROMPT)), rules=rules if "weak" in about else [], **about)
    asked = of_recipe(told)
    assert lines(asked).endswith(f"give it with {flag}") and gone not in asked.fields
    brought = of_recipe(told, about)
    assert brought.left == [] and brought.fields[gone]


def test_the_text_alone_asks_for_what_it_can_hold() -> None:
    asked = Request(PROMPT, negative="red", steps=3, sampler="DPM++ 2M Karras", guidance=4.5, seed=9, skip=1)
    told = pipe().recipe(pipe().settle(asked))
    again = of_settings(a1111.read(told.parameters()))
    assert again.left == []
    merged, _ = again.under({})
    drawn = pipe().recipe(pipe().settle(Request(**merged)))
    assert replace(drawn, options={}) == replace(told, options={})


def picture(**texts: str) -> Image.Image:
    made = Image.new("RGB", (4, 4))
    made.info.update(texts)
    return made


def test_our_own_recipe_is_believed_before_any_other_text() -> None:
    recipe = pipe().recipe(pipe().settle(PROMPT))
    asked = repeat(picture(safelight=recipe.json(), parameters="x\nSteps: 1, Sampler: Euler, Seed: 1"))
    assert asked.program == SAFELIGHT and asked.fields["steps"] == recipe.steps
    with pytest.raises(ImageError, match="damaged"):
        repeat(picture(safelight="{"))
    with pytest.raises(ImageError, match="does not say how it was drawn"):
        repeat(picture(Comment="hello"))


def test_another_model_is_named_and_the_same_is_not() -> None:
    here = {"unet/x.safetensors": "ab" * 32, "vae/y.safetensors": "cd" * 32}

    def said(**about: Any) -> str | None:
        return other_model(Repeat(A1111, {}, **about), "sd1", here, {"v1-5": 0})

    assert said() is None
    assert said(model="v1-5", hash="AB" * 5) is None
    assert said(model="v1-5", hash="ac" * 5) == f"the model v1-5 ({'ac' * 5}); drawn with sd1; -m v1-5 is here"
    assert said(model="other", hash="abababab") == "the model other (abababab); drawn with sd1"
    assert said(model="folder/sd1.safetensors") is None
    assert said(model="sd1.safetensors", hash="00" * 5) is not None
    assert said(model="x", files=here) is None
    assert said(model="sd1", files={**here, "vae/y.safetensors": "0" * 64}) == "the model sd1; drawn with sd1"


def test_what_a_model_cannot_do_is_given_up_one_by_one() -> None:
    asked = Request(PROMPT, sampler="DPM++ SDE", noise="a1111", skip=11, steps=2)
    soft = {"noise", "skip", "steps"}
    given_up = list(easier(pipe().settle, asked, soft))
    assert [fields for fields, _ in given_up] == [{"skip": 0}, {"noise": None}]
    assert given_up[0][1].startswith("skip: 11 layers cannot be skipped")
    assert given_up[1][1].startswith("noise: what other programs draw for dpmpp_sde is not known")
    assert list(easier(pipe().settle, Request(PROMPT, steps=2), soft)) == []
    with pytest.raises(RequestError, match="11 layers"):
        list(easier(pipe().settle, replace(asked, noise=None), {"noise"}))
