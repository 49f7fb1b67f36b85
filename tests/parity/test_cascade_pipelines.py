"""Stable Cascade from text to picture equals the reference's prior and decoder pipelines, one after the other.

Everything is float64: the scheduler's numbers, which the reference keeps in float32, are given to it in float64, and
the noise of its steps is ours.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from diffusers.schedulers import scheduling_ddpm_wuerstchen as wuerstchen

from safelight.core.noise import start_noise
from safelight.core.sample import sample
from safelight.encoders.chunks import Token
from safelight.errors import ConfigError, RequestError, SafelightError, WeightsError
from safelight.families.cascade import ratio, wiring
from safelight.families.cascade.ratio import Ratio
from safelight.families.cascade.wiring import Features
from safelight.families.family import Prompt
from safelight.generate import image as task
from safelight.generate.chain import SHOWN
from safelight.generate.passes import carried
from safelight.generate.pipe import load
from safelight.generate.request import Request
from safelight.generate.settle import STAND_IN, settle
from tests.cascade import EDGE, combine, tiny_cascade
from tests.parity.cascades import (
    EXACT,
    LATER,
    NEGATIVE,
    PROMPT,
    SEED,
    STEPS,
    Listened,
    asked,
    drawn,
    ours,
    references,
    steady,
)
from tests.parity.networks import difference

Patch = pytest.MonkeyPatch


def error(guidance: float = 1.0, negative: str = "") -> tuple[float, float, float]:
    """Differences of what the prior drew, of the latents, and of the picture."""
    (features, early), (latents, late) = drawn(asked(guidance, negative))
    first, second = references()
    with pytest.MonkeyPatch.context() as patch:
        draws = steady(early)
        patch.setattr(wuerstchen, "randn_tensor", lambda *_, **__: next(draws))
        wanted = first(
            PROMPT,
            height=EDGE,
            width=EDGE,
            num_inference_steps=STEPS,
            guidance_scale=guidance,
            negative_prompt=negative or None,
            latents=start_noise(SEED, (16, 3, 3)).double(),
        ).image_embeddings
        again = steady(late)
        patch.setattr(wuerstchen, "randn_tensor", lambda *_, **__: next(again))
        told = {"prompt": PROMPT, "num_inference_steps": LATER, "latents": start_noise(SEED, (4, 32, 32)).double()}
        painted = second(wanted, **told, output_type="latent").images
    with torch.no_grad():
        mine = (task.decode(ours().model.after, latents.double()) + 1) / 2  # type: ignore[arg-type]
        picture = second.vqgan.decode(second.vqgan.config.scale_factor * painted).sample
    return difference(features, wanted), difference(latents, painted), difference(mine.double(), picture)


@pytest.mark.parametrize(("guidance", "negative"), [(1.0, ""), (4.0, ""), (4.0, NEGATIVE)])
def test_prior_and_decoder_equal_the_reference(guidance: float, negative: str) -> None:
    features, latents, picture = error(guidance, negative)
    assert max(features, latents) < EXACT
    assert picture < 1e-6, "colours are float32 here"


def guided_error() -> float:
    """Latents of a guided decoder, which is shown nothing under the negative prompt."""
    model, features = ours().model.after, start_noise(3, (16, 3, 3)).double()
    assert model is not None
    request = Request(
        PROMPT, negative=NEGATIVE, steps=STEPS, guidance=3.0, seed=SEED, size=(EDGE, EDGE), image=STAND_IN
    )
    settled = replace(settle(model, request), begin=SHOWN)
    job = task.job(model, settled, carried(model, settled, task.read(model, settled), features))
    noise = Listened(job.noise)
    *_, last = sample(task.evaluator(model), replace(job, x=job.x.double(), noise=noise))
    with pytest.MonkeyPatch.context() as patch:
        draws = steady(noise.made)
        patch.setattr(wuerstchen, "randn_tensor", lambda *_, **__: next(draws))
        told = {"prompt": PROMPT, "negative_prompt": NEGATIVE, "num_inference_steps": STEPS, "guidance_scale": 3.0}
        wanted = references()[1](
            features, **told, latents=start_noise(SEED, (4, 32, 32)).double(), output_type="latent"
        ).images
    return difference(last.x, wanted)


def test_a_guided_decoder_equals_the_reference(monkeypatch: Patch) -> None:
    assert guided_error() < EXACT
    right = wiring.encode
    monkeypatch.setattr(wiring, "encode", lambda stage, prompt: right(stage, prompt._replace(negative=False)))
    assert guided_error() > 1e3 * EXACT, "shown what the prior drew under the negative prompt too"


def test_a_mistake_turns_it_red(monkeypatch: Patch) -> None:
    def normed(right: Callable[..., Any]) -> Callable[..., Any]:
        def wrong(stage: Any, prompt: Any) -> Any:
            words = right(stage, prompt)
            return replace(words, cond=replace(words.cond, text=stage.encoder.normed(words.cond.text)))

        return wrong

    with monkeypatch.context() as patch:
        patch.setattr(wiring, "encode", normed(wiring.encode))
        assert error()[0] > 1e3 * EXACT, "the text normalised"
    with monkeypatch.context() as patch:
        right, full = wiring._read, (Token(0, ""),) * 75
        patch.setattr(wiring, "_read", lambda stage, chunk, *rest: right(stage, replace(chunk, tokens=full), *rest))
        assert error()[0] > 1e3 * EXACT, "what fills the text up is looked at"
    with monkeypatch.context() as patch:
        patch.setattr(task, "until", lambda noise, end: noise)
        assert error()[0] > 1e3 * EXACT, "noise in the last step"
    with monkeypatch.context() as patch:
        patch.setattr(ratio, "CUT", (1e-5, 0.99999))
        assert error()[0] > 1e3 * EXACT, "the cosine cut elsewhere"


def test_labels_and_levels_are_one_to_one() -> None:
    for path in (Ratio(), Ratio(scaler=2.0), Ratio(scaler=0.5)):
        for t in (0.05, 0.3, 0.62, 0.9):
            assert tuple(path.at(path.level(t).lam)) == pytest.approx(tuple(path.level(t)), abs=1e-9)
            assert tuple(path.at_clock(path.clock(path.level(t)))) == pytest.approx(tuple(path.level(t)), abs=1e-9)
        noisy, clean = path.ends
        assert (noisy.alpha**2, clean.alpha**2) == pytest.approx((1e-4, 0.9999))
        levels = path.even(7)
        assert len(levels) == 8
        assert [level.t for level in levels] == sorted((level.t for level in levels), reverse=True)


@pytest.mark.parametrize("scaler", [1.0, 2.0, 0.5])
def test_the_path_is_the_reference_scheduler_s(scaler: float) -> None:
    theirs = diffusers.DDPMWuerstchenScheduler(scaler=scaler)
    for t in (0.0, 0.01, 0.4, 0.95, 1.0):
        wanted = theirs._alpha_cumprod(torch.tensor([t]), torch.device("cpu")).item()
        assert Ratio(scaler=scaler).level(t).alpha ** 2 == pytest.approx(wanted, abs=2e-6)


def test_one_folder_with_both_stagessteady_the_same(tmp_path: Path) -> None:
    request = Request(PROMPT, steps=2, seed=SEED, size=(EDGE, EDGE))
    apart, together = (
        load(str(folder), device="cpu", threads=1) for folder in (tiny_cascade(), combine(tmp_path / "both"))
    )
    drawn = apart.draw(request)[0]
    assert drawn.image.size == (EDGE, EDGE)
    assert drawn.image.tobytes() == together.draw(request)[0].image.tobytes()
    assert len(drawn.recipe.model["files"]) == len(apart.model.files)


def test_every_evaluation_of_both_is_seen_and_a_priorsteady_no_picture() -> None:
    pipe = load(str(tiny_cascade()), device="cpu", threads=1)
    seen = list(pipe(Request(PROMPT, steps=2, seed=SEED, size=(EDGE, EDGE))))
    assert [step.index for step in seen] == list(range(1, 2 + LATER + 1))
    assert {step.total for step in seen} == {2 + LATER}
    assert seen[0].preview() is None
    with pytest.raises(RequestError, match="no picture yet"):
        seen[0].decode()
    assert seen[-1].decode().size == (EDGE, EDGE)


def test_a_seed_gives_the_same_picture_among_strangers() -> None:
    pipe = load(str(tiny_cascade()), device="cpu", threads=1)
    requests = [Request(prompt, steps=2, seed=SEED, size=(EDGE, EDGE)) for prompt in (PROMPT, "a crown")]
    alone = [pipe.draw(request)[0].image.tobytes() for request in requests]
    assert [drawn.image.tobytes() for drawn in pipe.draw_many(requests)] == alone
    assert alone[0] != alone[1]


def test_sizes_are_those_that_come_out() -> None:
    released = Features(16, 1, 1.0)
    assert released.shape(1024, 1024) == (16, 24, 24)
    assert released.shape(1152, 896) == (16, 21, 27)
    with pytest.raises(RequestError, match="width 1000 is none"):
        released.shape(1000, 1024)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scheduler/scheduler_config.json": {"_class_name": "DDIMScheduler"}}, "DDPMWuerstchenScheduler"),
        ({"scheduler/scheduler_config.json": {"beta": 1}}, "unknown key 'beta'"),
        ({"scheduler/scheduler_config.json": {"s": "x"}}, "not a number"),
        ({"scheduler/scheduler_config.json": {"s": 7}}, "no path of noise"),
        ({"decoder/config.json": {"effnet_in_channels": 8}}, "effnet_mapper"),
        ({"model_index.json": {"vqgan": [None, None]}}, "no vqgan"),
        ({"model_index.json": {"latent_dim_scale": "wide"}}, "latent_dim_scale"),
        ({"../cascade-prior/model_index.json": {"_class_name": "FluxPipeline"}}, "FluxPipeline"),
        ({"../cascade-prior/model_index.json": {"prior": [None, None]}}, "names no prior"),
        ({"text_encoder/config.json": {"architectures": ["CLIPTextModel"]}}, "text_projection"),
    ],
)
def test_a_folder_whose_parts_do_not_fit_is_refused(
    change: dict[str, dict[str, Any]], message: str, tmp_path: Path
) -> None:
    folder = tmp_path / "cascade"
    shutil.copytree(tiny_cascade(), folder)
    shutil.copytree(tiny_cascade().with_name("cascade-prior"), folder.with_name("cascade-prior"))
    for part, values in change.items():
        said = json.loads((folder / part).read_text("utf-8"))
        (folder / part).write_text(json.dumps({**said, **values}))
    with pytest.raises((ConfigError, WeightsError), match=message):
        load(str(folder), device="cpu", threads=1)


def test_a_decoder_without_its_prior_says_where_it_belongs(tmp_path: Path) -> None:
    shutil.copytree(tiny_cascade(), tmp_path / "alone")
    with pytest.raises(SafelightError, match="alone-prior"):
        load(str(tmp_path / "alone"), device="cpu", threads=1)


@pytest.mark.parametrize("sampler", ["euler", "euler_ancestral", "dpmpp_2m_sde"])
def test_any_samplersteady(sampler: str) -> None:
    pipe = load(str(tiny_cascade()), device="cpu", threads=1)
    request = Request(PROMPT, steps=3, later=1, sampler=sampler, seed=SEED, size=(EDGE, EDGE))
    assert pipe.draw(request)[0].latents.isfinite().all()
    assert pipe.draw(replace(request, schedule="karras"))[0].latents.isfinite().all()


def test_both_stages_run_wholly_on_meta() -> None:
    pipe = load(str(tiny_cascade()), device="cpu", threads=1)
    first, second = pipe.model, pipe.model.after
    assert second is not None
    told = first.encode(Prompt(PROMPT, (EDGE, EDGE))).cond
    for model in (first, second):
        model.network.to("meta")
    x, t = torch.zeros(1, 16, 3, 3, device="meta"), torch.zeros(1, device="meta")
    drawn = first.predict(x, t, told.to(x))
    assert second.enlarge is not None and second.enlarge.show is not None
    shown = second.enlarge.show(told.to(x), drawn)
    z = second.predict(torch.zeros(1, 4, 32, 32, device="meta"), t, shown)
    assert (drawn.shape, z.shape, z.device.type) == ((1, 16, 3, 3), (1, 4, 32, 32), "meta")
