"""Schedulers of diffusers: their tables, timesteps and sigmas, and every step of theirs with their own numbers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import diffusers
import pytest
import torch
from torch import Tensor

from safelight.core.guidance import CFG
from safelight.core.path import CLEAN, VP, Level, vp_cosine, vp_linear, vp_scaled_linear, zero_terminal_snr
from safelight.core.prediction import denoised
from safelight.core.run import Denoised
from safelight.core.samplers.table import SAMPLERS
from safelight.core.schedule import start
from safelight.core.schedules.transforms import moved
from safelight.errors import ConfigError
from safelight.families.sd.scheduler import Plan, read

SD: dict[str, Any] = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
SD1: dict[str, Any] = {**SD, "steps_offset": 1, "set_alpha_to_one": False, "clip_sample": False}

CONFIGS: dict[str, dict[str, Any]] = {
    "ddim sd1": {"_class_name": "DDIMScheduler", **SD1},
    "ddim to one": {"_class_name": "DDIMScheduler", **SD, "clip_sample": False},
    "ddim v, zero snr, trailing": {
        "_class_name": "DDIMScheduler",
        **SD1,
        "prediction_type": "v_prediction",
        "rescale_betas_zero_snr": True,
        "timestep_spacing": "trailing",
    },
    "ddim x0": {"_class_name": "DDIMScheduler", **SD1, "prediction_type": "sample"},
    "ddpm": {"_class_name": "DDPMScheduler", "clip_sample": False},
    "ddpm cosine v": {
        "_class_name": "DDPMScheduler",
        "clip_sample": False,
        "beta_schedule": "squaredcos_cap_v2",
        "prediction_type": "v_prediction",
    },
    "dpm": {"_class_name": "DPMSolverMultistepScheduler", **SD},
    "dpm heun": {"_class_name": "DPMSolverMultistepScheduler", **SD, "solver_type": "heun"},
    "dpm first order": {"_class_name": "DPMSolverMultistepScheduler", **SD, "solver_order": 1},
    "dpm karras": {"_class_name": "DPMSolverMultistepScheduler", **SD, "use_karras_sigmas": True},
    "dpm exponential": {"_class_name": "DPMSolverMultistepScheduler", **SD, "use_exponential_sigmas": True},
    "dpm leading": {"_class_name": "DPMSolverMultistepScheduler", **SD, "timestep_spacing": "leading"},
    "dpm leading, offset": {
        "_class_name": "DPMSolverMultistepScheduler",
        **SD,
        "timestep_spacing": "leading",
        "steps_offset": 1,
    },
    "dpm trailing v": {
        "_class_name": "DPMSolverMultistepScheduler",
        **SD,
        "timestep_spacing": "trailing",
        "prediction_type": "v_prediction",
    },
    "dpm sde": {"_class_name": "DPMSolverMultistepScheduler", **SD, "algorithm_type": "sde-dpmsolver++"},
    "dpm sde, heun": {
        "_class_name": "DPMSolverMultistepScheduler",
        **SD,
        "algorithm_type": "sde-dpmsolver++",
        "solver_type": "heun",
    },
    "euler": {"_class_name": "EulerDiscreteScheduler", **SD},
    "euler sdxl": {"_class_name": "EulerDiscreteScheduler", **SD, "timestep_spacing": "leading", "steps_offset": 1},
    "euler karras": {"_class_name": "EulerDiscreteScheduler", **SD, "use_karras_sigmas": True},
    "euler exponential": {"_class_name": "EulerDiscreteScheduler", **SD, "use_exponential_sigmas": True},
    "euler sdxl karras": {
        "_class_name": "EulerDiscreteScheduler",
        **SD,
        "timestep_spacing": "leading",
        "steps_offset": 1,
        "use_karras_sigmas": True,
    },
    "euler trailing v": {
        "_class_name": "EulerDiscreteScheduler",
        **SD,
        "timestep_spacing": "trailing",
        "prediction_type": "v_prediction",
    },
    "euler ends at sigma min": {"_class_name": "EulerDiscreteScheduler", **SD, "final_sigmas_type": "sigma_min"},
    "euler a": {"_class_name": "EulerAncestralDiscreteScheduler", **SD},
    "euler a leading": {"_class_name": "EulerAncestralDiscreteScheduler", **SD, "timestep_spacing": "leading"},
    "heun": {"_class_name": "HeunDiscreteScheduler", **SD},
    "heun karras": {"_class_name": "HeunDiscreteScheduler", **SD, "use_karras_sigmas": True},
    "lms": {"_class_name": "LMSDiscreteScheduler", **SD},
    "lms leading karras": {
        "_class_name": "LMSDiscreteScheduler",
        **SD,
        "timestep_spacing": "leading",
        "use_karras_sigmas": True,
    },
    "pndm sd1": {"_class_name": "PNDMScheduler", **SD, "steps_offset": 1, "skip_prk_steps": True},
    "deis": {"_class_name": "DEISMultistepScheduler", **SD},
    "deis 3 leading": {
        "_class_name": "DEISMultistepScheduler",
        **SD,
        "solver_order": 3,
        "timestep_spacing": "leading",
        "steps_offset": 1,
    },
    "deis beta": {"_class_name": "DEISMultistepScheduler", **SD, "use_beta_sigmas": True},
    "singlestep": {"_class_name": "DPMSolverSinglestepScheduler", **SD},
    "singlestep 3 karras": {
        "_class_name": "DPMSolverSinglestepScheduler",
        **SD,
        "solver_order": 3,
        "use_karras_sigmas": True,
    },
    "euler beta": {"_class_name": "EulerDiscreteScheduler", **SD, "use_beta_sigmas": True},
    "heun beta": {"_class_name": "HeunDiscreteScheduler", **SD, "use_beta_sigmas": True},
    "unipc": {"_class_name": "UniPCMultistepScheduler", **SD},
    "unipc 3 karras": {"_class_name": "UniPCMultistepScheduler", **SD, "solver_order": 3, "use_karras_sigmas": True},
    "unipc leading": {"_class_name": "UniPCMultistepScheduler", **SD, "timestep_spacing": "leading", "steps_offset": 1},
}
# PNDM lists its second level twice and has no sigmas; its steps are in test_samplers_diffusers.py.
STEPPED = [name for name in CONFIGS if not name.startswith("pndm")]


def theirs(name: str, n: int) -> Any:
    config = {key: value for key, value in CONFIGS[name].items() if key != "_class_name"}
    scheduler = getattr(diffusers, CONFIGS[name]["_class_name"])(**config)
    scheduler.set_timesteps(n)
    if "cosine" in name:
        # The table stays float32, but its differences are taken in float64: near the clean end of this path float32
        # loses 2e-6 on the way from alpha^2 to the coefficients of a step.
        scheduler.alphas_cumprod = scheduler.alphas_cumprod.double()
    return scheduler


def own_levels(scheduler: Any, plan: Plan, n: int) -> list[Level]:
    """The levels in the scheduler's own float32 numbers."""
    times = [float(t) for t in scheduler.timesteps]
    if plan.sampler == "heun":
        times = times[:1] + times[1::2]
    if plan.grid == "rows":
        squares = [float(scheduler.alphas_cumprod[int(t)]) for t in times]
        # DDPM has no final_alpha_cumprod: it always ends clean.
        squares.append(float(getattr(scheduler, "final_alpha_cumprod", 1.0)))
        return [Level(math.sqrt(a), math.sqrt(1 - a), t) for a, t in zip(squares, [*times, 0.0])]
    sigmas = [float(sigma) for sigma in scheduler.sigmas]
    if plan.sampler == "heun":
        sigmas = sigmas[:1] + sigmas[1::2]
    assert len(sigmas) == n + 1
    alphas = [1 / math.sqrt(1 + sigma**2) for sigma in sigmas]
    return [Level(a, a * sigma, t) for a, sigma, t in zip(alphas, sigmas, [*times, 0.0])]


