"""Grids of k-diffusion and diffusers: every sigma, for many numbers of steps; and where theirs differ, why."""

from __future__ import annotations

import math
from typing import Any

import diffusers
import numpy as np
import pytest
import torch

from safelight.core.path import EDM, Flow, Level, Path, vp_scaled_linear
from safelight.core.schedule import SCHEDULES
from safelight.core.schedules import tables, transforms
from tests.parity.kdiffusion import sampling

SD = vp_scaled_linear()
SD_CONFIG: dict[str, Any] = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
COUNTS = (1, 2, 3, 10, 20, 28, 61, 100)


def clocks(path: Path, levels: list[Level]) -> list[float]:
    return [path.clock(level) for level in levels]


def close(ours: list[float], theirs: Any, relative: float) -> bool:
    theirs = [float(each) for each in theirs]
    return len(ours) == len(theirs) and all(
        math.isclose(a, b, rel_tol=relative, abs_tol=relative) for a, b in zip(ours, theirs)
    )


@pytest.mark.parametrize("n", [2, 3, 10, 28, 100])  # of one step they make no number
def test_k_diffusions_functions_of_two_ends(n: int) -> None:
    path, library = EDM(0.03, 14.6), sampling()
    for plan, options, function, arguments in (
        ("karras", {}, library.get_sigmas_karras, {}),
        ("karras", {"rho": 3.0}, library.get_sigmas_karras, {"rho": 3.0}),
        ("exponential", {}, library.get_sigmas_exponential, {}),
        ("polyexponential", {}, library.get_sigmas_polyexponential, {}),
        ("polyexponential", {"rho": 2.5}, library.get_sigmas_polyexponential, {"rho": 2.5}),
    ):
        theirs = function(n, 0.03, 14.6, **arguments)
        assert close(clocks(path, SCHEDULES[plan](path, n, options)), theirs, 1e-5), (plan, options)


def euler(n: int, **config: Any) -> Any:
    scheduler = diffusers.EulerDiscreteScheduler(**SD_CONFIG, **config)
    scheduler.set_timesteps(n)
    return scheduler


@pytest.mark.parametrize("n", COUNTS[1:])
def test_beta_sigmas_of_diffusers(n: int) -> None:
    assert close(clocks(SD, SCHEDULES["beta_sigma"](SD, n)), euler(n, use_beta_sigmas=True).sigmas, 2e-5)


def test_karras_over_leading_inherits_other_ends_in_diffusers() -> None:
    # SDXL's file asks for "leading"; spread between its first and last row, 25 steps begin at 11.68, not at the end.
    theirs = euler(25, timestep_spacing="leading", steps_offset=1, use_karras_sigmas=True).sigmas
    ours = clocks(SD, SCHEDULES["karras"](SD, 25))
    assert round(float(theirs[0]), 2) == 11.68 and round(ours[0], 2) == 14.61
    inherited = {"sigma_max": float(theirs[0]), "sigma_min": float(theirs[-2])}
    assert close(clocks(SD, SCHEDULES["karras"](SD, 25, inherited)), theirs, 2e-5)


def test_the_two_linspaces_of_diffusers() -> None:
    dpm = diffusers.DPMSolverMultistepScheduler(**SD_CONFIG)
    for n in (2, 5, 20, 30):
        dpm.set_timesteps(n)
        assert close(clocks(SD, SCHEDULES["linspace"](SD, n, {"spare": 1.0, "rounded": 1.0})), dpm.sigmas, 2e-4)
        # Between rows Euler interpolates sigma, we its logarithm.
        assert close(clocks(SD, SCHEDULES["linspace"](SD, n)), euler(n).sigmas, 2e-3)


def test_align_your_steps_of_diffusers_are_our_rows_rounded() -> None:
    from diffusers.schedulers import AysSchedules

    for model, name in (("sd15", "StableDiffusion"), ("sdxl", "StableDiffusionXL")):
        levels = SCHEDULES["ays"](SD, 10, {"model": model})
        assert [level.t for level in levels[:-1]] == AysSchedules[f"{name}Timesteps"]
        assert close(clocks(SD, levels), AysSchedules[f"{name}Sigmas"], 2e-2)
    assert list(tables.AYS_SIGMAS["svd"][:-1]) == AysSchedules["StableDiffusionVideoSigmas"][:-1]


@pytest.mark.parametrize("n", [2, 3, 5, 19, 37])
def test_between_published_levels_numpy_interpolates_the_same(n: int) -> None:
    points = np.log([SD.clock(SD.level(k)) for k in tables.AYS_ROWS["sd15"]])
    wanted = np.exp(np.interp(np.linspace(0, 10, n), np.arange(11), points))
    assert close(clocks(SD, SCHEDULES["ays"](SD, n, {"model": "sd15", "spare": 0.0}))[:-1], wanted, 1e-9)


