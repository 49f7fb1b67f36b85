"""LCM, TCD, consistency models, DDPM's variances and DDIM inversion equal diffusers', whose steps are float32."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import diffusers
import pytest
import torch
from torch import Tensor

from safelight.core.path import CLEAN, EDM, VP, Level, vp_linear, vp_scaled_linear
from safelight.core.prediction import denoised
from safelight.core.run import Denoised, Run
from safelight.core.samplers.inversion import INVERSION
from safelight.core.samplers.table import SAMPLERS

PATH = vp_scaled_linear()
SD: dict[str, Any] = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "clip_sample": False}
START = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
KINDS = {"eps": "epsilon", "v": "v_prediction", "x0": "sample"}


def network(x: Tensor, t: float) -> Tensor:
    """What a network says; curved, and of the size of its input."""
    return torch.tanh(x * (1.0 + t / 1000)) + 0.1 * torch.sin(x + t / 100)


def draws() -> Callable[..., Tensor]:
    """The noises that a generator with seed 7 gives, one after the other."""
    generator = torch.Generator().manual_seed(7)
    return lambda *_: torch.randn(START.shape, generator=generator).double()


def ours(run: Run, kind: str, asked: Callable[[Level], Level] = lambda level: level) -> Tensor:
    """A run with this network, in float64."""
    try:
        x, level = next(run)
        while True:
            x, level = run.send(Denoised(denoised(kind, x, network(x, level.t), asked(level))))
    except StopIteration as end:
        return end.value


def theirs(scheduler: Any, **more: Any) -> Tensor:
    """The whole trajectory of a scheduler."""
    x, generator = START.clone(), torch.Generator().manual_seed(7)
    if "generator" in scheduler.step.__annotations__:
        more["generator"] = generator
    for t in scheduler.timesteps:
        x = scheduler.step(network(x.double(), float(t)).float(), t, x, **more).prev_sample
    return x.double()


def levels_of(scheduler: Any, path: VP, end: Level) -> list[Level]:
    return [*(path.level(int(t)) for t in scheduler.timesteps), end]


def close(got: Tensor, wanted: Tensor, steps: int) -> None:
    """Within 2e-6 a step of the largest value."""
    assert got.isfinite().all()
    assert (got - wanted).abs().max() < 2e-6 * steps * wanted.abs().max().clamp(min=1.0), (got - wanted).abs().max()


@pytest.mark.parametrize("n", [1, 2, 4, 8])
@pytest.mark.parametrize("kind", KINDS)
def test_lcm_with_its_boundary_is_equal(kind: str, n: int) -> None:
    scheduler = diffusers.LCMScheduler(**SD, prediction_type=KINDS[kind])
    scheduler.set_timesteps(n)
    levels = levels_of(scheduler, PATH, CLEAN)
    got = ours(SAMPLERS["lcm_boundary"].bind(PATH)(START.double(), levels, draws()), kind)
    close(got, theirs(scheduler), n)


def test_lcm_with_its_boundary_is_equal_where_the_boundary_matters() -> None:
    scheduler = diffusers.LCMScheduler(**SD)
    scheduler.set_timesteps(timesteps=[39, 19], original_inference_steps=50)
    levels = levels_of(scheduler, PATH, CLEAN)
    options = {"boundary": 0.1}
    scheduler.register_to_config(timestep_scaling=0.1)
    solver = SAMPLERS["lcm_boundary"]
    got = ours(solver.bind(PATH, options)(START.double(), levels, draws()), "eps")
    close(got, theirs(scheduler), 2)
    assert (got - ours(solver.bind(PATH)(START.double(), levels, draws()), "eps")).abs().max() > 1e-3


@pytest.mark.parametrize("eta", [0.0, 0.2, 0.3, 0.77, 1.0])
@pytest.mark.parametrize(("kind", "n"), [("eps", 1), ("eps", 4), ("v", 7), ("x0", 3)])
def test_tcd_is_equal_rounding_included(kind: str, n: int, eta: float) -> None:
    scheduler = diffusers.TCDScheduler(**SD, prediction_type=KINDS[kind])
    scheduler.set_timesteps(n)
    levels = levels_of(scheduler, PATH, PATH.level(0))
    got = ours(SAMPLERS["tcd"].bind(PATH, {"eta": eta})(START.double(), levels, draws()), kind)
    close(got, theirs(scheduler, eta=eta), n)


@pytest.mark.parametrize("n", [1, 2, 5])
def test_consistency_models_are_equal(n: int) -> None:
    scheduler = diffusers.CMStochasticIterativeScheduler(clip_denoised=False)
    scheduler.set_timesteps(n)
    sigmas, path, generator = scheduler.sigmas.double().tolist(), EDM(), torch.Generator().manual_seed(7)
    x = START.clone() * 80
    for sigma, t in zip(sigmas, scheduler.timesteps):
        shown = scheduler.scale_model_input(x, t)
        x = scheduler.step(network(shown.double(), sigma).float(), t, x, generator=generator).prev_sample
    levels = [Level(1.0, sigma) for sigma in sigmas]
    run = SAMPLERS["consistency"].bind(path)(START.double() * 80, levels, draws())
    y, level = next(run)
    try:
        while True:
            sigma = level.sigma  # the network's own boundary (2303.01469, appendix C) belongs to the network
            skip = 0.25 / ((sigma - 0.002) ** 2 + 0.25)
            out = (sigma - 0.002) * 0.5 / (sigma**2 + 0.25) ** 0.5
            y, level = run.send(Denoised(skip * y + out * network(y / (sigma**2 + 0.25) ** 0.5, sigma)))
    except StopIteration as end:
        close(end.value, x.double(), n)


@pytest.mark.parametrize("variance", ["fixed_small", "fixed_large"])
@pytest.mark.parametrize("kind", KINDS)
def test_ddpm_has_both_variances(kind: str, variance: str) -> None:
    scheduler = diffusers.DDPMScheduler(prediction_type=KINDS[kind], variance_type=variance, clip_sample=False)
    scheduler.set_timesteps(20)
    path = vp_linear()
    levels = levels_of(scheduler, path, CLEAN)
    got = ours(SAMPLERS["ddpm"].bind(path, {"variance": variance})(START.double(), levels, draws()), kind)
    close(got, theirs(scheduler), 20)


@pytest.mark.parametrize("to_one", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_ddim_inversion_is_equal(kind: str, to_one: bool) -> None:
    scheduler = diffusers.DDIMInverseScheduler(**SD, prediction_type=KINDS[kind], set_alpha_to_one=to_one)
    scheduler.set_timesteps(20)
    if to_one and kind != "eps":  # at a clean level the other kinds say nothing of the noise, or nothing at all
        scheduler.timesteps = scheduler.timesteps[1:]
    begin = CLEAN if to_one and kind == "eps" else PATH.level(0)
    levels = [begin, *(PATH.level(int(t)) for t in scheduler.timesteps)]
    close(ours(INVERSION.bind(PATH)(START.double(), levels, draws()), kind), theirs(scheduler), 20)


@pytest.mark.parametrize("kind", KINDS)
def test_ddpm_with_the_variance_that_the_network_says_is_equal(kind: str) -> None:
    config = {"variance_type": "learned_range", "clip_sample": False, "prediction_type": KINDS[kind]}
    scheduler, path = diffusers.DDPMScheduler(**config), vp_linear()
    scheduler.set_timesteps(20)
    levels, x = levels_of(scheduler, path, CLEAN), START.clone()
    generator = torch.Generator().manual_seed(7)

    def spread(x: Tensor) -> Tensor:
        return torch.sin(3.0 * x)

    for t in scheduler.timesteps:
        said = torch.cat([network(x.double(), float(t)), spread(x.double())], dim=1).float()
        x = scheduler.step(said, t, x, generator=generator).prev_sample
    run = SAMPLERS["ddpm"].bind(path, {"variance": "learned_range"})(START.double(), levels, draws())
    y, level = next(run)
    try:
        while True:
            y, level = run.send(Denoised(denoised(kind, y, network(y, level.t), level), None, spread(y)))
    except StopIteration as end:
        close(end.value, x.double(), 20)