def network(x: Tensor, t: float) -> Tensor:
    """Something smooth that depends on everything, shown a variance-preserving x."""
    return torch.tanh(x * (0.8 + 0.3 * math.sin(t / 200))) + 0.1 * torch.cos(3 * x)


START = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))


def their_run(name: str, n: int) -> tuple[list[Tensor], Tensor, Any]:
    """The network's inputs and the final state of diffusers' own loop, and the scheduler."""
    scheduler, shown = theirs(name, n), []
    generator = torch.Generator().manual_seed(7)
    stochastic = type(scheduler).__name__ in ("EulerAncestralDiscreteScheduler", "DDPMScheduler")
    more = {"generator": generator} if stochastic or "sde" in name else {}
    x = START * scheduler.init_noise_sigma
    for t in scheduler.timesteps:
        seen = scheduler.scale_model_input(x, t)
        shown.append(seen.clone())
        x = scheduler.step(network(seen, float(t)), t, x, **more).prev_sample
    return shown, x, scheduler


def our_run(plan: Plan, levels: list[Level], begin: Tensor, watch: Callable[[int, Tensor], None]) -> Tensor:
    """Our run with the noise that diffusers draws; ``watch`` may look at, and overwrite, each question."""
    generator = torch.Generator().manual_seed(7)

    def noise(s: Level, t: Level) -> Tensor:
        return torch.randn(START.shape, generator=generator)

    run = SAMPLERS[plan.sampler].bind(plan.path, plan.options)(begin, levels, noise)
    try:
        x, level = next(run)
        index = 0
        while True:
            watch(index, x)
            x, level = run.send(Denoised(denoised(plan.prediction, x, network(x, level.t), level)))
            index += 1
    except StopIteration as end:
        return end.value


