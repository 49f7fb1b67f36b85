"""Every class that a scheduler_config.json may name gives the latents of the reference's pipeline with that class.

Weights are float64, tables and sigmas of the reference float32, which sets the bar. Stochastic classes are fed the
same noise, one draw per step, here and there. The number of steps is odd and below 15, where some classes lower the
order of their last steps.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from typing import Any

import diffusers
import pytest
import torch
from diffusers.schedulers import scheduling_dpmsolver_sde
from torch import Tensor

from safelight.core.constrain import Keep
from safelight.core.path import CLEAN, Level
from safelight.core.sample import sample
from safelight.errors import ConfigError, RequestError
from safelight.families.sd.classes import CLASSES, REFUSED, SPREADS
from safelight.families.sd.scheduler import read
from safelight.generate import image as task
from safelight.generate.pipe import Pipe
from safelight.generate.request import Request
from tests.parity.networks import difference
from tests.parity.pipelines import ours, reference, start

PROMPT, NEGATIVE, STEPS, SEED = "a person with green hair", "a red hat", 5, 7
SD: dict[str, Any] = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
LEADING = {"timestep_spacing": "leading", "steps_offset": 1}
MIN = {"final_sigmas_type": "sigma_min"}
KARRAS, EXPONENTIAL, BETA = ({f"use_{word}_sigmas": True} for word in ("karras", "exponential", "beta"))
PLAIN = {"clip_sample": False}
DPM, SINGLE, UNIPC = "DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler", "UniPCMultistepScheduler"
KDPM2, KDPM2A, SDE = "KDPM2DiscreteScheduler", "KDPM2AncestralDiscreteScheduler", "DPMSolverSDEScheduler"
DEIS, SA = "DEISMultistepScheduler", "SASolverScheduler"

CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {
    "ddim": ("DDIMScheduler", {**PLAIN, "set_alpha_to_one": False}),
    "ddpm": ("DDPMScheduler", PLAIN),
    "ddpm, large": ("DDPMScheduler", {**PLAIN, "variance_type": "fixed_large"}),
    "ddpm, small as a logarithm": ("DDPMScheduler", {**PLAIN, "variance_type": "fixed_small_log"}),
    "deis": (DEIS, {}),
    "deis 1": (DEIS, {"solver_order": 1}),
    "deis 3": (DEIS, {"solver_order": 3}),
    "deis 3, full order to the end": (DEIS, {"solver_order": 3, "lower_order_final": False}),
    "deis of a DPM-Solver's file": (DEIS, {"algorithm_type": "dpmsolver++", "solver_type": "midpoint", **LEADING}),
    "deis karras": (DEIS, KARRAS),
    "dpm": (DPM, {}),
    "dpm beta": (DPM, BETA),
    "dpm of a UniPC's file": (DPM, {"solver_type": "bh2"}),
    "dpm of a DEIS's file": (
        DPM,
        {"algorithm_type": "deis", "solver_type": "logrho", "lower_order_final": False, **MIN},
    ),
    "dpm to sigma min": (DPM, {**MIN, "lower_order_final": False}),
    "dpm sde": (DPM, {"algorithm_type": "sde-dpmsolver++"}),
    "dpm sde solver": (SDE, {}),
    "dpm sde solver karras": (SDE, KARRAS),
    "dpm sde solver leading": (SDE, LEADING),
    "euler": ("EulerDiscreteScheduler", {}),
    "euler beta": ("EulerDiscreteScheduler", BETA),
    "euler a": ("EulerAncestralDiscreteScheduler", {}),
    "heun": ("HeunDiscreteScheduler", {}),
    "heun beta": ("HeunDiscreteScheduler", BETA),
    "heun leading": ("HeunDiscreteScheduler", LEADING),
    "kdpm 2": (KDPM2, {}),
    "kdpm 2 karras": (KDPM2, KARRAS),
    "kdpm 2 exponential": (KDPM2, EXPONENTIAL),
    "kdpm 2 trailing": (KDPM2, {"timestep_spacing": "trailing"}),
    "kdpm 2 a": (KDPM2A, {}),
    "kdpm 2 a karras": (KDPM2A, KARRAS),
    "kdpm 2 a leading": (KDPM2A, LEADING),
    "lcm": ("LCMScheduler", {}),
    "lcm of 30, other scaling": ("LCMScheduler", {"original_inference_steps": 30, "timestep_scaling": 0.02}),
    "lms": ("LMSDiscreteScheduler", {}),
    "lms beta": ("LMSDiscreteScheduler", BETA),
    "pndm": ("PNDMScheduler", {"skip_prk_steps": True, "steps_offset": 1}),
    "sa": (SA, {}),
    "sa karras": (SA, KARRAS),
    "sa leading": (SA, LEADING),
    "singlestep": (SINGLE, {}),
    "singlestep 1": (SINGLE, {"solver_order": 1}),
    "singlestep 2 heun": (SINGLE, {"solver_type": "heun"}),
    "singlestep 3": (SINGLE, {"solver_order": 3}),
    "singlestep 3 heun, karras": (SINGLE, {"solver_order": 3, "solver_type": "heun", **KARRAS}),
    "singlestep to sigma min": (SINGLE, MIN),
    "tcd": ("TCDScheduler", {}),
    "tcd of 30": ("TCDScheduler", {"original_inference_steps": 30}),
    "unipc": (UNIPC, {}),
    "unipc 3 karras": (UNIPC, {"solver_order": 3, **KARRAS}),
    "unipc beta": (UNIPC, BETA),
    "unipc exponential": (UNIPC, EXPONENTIAL),
    "unipc of a DPM-Solver's file": (UNIPC, {"solver_type": "midpoint"}),
}


def draw(step: int, half: bool = False) -> Tensor:
    """The noise of a step, or of its first half, in float64."""
    generator = torch.Generator().manual_seed(100 * step + half)
    return torch.randn(1, 4, 8, 8, generator=generator).double()


def our_latents(pipe: Pipe, request: Request) -> Tensor:
    """Our latents in float64, with that noise."""
    settled = pipe.settle(request)
    job = task.job(pipe.model, settled, task.read(pipe.model, settled))
    assert not isinstance(job.constraint, Keep)
    places = {level: place for place, level in enumerate(job.levels)}

    def noise(s: Level, t: Level) -> Tensor:
        return draw(places[s], half=t not in places)

    *_, last = sample(task.evaluator(pipe.model), replace(job, x=job.x.double(), noise=noise))
    return last.x


def feed(scheduler: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a scheduler of the reference draw that noise, by the step at which it is."""
    place, kind = import_module(type(scheduler).__module__), type(scheduler).__name__
    looks, now = 2 if kind == KDPM2A else 1, [0]

    def drawn(*asked: Any, **more: Any) -> Tensor:
        return draw(now[0] if kind == "DDPMScheduler" else scheduler.step_index // looks)

    if hasattr(place, "randn_tensor"):
        monkeypatch.setattr(place, "randn_tensor", drawn)
    if kind == "DDPMScheduler":  # which keeps no count
        before: Callable[..., Any] = scheduler.step

        def step(out: Tensor, t: Tensor, *asked: Any, generator: Any = None, **more: Any) -> Any:
            now[0] = scheduler.timesteps.tolist().index(int(t))
            return before(out, t, *asked, generator=generator, **more)

        scheduler.step = step

    def tree(x: Tensor, *asked: Any, **more: Any) -> Callable[..., Tensor]:
        return lambda a, b: draw(scheduler.step_index // 2, half=scheduler.state_in_first_order)

    monkeypatch.setattr(scheduling_dpmsolver_sde, "BrownianTreeNoiseSampler", tree)


def their_latents(config: dict[str, Any], monkeypatch: pytest.MonkeyPatch, steps: int = STEPS) -> Tensor:
    pipe = reference("StableDiffusionPipeline", "sd1", config)
    # The pipeline takes offset 1 for 0, with a warning; here the file is obeyed, so there, too. (DDPM's "fixed_large"
    # would end in noise: with an offset it draws in its last step.)
    pipe.scheduler.register_to_config(steps_offset=config.get("steps_offset", 0))
    feed(pipe.scheduler, monkeypatch)
    more = {"eta": 0.3} if isinstance(pipe.scheduler, diffusers.TCDScheduler) else {}  # which the pipeline makes 0
    wanted: Tensor = pipe(
        PROMPT,
        negative_prompt=NEGATIVE,
        num_inference_steps=steps,
        guidance_scale=4.0,
        latents=start(SEED),
        output_type="latent",
        generator=torch.Generator(),
        **more,
    ).images
    return wanted


# Whole groups of steps, a single one, and so many that nothing is lowered.
OTHER_COUNTS = [
    *[("singlestep to sigma min", 6), ("singlestep 3", 6), ("singlestep 3", 1), ("deis 3", 16), ("deis 3", 1)],
    *[("lcm", 1), ("tcd", 2), ("kdpm 2 a", 2), ("sa", 2), ("sa", 16), ("unipc 3 karras", 2), ("dpm sde solver", 2)],
]


@pytest.mark.parametrize(("name", "steps"), [*((name, STEPS) for name in CONFIGS), *OTHER_COUNTS])
def test_text_to_image_is_equal(name: str, steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    kind, change = CONFIGS[name]
    config = {"_class_name": kind, **SD, **change}
    request = Request(PROMPT, negative=NEGATIVE, steps=steps, guidance=4.0, seed=SEED)
    drawn = our_latents(ours("sd1", config), request)
    assert difference(drawn, their_latents(config, monkeypatch, steps)) < 2e-5


def test_every_class_that_is_known_is_compared() -> None:
    assert {kind for kind, _ in CONFIGS.values()} == set(CLASSES)


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_what_a_file_does_not_say_is_what_the_class_takes(name: str) -> None:
    their = getattr(diffusers, name)()
    table = torch.tensor(
        read({"_class_name": name, "clip_sample": False, "skip_prk_steps": True}).path.alphas_cumprod,
        dtype=torch.float64,
    )
    assert (table - their.alphas_cumprod.double()).abs().max() < 2e-6
    assert CLASSES[name].clips == their.config.get("clip_sample")
    assert CLASSES[name].spreads == ({f"use_{word}_sigmas" for word in SPREADS.values()} <= their.config.keys())
    assert CLASSES[name].spacing == their.config.get("timestep_spacing", "linspace")


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_a_class_that_cannot_be_meant_is_refused_with_the_reason(name: str) -> None:
    assert hasattr(diffusers, name)
    with pytest.raises(ConfigError, match=rf"scheduler_config\.json names '{name}', which cannot be meant here: it"):
        read({"_class_name": name})
    if name.startswith("FlowMatch"):  # without these no pipeline of Stable Diffusion can run it
        assert not {"init_noise_sigma", "scale_model_input"} <= set(dir(getattr(diffusers, name)()))


@pytest.mark.parametrize(
    ("kind", "change", "words"),
    [
        ("DDPMScheduler", {**PLAIN, "variance_type": "learned"}, "'learned' has two meanings"),
        # exp and log of it are mixed up there, so that every step draws a square root of a negative number.
        ("DDPMScheduler", {**PLAIN, "variance_type": "fixed_large_log"}, "'fixed_large_log' is not supported"),
        ("LCMScheduler", {"clip_sample": True}, "clip_sample must be there and false"),
        ("LCMScheduler", {"original_inference_steps": 1001}, "no whole number from 1 to 1000"),
        ("LCMScheduler", {"timestep_scaling": 0}, "timestep_scaling = 0 is not from 0.001"),
        (DPM, {**KARRAS, **BETA}, "asks for both karras and beta sigmas"),
        (DPM, {**MIN, "euler_at_final": True}, "euler_at_final = true is not supported"),
        (SINGLE, {**MIN, "lower_order_final": True}, "lower_order_final = true is not supported"),
        (SINGLE, {"algorithm_type": "dpmsolver"}, "algorithm_type 'dpmsolver'"),
        (UNIPC, {"lower_order_final": False}, "lower_order_final = False"),
        (SA, {"predictor_order": 3}, "predictor_order = 3"),
        (SA, {"algorithm_type": "noise_prediction"}, "algorithm_type = 'noise_prediction'"),
        (DEIS, {"solver_order": 4}, "solver_order 4"),
        (KDPM2, {"use_karras_sigmas": "yes"}, "use_karras_sigmas = 'yes' is neither"),
    ],
)
def test_what_cannot_be_obeyed_is_refused_with_the_reason(kind: str, change: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=f"scheduler_config.json.*{words}"):
        read({"_class_name": kind, **change})


def test_more_steps_than_a_teacher_took_are_refused() -> None:
    plan = read({"_class_name": "LCMScheduler", "original_inference_steps": 8})
    assert [level.t for level in plan.levels(8)[:-1]] == [999, 874, 749, 624, 499, 374, 249, 124]
    assert plan.levels(8)[-1] == CLEAN
    with pytest.raises(RequestError, match="between 1 and 8"):
        plan.levels(9)


def test_labels_of_a_karras_spread_are_cut_on_the_cosine_path() -> None:
    # Some are equal, and there diffusers' DPM-Solver fails: it takes the first step for the second.
    config = {"beta_schedule": "squaredcos_cap_v2", **KARRAS}
    their = diffusers.DPMSolverMultistepScheduler(**config)
    for steps in (10, 20):
        their.set_timesteps(steps)
        levels = read({"_class_name": DPM, **config}).levels(steps)
        assert [level.t for level in levels[:-1]] == their.timesteps.tolist()


def test_a_last_step_of_lower_order_is_refused_where_it_would_be_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    config = {"_class_name": DPM, **SD, **MIN}
    pipe = ours("sd1", config)
    for steps in (5, 14):
        with pytest.raises(RequestError, match="take 15 or more, or name a --schedule"):
            pipe.settle(Request(PROMPT, steps=steps))
    assert pipe.settle(Request(PROMPT, steps=5, schedule="karras"))
    drawn = our_latents(pipe, Request(PROMPT, negative=NEGATIVE, steps=15, guidance=4.0, seed=SEED))
    assert difference(drawn, their_latents(config, monkeypatch, steps=15)) < 2e-5


@pytest.mark.parametrize(("kind", "row"), [("dpmsolver++", "adams3"), ("sde-dpmsolver++", "adams3_sde")])
def test_a_wrong_order_3_is_drawn_only_by_a_sampler_that_is_named(kind: str, row: str) -> None:
    # That it is wrong is shown in test_samplers_diffusers.py. The rest of the file is good.
    pipe = ours("sd1", {"_class_name": DPM, **SD, "solver_order": 3, "algorithm_type": kind})
    with pytest.raises(RequestError, match=f"order 3 has a term of half its size.*name a sampler: {row} "):
        pipe.settle(Request(PROMPT, steps=STEPS))
    settled = pipe.settle(Request(PROMPT, steps=STEPS, sampler=row))
    assert settled.sampler.sampler.name == row
    assert our_latents(pipe, Request(PROMPT, steps=STEPS, sampler=row)).isfinite().all()
