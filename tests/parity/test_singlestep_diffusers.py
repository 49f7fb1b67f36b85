"""Single-step schedulers of diffusers on their own float32 sigmas: every step within 2e-6, twenty within 1e-4."""

from __future__ import annotations

import math
from typing import Any

import diffusers
import pytest
import torch
from torch import Tensor

from safelight.core.path import EDM, Flow, Level, vp_scaled_linear
from safelight.core.run import Denoised
from safelight.core.samplers.row import Options
from safelight.core.samplers.table import SAMPLERS

SD: dict[str, Any] = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
START = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
STEPS = 20


def seen(x: Tensor, clock: float) -> Tensor:
    """What a smooth network predicts of a state of unit size on average, at this sigma / alpha or flow sigma."""
    return torch.tanh(x * (0.8 + 0.3 * math.sin(clock))) * (0.4 + 0.5 / (1 + clock)) + 0.05 * torch.cos(3 * x)


def draws() -> list[Tensor]:
    """What diffusers draws for one step after the other from a generator with seed 7."""
    generator = torch.Generator().manual_seed(7)
    return [torch.randn(START.shape, generator=generator) for _ in range(STEPS)]


def ours(name: str, path: Any, levels: list[Level], options: Options, x: Tensor) -> tuple[list[Tensor], Tensor]:
    """What the network is shown, of unit size on average, and the end."""
    fresh, shown = draws(), []
    run = SAMPLERS[name].bind(path, options)(x, levels, lambda s, t: fresh[levels.index(s)])
    try:
        x, level = next(run)
        while True:
            scale = 1 / math.hypot(level.alpha, level.sigma)
            shown.append(x * scale)
            clock = level.sigma / level.alpha if level.alpha else 0.0
            x, level = run.send(Denoised(seen(x * scale, clock)))
    except StopIteration as end:
        return shown, end.value


def compare(shown: list[Tensor], end: Tensor, wanted_shown: list[Tensor], wanted: Tensor) -> None:
    assert len(shown) == len(wanted_shown)
    torch.testing.assert_close(shown[1], wanted_shown[1], rtol=2e-6, atol=2e-6)
    for got, one in zip([*shown, end], [*wanted_shown, wanted]):
        torch.testing.assert_close(got, one, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["", "karras", "exponential"])
@pytest.mark.parametrize(
    ("order", "rule"), [(1, "midpoint"), (2, "midpoint"), (2, "heun"), (3, "midpoint"), (3, "heun")]
)
def test_singlestep_is_equal(order: int, rule: str, kind: str) -> None:
    more = {f"use_{kind}_sigmas": True} if kind else {}
    # x0 is what the network says, so that diffusers need not go through eps, which costs digits near pure noise.
    scheduler = diffusers.DPMSolverSinglestepScheduler(
        **SD,
        **more,
        solver_order=order,
        solver_type=rule,
        prediction_type="sample",
        lower_order_final=True,
        final_sigmas_type="zero",
    )
    scheduler.set_timesteps(STEPS)
    sigmas = [float(sigma) for sigma in scheduler.sigmas]
    x, wanted_shown = START.clone(), []
    for i, t in enumerate(scheduler.timesteps):
        wanted_shown.append(x)
        x = scheduler.step(seen(x, sigmas[i]), t, x).prev_sample
    levels = [Level(1 / math.hypot(1, sigma), sigma / math.hypot(1, sigma), float(i)) for i, sigma in enumerate(sigmas)]
    options: Options = {"order": order, "rule": rule}
    compare(*ours("dpm_singlestep", vp_scaled_linear(), levels, options, START), wanted_shown, x)


@pytest.mark.parametrize("kind", ["", "karras"])
@pytest.mark.parametrize(
    ("name", "scheduler"),
    [
        ("dpm_2", "KDPM2DiscreteScheduler"),
        ("dpm_2_ancestral", "KDPM2AncestralDiscreteScheduler"),
        ("heun", "HeunDiscreteScheduler"),
    ],
)
def test_schedulers_with_two_looks_are_equal(name: str, scheduler: str, kind: str) -> None:
    more = {f"use_{kind}_sigmas": True} if kind else {}
    their = getattr(diffusers, scheduler)(**SD, **more, prediction_type="epsilon")
    their.set_timesteps(STEPS)
    sigmas = [float(sigma) for sigma in (their.sigmas[0], *their.sigmas[1::2][:STEPS])]
    assert sigmas[-1] == 0.0
    generator = {"generator": torch.Generator().manual_seed(7)} if "ancestral" in name else {}
    x, wanted_shown = START * sigmas[0], []
    for t in their.timesteps:
        i, first = their.step_index or 0, their.state_in_first_order
        sigma = float(their.sigmas[i])
        if not first and name != "heun":
            sigma = float(their.sigmas_interpol[i - (name == "dpm_2_ancestral")])
        wanted_shown.append(x / math.hypot(1, sigma))
        x = their.step((x - seen(wanted_shown[-1], sigma)) / sigma, t, x, **generator).prev_sample
    levels = [Level(1.0, sigma, 0.0) for sigma in sigmas]
    compare(*ours(name, EDM(), levels, {}, START * sigmas[0]), wanted_shown, x)


@pytest.mark.parametrize(
    ("name", "scheduler"), [("euler", "FlowMatchEulerDiscreteScheduler"), ("heun", "FlowMatchHeunDiscreteScheduler")]
)
def test_flow_schedulers_are_equal(name: str, scheduler: str) -> None:
    their = getattr(diffusers, scheduler)(shift=3.0)
    their.set_timesteps(STEPS)
    sigmas = [float(sigma) for sigma in their.sigmas]
    sigmas = sigmas if name == "euler" else [sigmas[0], *sigmas[1::2]]
    assert len(sigmas) == STEPS + 1
    path, x, wanted_shown = Flow(), START.clone(), []
    for i, t in enumerate(their.timesteps):
        sigma = float(their.sigmas[i])
        wanted_shown.append(x / math.hypot(1 - sigma, sigma))
        clock = sigma / (1 - sigma) if sigma < 1 else 0.0
        x = their.step((x - seen(wanted_shown[-1], clock)) / sigma, t, x).prev_sample
    levels = [path.at_clock(sigma) for sigma in sigmas]
    compare(*ours(name, path, levels, {}, START), wanted_shown, x)


def test_edm_euler_is_euler() -> None:
    their = diffusers.EDMEulerScheduler(sigma_min=0.002, sigma_max=80.0)
    their.set_timesteps(STEPS)
    sigmas = [float(sigma) for sigma in their.sigmas]
    x, wanted_shown = START * sigmas[0], []
    for i, t in enumerate(their.timesteps):
        wanted_shown.append(x / math.hypot(1, sigmas[i]))
        x0, half = seen(wanted_shown[-1], sigmas[i]), 0.5
        skip = half**2 / (sigmas[i] ** 2 + half**2)
        out = (x0 - skip * x) / (sigmas[i] * half / math.sqrt(sigmas[i] ** 2 + half**2))
        x = their.step(out, t, x).prev_sample
    compare(*ours("euler", EDM(), [Level(1.0, sigma) for sigma in sigmas], {}, START * sigmas[0]), wanted_shown, x)