def difference(a: Tensor, b: Tensor) -> float:
    return ((a - b).abs().max() / b.abs().max().clamp(min=1)).item()


@pytest.mark.parametrize("name", STEPPED)
def test_every_step_is_equal_with_their_own_sigmas(name: str) -> None:
    n, plan = 20, read(CONFIGS[name])
    shown, final, scheduler = their_run(name, n)
    levels = own_levels(scheduler, plan, n)

    def watch(index: int, x: Tensor) -> None:
        assert difference(x, shown[index]) <= 2e-6, index
        x.copy_(shown[index])  # from here on, one step at a time

    out = our_run(plan, levels, shown[0].clone(), watch)
    assert difference(out / levels[-1].alpha if plan.grid == "sigmas" else out, final) <= 2e-6


@pytest.mark.parametrize("name", STEPPED)
def test_twenty_steps_are_equal_with_their_own_sigmas_and_with_ours(name: str) -> None:
    n, plan = 20, read(CONFIGS[name])
    _, final, scheduler = their_run(name, n)
    for levels in (own_levels(scheduler, plan, n), plan.levels(n)):
        out = our_run(plan, levels, plan.start(START, levels), lambda index, x: None)
        assert difference(out / levels[-1].alpha if plan.grid == "sigmas" else out, final) <= 1e-4


@pytest.mark.parametrize("name", sorted(CONFIGS))
@pytest.mark.parametrize("n", [1, 2, 3, 20, 30, 77])
def test_timesteps_and_sigmas_are_equal(name: str, n: int) -> None:
    plan, scheduler = read(CONFIGS[name]), theirs(name, n)
    got = plan.levels(n)
    if name.startswith("pndm"):
        assert [level.t for level in got[:-1]] == [float(t) for t in scheduler._timesteps[::-1]]
        return
    if n == 1 and plan.grid == "sigmas" and plan.spacing == "linspace":
        # numpy.linspace(0, 999, 1) is [0]: diffusers would draw from an image that it takes for almost clean.
        assert (float(scheduler.timesteps[0]), got[0].t) == (0.0, 999.0)
        return
    wanted = own_levels(scheduler, plan, n)
    assert len(got) == len(wanted) == n + 1
    if name == "deis beta" and n == 1:
        # diffusers' DEIS and SA-Solver spread n levels and stay on the last: with one step nothing is drawn.
        assert wanted[0][:2] == wanted[1][:2] and got[1] == plan.path.level(0)
        return
    for ours, own in zip(got, wanted):
        # float32 decides on which side of a whole number DPM-Solver cuts the ends of its exponential grid.
        assert abs(ours.t - own.t) <= (1.0 if name == "dpm exponential" else 2e-3)
        assert abs(ours.alpha - own.alpha) <= 5e-6
        assert abs(ours.sigma - own.sigma) <= 5e-6


def test_whole_timesteps_are_exactly_equal() -> None:
    for name in ("ddim sd1", "ddpm", "dpm", "dpm karras", "dpm leading, offset", "euler sdxl", "euler trailing v"):
        for n in (1, 4, 20, 30, 48, 49, 61, 100, 176):
            scheduler, levels = theirs(name, n), read(CONFIGS[name]).levels(n)
            # At 61 and other counts diffusers' "trailing" has one timestep too many.
            assert [level.t for level in levels[:-1]] == [float(t) for t in scheduler.timesteps[:n]]