@pytest.mark.parametrize("n", [2, 3, 4, 5, 28, 61, 100])
def test_linear_quadratic_is_mochis(n: int) -> None:
    from diffusers.pipelines.mochi.pipeline_mochi import linear_quadratic_schedule

    for threshold in (0.025, 0.1):
        levels = SCHEDULES["linear_quadratic"](Flow(), n, {"threshold": threshold})
        assert close([level.sigma for level in levels[:-1]], linear_quadratic_schedule(n, threshold), 1e-12)
    if n == 100:  # theirs turns back below clean before its end
        assert min(linear_quadratic_schedule(n, 0.025, 1)) < 0.0
        return
    few = SCHEDULES["linear_quadratic"](Flow(), n, {"linear_steps": 1})
    assert close([level.sigma for level in few[:-1]], linear_quadratic_schedule(n, 0.025, 1), 1e-12)


def flow(n: int, mu: float | None = None, **config: Any) -> Any:
    """diffusers' flow scheduler on the grid that pipelines give it."""
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(**config)
    scheduler.set_timesteps(sigmas=list(np.linspace(1.0, 1 / n, n)), mu=mu)
    return scheduler


@pytest.mark.parametrize("n", COUNTS)
def test_shifts_of_flows(n: int) -> None:
    for shift in (1.0, 3.0, 0.5):
        theirs = flow(n, shift=shift)
        ours = SCHEDULES["even"](Flow(shift=shift), n)
        assert close([level.sigma for level in ours], theirs.sigmas, 1e-6)
        assert close([level.t for level in ours[:-1]], theirs.timesteps, 1e-6)
        assert close([level.sigma for level in SCHEDULES["even"](Flow(), n, {"shift": shift})], theirs.sigmas, 1e-6)


@pytest.mark.parametrize("n", COUNTS)
def test_dynamic_shifts_of_flows(n: int) -> None:
    from diffusers.pipelines.flux.pipeline_flux import calculate_shift

    for tokens in (256, 1024, 4096, 6000):
        mu = transforms.dynamic_mu(tokens)
        assert math.isclose(mu, calculate_shift(tokens), abs_tol=1e-12)
        ours = SCHEDULES["even"](Flow(), n, {"shift": math.exp(mu)})
        assert close([level.sigma for level in ours], flow(n, mu, use_dynamic_shifting=True).sigmas, 1e-6)


@pytest.mark.parametrize("n", COUNTS[1:])
def test_stretched_flows(n: int) -> None:
    theirs = flow(n, shift=2.0, shift_terminal=0.1)
    ours = SCHEDULES["even"](Flow(), n, {"shift": 2.0, "terminal": 0.1})
    assert close([level.sigma for level in ours], theirs.sigmas, 1e-6)


def test_a_stretched_flow_of_one_step_is_no_number_in_diffusers_and_pure_noise_here() -> None:
    with np.errstate(all="ignore"):
        assert not torch.isfinite(flow(1, shift=2.0, shift_terminal=0.1).sigmas).all()
    assert SCHEDULES["even"](Flow(), 1, {"shift": 2.0, "terminal": 0.1})[0].sigma == 1.0


@pytest.mark.parametrize(("flag", "plan"), [("use_karras_sigmas", "karras"), ("use_exponential_sigmas", "exponential")])
def test_spreads_of_flows(flag: str, plan: str) -> None:
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(**{flag: True})
    scheduler.set_timesteps(28)
    assert close([level.sigma for level in SCHEDULES[plan](Flow(), 28)], scheduler.sigmas, 1e-5)


def test_where_a_flow_of_shift_3_in_28_steps_ends() -> None:
    def last(name: str, **config: Any) -> float:
        scheduler = getattr(diffusers, name)(**config)
        scheduler.set_timesteps(28)
        return float(scheduler.sigmas[-2])

    # Alone, FlowMatchEuler shifts its cleanest row a second time; UniPC lays sgm_uniform, as we do.
    assert round(last("FlowMatchEulerDiscreteScheduler", shift=3.0), 3) == 0.009
    uni = {"use_flow_sigmas": True, "flow_shift": 3.0, "prediction_type": "flow_prediction"}
    path = Flow(shift=3.0)
    assert round(last("UniPCMultistepScheduler", **uni), 3) == 0.103
    assert round(SCHEDULES["sgm_uniform"](path, 28)[-2].sigma, 3) == 0.103
    assert round(last("DPMSolverMultistepScheduler", **uni), 3) == 0.1
    assert round(SCHEDULES["linspace"](path, 28)[-2].sigma, 3) == 0.003
