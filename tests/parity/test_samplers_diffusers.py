"""Multistep samplers against diffusers: its own float32 sigmas, every step and the whole run; and where it is wrong."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import diffusers
import pytest
import torch
from torch import Tensor

from safelight.core.path import CLEAN, Level, vp_scaled_linear
from safelight.core.run import Denoised
from safelight.core.samplers.table import SAMPLERS
from tests.laws.measure import spread_error
from tests.laws.world import Gaussian, Mixture, answer, geometric, silent, slopes

PATH = vp_scaled_linear()
SD: dict[str, Any] = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
START = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
# With bh1 diffusers computes 0 times infinity where a run ends clean, so those runs end at their smallest sigma.
MIN = {"final_sigmas_type": "sigma_min"}
FULL = {"lower_order_final": False}  # below 15 steps it would lower the order of steps that need no lowering

Case = tuple[str, dict[str, Any], str, dict[str, Any]]
"""(class of diffusers, its configuration, our row, our options)."""
SAME: dict[str, Case] = {
    "unipc": ("UniPCMultistepScheduler", {}, "unipc2_bh2", {}),
    "unipc bh1": ("UniPCMultistepScheduler", {"solver_type": "bh1", **MIN}, "unipc2_bh2", {"rule": "bh1"}),
    "unipc 3": ("UniPCMultistepScheduler", {"solver_order": 3}, "unipc_bh2", {}),
    "unipc 3 bh1": ("UniPCMultistepScheduler", {"solver_order": 3, "solver_type": "bh1", **MIN}, "unipc", {}),
    "unipc karras": ("UniPCMultistepScheduler", {"use_karras_sigmas": True}, "unipc2_bh2", {}),
    "unipc to sigma min": ("UniPCMultistepScheduler", MIN, "unipc2_bh2", {}),
    "deis": ("DEISMultistepScheduler", {"solver_order": 2, **FULL}, "deis_log", {"order": 2}),
    "deis 3 karras": ("DEISMultistepScheduler", {"solver_order": 3, "use_karras_sigmas": True, **FULL}, "deis_log", {}),
    "sa solver": ("SASolverScheduler", {}, "sa_solver_p2c2", {}),
    "sa solver without noise": ("SASolverScheduler", {"tau_func": lambda t: 0}, "sa_solver_p2c2", {"eta": 0.0}),
    "sa solver all noise": ("SASolverScheduler", {"tau_func": lambda t: 1}, "sa_solver_p2c2", {"window": "whole"}),
    "dpm 3": (
        "DPMSolverMultistepScheduler",
        {"solver_order": 3, "solver_type": "heun", **FULL},
        "dpmpp_3m_sde",
        {"eta": 0.0},
    ),
    "dpm sde heun": (
        "DPMSolverMultistepScheduler",
        {"solver_order": 2, "solver_type": "heun", "algorithm_type": "sde-dpmsolver++"},
        "adams2_sde",
        {},
    ),
    "dpm on noise": (
        "DPMSolverMultistepScheduler",
        {"algorithm_type": "dpmsolver", **MIN, **FULL},
        "dpm_solver_2m",
        {},
    ),
    "lms": ("LMSDiscreteScheduler", {}, "lms", {}),
    "lms karras": ("LMSDiscreteScheduler", {"use_karras_sigmas": True}, "lms", {}),
}
VE_STATE = ("lms", "lms karras")  # their state is x / alpha


def network(x: Tensor, t: float) -> Tensor:
    """Something smooth that depends on everything, shown a variance-preserving x; predicts noise."""
    return torch.tanh(x * (0.8 + 0.3 * math.sin(t / 200))) + 0.1 * torch.cos(3 * x)


def scheduler_of(name: str, n: int) -> Any:
    kind, config, _, _ = SAME[name]
    scheduler = getattr(diffusers, kind)(**SD, **config)
    scheduler.set_timesteps(n)
    return scheduler


def levels_of(scheduler: Any) -> list[Level]:
    """Its levels, in its own float32 numbers."""
    levels = []
    for sigma, t in zip(scheduler.sigmas, [*scheduler.timesteps, 0.0]):
        alpha = 1.0 / math.sqrt(1.0 + float(sigma) ** 2)
        levels.append(Level(alpha, alpha * float(sigma), float(t)))
    return levels


def their_run(name: str, n: int) -> tuple[list[Tensor], Tensor, list[Level]]:
    """What the network was shown, the last state, and the levels."""
    scheduler, shown = scheduler_of(name, n), []
    generator = torch.Generator().manual_seed(7)
    more = {"generator": generator} if "sde" in name or "sa" in name else {}
    x = START * scheduler.init_noise_sigma
    for t in scheduler.timesteps:
        seen = scheduler.scale_model_input(x, t)
        shown.append(seen.clone())
        x = scheduler.step(network(seen, float(t)), t, x, **more).prev_sample
    return shown, x, levels_of(scheduler)


def our_run(name: str, levels: list[Level], begin: Tensor, watch: Callable[[int, Tensor], None]) -> Tensor:
    """Our run with the noise that diffusers draws, also where its tau is 0 and it throws the noise away."""
    _, _, row, options = SAME[name]
    generator = torch.Generator().manual_seed(7)
    drawn = [torch.randn(START.shape, generator=generator) for _ in levels]
    starts = dict(zip(levels, drawn))
    run = SAMPLERS[row].bind(PATH, options)(begin, levels, lambda s, t: starts[s])
    try:
        x, level = next(run)
        index = 0
        while True:
            watch(index, x)
            x, level = run.send(Denoised((x - level.sigma * network(x, level.t)) / level.alpha))
            index += 1
    except StopIteration as end:
        return end.value


def difference(a: Tensor, b: Tensor) -> float:
    return ((a - b).abs().max() / b.abs().max().clamp(min=1)).item()


@pytest.mark.parametrize("name", SAME)
def test_every_step_is_equal_with_their_own_sigmas(name: str) -> None:
    shown, final, levels = their_run(name, 20)

    def watch(index: int, x: Tensor) -> None:
        assert difference(x, shown[index]) <= 2e-6, index
        x.copy_(shown[index])  # from here on, one step at a time

    out = our_run(name, levels, shown[0].clone(), watch)
    assert difference(out / levels[-1].alpha if name in VE_STATE else out, final) <= 2e-6


@pytest.mark.parametrize("name", SAME)
@pytest.mark.parametrize("n", [1, 2, 3, 20])
def test_whole_runs_are_equal_with_their_own_sigmas(name: str, n: int) -> None:
    shown, final, levels = their_run(name, n)
    out = our_run(name, levels, shown[0].clone(), lambda index, x: None)
    assert difference(out / levels[-1].alpha if name in VE_STATE else out, final) <= 1e-4


@pytest.mark.parametrize("n", [1, 2, 3, 4, 20, 33])
@pytest.mark.parametrize("final", [False, True])
def test_plms_is_equal_with_its_doubled_evaluation(n: int, final: bool) -> None:
    scheduler = diffusers.PNDMScheduler(**SD, skip_prk_steps=True, steps_offset=1, set_alpha_to_one=final)
    scheduler.set_timesteps(n)
    x, shown = START, []
    for t in scheduler.timesteps:
        shown.append(x)
        x = scheduler.step(network(x, float(t)), t, x).prev_sample
    squares = [(float(scheduler.alphas_cumprod[int(t)]), float(t)) for t in dict.fromkeys(scheduler.timesteps.tolist())]
    squares.append((float(scheduler.final_alpha_cumprod), 0.0))
    levels = [Level(math.sqrt(square), math.sqrt(1.0 - square), t) for square, t in squares]
    solver, asked = SAMPLERS["plms"].bind(PATH), iter(shown)
    assert solver.evaluations(levels) == len(shown)

    def denoise(question: Tensor, level: Level) -> Tensor:
        assert difference(question, next(asked)) <= 1e-4
        return (question - level.sigma * network(question, level.t)) / level.alpha

    assert difference(answer(solver(START, levels, silent), denoise), x) <= 1e-4
    assert next(asked, None) is None


def test_ipndm_is_equal_between_its_ends() -> None:
    # diffusers begins at pure noise as if x0 were 0 there, whatever the network says, and takes its last step along
    # the slopes; ours takes the prediction at both ends, as ComfyUI does at the clean one.
    scheduler = diffusers.IPNDMScheduler()
    scheduler.set_timesteps(20)
    levels = [Level(float(a), float(b), 0.0) for a, b in zip(scheduler.alphas, scheduler.betas)]
    levels[0] = Level(0.0, 1.0, 0.0)
    x, shown, kept = START, [], []
    for level, t in zip(levels, scheduler.timesteps):
        shown.append(x)
        x0 = torch.tanh(x) + 0.1 * torch.cos(3 * x)
        kept.append(x0)
        # Its network predicts v, of which x0 = alpha x - sigma v.
        x = scheduler.step((level.alpha * x - x0) / level.sigma, t, x).prev_sample
    places = {level: index for index, level in enumerate(levels)}

    def denoise(question: Tensor, level: Level) -> Tensor:
        index = places[level]
        assert index < 2 or difference(question, shown[index]) <= 2e-6, index
        question.copy_(shown[index])
        return kept[index]

    assert torch.equal(answer(SAMPLERS["ipndm"].bind(PATH)(START.clone(), levels, silent), denoise), kept[-1])


# Where diffusers is wrong.


def on_their_grid(scheduler: Any, levels: list[Level]) -> Any:
    """The scheduler, made to visit these levels of a variance-exploding path."""
    scheduler.set_timesteps(len(levels) - 1)
    scheduler.sigmas = torch.tensor([level.sigma for level in levels], dtype=scheduler.sigmas.dtype)
    scheduler.set_begin_index(0)
    return scheduler


def spread_error_of_dpm_sde_3(n: int) -> float:
    """How wrong mean and variance are on Gaussian data; see tests/laws/test_samplers.py."""
    world, levels = Gaussian(), geometric(20.0, 0.1, n)
    config = {"algorithm_type": "sde-dpmsolver++", "solver_order": 3, "prediction_type": "sample", **MIN, **FULL}
    scheduler = on_their_grid(diffusers.DPMSolverMultistepScheduler(**config), levels)
    x = torch.zeros(1, 2 + n)
    x[0, 1] = 1.0
    x /= math.hypot(1.0, levels[0].sigma)
    for i, t in enumerate(scheduler.timesteps):
        impulse = torch.zeros(1, 2 + n)
        impulse[0, 2 + i] = 1.0
        x0 = world.denoise((x * math.hypot(1.0, levels[i].sigma)).double(), levels[i]).float()
        x = scheduler.step(x0, t, x, variance_noise=impulse).prev_sample
    out = x[0].double() * math.hypot(1.0, levels[-1].sigma)
    gains = out - out[0]
    (mean, variance), (true_mean, true_variance) = world.law(levels[0]), world.law(levels[-1])
    got = gains[1] ** 2 * variance + (gains[2:] ** 2).sum()
    return abs((out[0] + gains[1] * mean).item() - true_mean) + abs(got.item() - true_variance)


def test_sde_dpm_solver_of_order_3_has_a_sign_that_costs_it_an_order() -> None:
    theirs = [spread_error_of_dpm_sde_3(n) for n in (64, 128, 256)]
    ours = [spread_error(SAMPLERS["adams3_sde"], geometric(20.0, 0.1, n)) for n in (64, 128, 256)]
    assert all(slope < 1.5 for slope in slopes(theirs)), theirs
    assert all(slope > 1.9 for slope in slopes(ours)), ours
    assert theirs[-1] > 50 * ours[-1], (theirs, ours)


def test_deis_of_order_3_gets_worse_with_more_steps_in_float32_coefficients() -> None:
    world, theirs, ours = Mixture(), [], []
    for n in (32, 128, 256):
        levels = geometric(20.0, 0.1, n)
        start = world.points(levels[0])
        truth = world.flow(start, levels[0], levels[-1])
        scheduler = on_their_grid(
            diffusers.DEISMultistepScheduler(solver_order=3, prediction_type="sample", **FULL), levels
        )
        x = start / math.hypot(1.0, levels[0].sigma)
        for level, t in zip(levels, scheduler.timesteps):
            x = scheduler.step(world.denoise(x * math.hypot(1.0, level.sigma), level), t, x).prev_sample
        theirs.append((x * math.hypot(1.0, levels[-1].sigma) - truth).abs().max().item())
        ended = answer(SAMPLERS["deis_log"].bind(PATH)(start, levels, silent), world.denoise)
        ours.append((ended - truth).abs().max().item())
    assert theirs[2] > theirs[0], (theirs, ours)
    assert ours[2] < ours[0] / 100, (theirs, ours)


def test_bh1_of_diffusers_has_no_clean_end() -> None:
    scheduler = diffusers.UniPCMultistepScheduler(**SD, solver_type="bh1")
    scheduler.set_timesteps(3)
    x = START
    for t in scheduler.timesteps:
        x = scheduler.step(network(x, float(t)), t, x).prev_sample
    assert torch.isnan(x).all()
    levels = levels_of(scheduler)
    assert levels[-1][:2] == CLEAN[:2]
    SAME["bh1 to the end"] = ("UniPCMultistepScheduler", {}, "unipc2_bh2", {"rule": "bh1"})
    try:
        assert torch.isfinite(our_run("bh1 to the end", levels, START, lambda index, x: None)).all()
    finally:
        del SAME["bh1 to the end"]