@pytest.mark.parametrize(
    ("path", "config"),
    [
        (vp_linear(), {}),
        (vp_scaled_linear(), SD),
        (vp_cosine(), {"beta_schedule": "squaredcos_cap_v2"}),
        (zero_terminal_snr(vp_scaled_linear()), {**SD, "rescale_betas_zero_snr": True}),
    ],
)
def test_tables_are_equal(path: VP, config: dict[str, Any]) -> None:
    table = diffusers.DDIMScheduler(**config).alphas_cumprod.double()
    assert (torch.tensor(path.alphas_cumprod, dtype=torch.float64) - table).abs().max() <= 2e-6


@pytest.mark.parametrize("growing", [True, False])
def test_a_moved_table_equals_a_scheduler_of_such_betas(growing: bool) -> None:
    """As MV-Adapter makes one: a signal-to-noise ratio for each row, betas of it, and a scheduler of those betas."""
    plain = diffusers.DDPMScheduler(**SD).alphas_cumprod.double()
    weight = torch.arange(1000) / 999 if growing else torch.ones(1000)
    snr = plain / (1 - plain)
    snr = torch.exp(torch.log(snr) * (1 - weight) + torch.log(snr / 8.0) * weight)
    kept = snr / (1 + snr)
    betas = 1 - kept / torch.cat([torch.ones(1), kept[:-1]])
    table = diffusers.DDPMScheduler(**SD, trained_betas=betas.numpy()).alphas_cumprod.double()
    path = moved(vp_scaled_linear(), math.sqrt(8.0), growing=growing)
    assert isinstance(path, VP)
    assert (torch.tensor(path.alphas_cumprod, dtype=torch.float64) - table).abs().max() <= 2e-6


def test_the_last_level_obeys_set_alpha_to_one_and_final_sigmas_type() -> None:
    assert read(CONFIGS["ddim sd1"]).levels(5)[-1] == vp_scaled_linear().level(0)
    assert read(CONFIGS["ddim to one"]).levels(5)[-1] == CLEAN
    assert read(CONFIGS["pndm sd1"]).levels(5)[-1] == vp_scaled_linear().level(0)
    assert read(CONFIGS["euler"]).levels(5)[-1] == CLEAN
    assert read(CONFIGS["euler ends at sigma min"]).levels(5)[-1] == vp_scaled_linear().level(0)


def test_image_to_image_starts_where_their_pipeline_does() -> None:
    levels = read(CONFIGS["ddim sd1"]).levels(20)
    scheduler = theirs("ddim sd1", 20)
    for strength in (0.05, 0.3, 0.75, 1.0):
        begin = max(20 - min(int(20 * strength), 20), 0)  # StableDiffusionImg2ImgPipeline.get_timesteps
        assert [level.t for level in start(levels, strength)[:-1]] == [float(t) for t in scheduler.timesteps[begin:]]


@pytest.mark.parametrize("kind", ["eps", "v"])
def test_guidance_and_rescale_are_equal(kind: str) -> None:
    from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import rescale_noise_cfg

    x, text, free = torch.randn(3, 1, 4, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    level = vp_scaled_linear().level(321)
    for rescale in (0.0, 0.7, 1.0):
        said = rescale_noise_cfg(free + 7.5 * (text - free), text, rescale)
        answers = {"cond": denoised(kind, x, text, level), "uncond": denoised(kind, x, free, level)}
        got = CFG(7.5, rescale, kind).combine(x, level, answers).x0
        torch.testing.assert_close(got, denoised(kind, x, said, level), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    "change",
    [
        {"_class_name": "UnheardOfScheduler"},
        {"beta_schedule": "exp"},
        {"beta_start": "small"},
        {"num_train_timesteps": 1},
        {"prediction_type": "noise"},
        {"surprise": 1},
        {"thresholding": True},
        {"timestep_spacing": "wide"},
        {"trained_betas": [0.1, "x"]},
        {"use_karras_sigmas": True, "use_exponential_sigmas": True},
        {"solver_order": 4},
        {"solver_order": 3, "algorithm_type": "dpmsolver"},
    ],
)
def test_what_is_not_understood_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"scheduler_config\.json"):
        read({**CONFIGS["dpm"], **change})
