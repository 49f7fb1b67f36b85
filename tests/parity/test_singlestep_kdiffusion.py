"""The single-step samplers equal k-diffusion's within 1e-9 in float64, with the same noise."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from safelight.core.path import Level
from safelight.core.samplers.row import Options
from safelight.core.samplers.table import SAMPLERS
from tests.laws.world import answer
from tests.parity.kdiffusion import sampling
from tests.parity.test_samplers_kdiffusion import PATH, SIGMAS, START, close, draw, ours, picture, theirs

LONG = [plan for plan in SIGMAS if plan != "one step"]


def between(s: float, t: float) -> Tensor:
    """The noise between two sigmas, the same for both programs."""
    return draw(round(1e4 * math.log(s)) - 3 * round(1e4 * math.log(t)))


@pytest.mark.parametrize("plan", SIGMAS)
def test_dpm_2_is_equal(plan: str) -> None:
    wanted = theirs("sample_dpm_2", SIGMAS[plan], {})
    close(ours("dpm_2", SIGMAS[plan], {}), wanted)
    close(ours("dpm_solver_2", SIGMAS[plan], {}), wanted)


@pytest.mark.parametrize("plan", SIGMAS)
def test_churn_of_dpm_2_is_equal(plan: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = iter(range(100))
    monkeypatch.setattr(torch, "randn_like", lambda x: draw(next(calls)))
    options: Options = {"s_churn": 3.0, "s_tmin": 0.05, "s_tmax": 25.0, "s_noise": 1.003}
    close(ours("dpm_2", SIGMAS[plan], options), theirs("sample_dpm_2", SIGMAS[plan], dict(options)))


@pytest.mark.parametrize("plan", SIGMAS)
@pytest.mark.parametrize("options", [{}, {"eta": 0.4}, {"eta": 0.0}, {"s_noise": 0.9}])
@pytest.mark.parametrize("name", ["dpm_2_ancestral", "dpmpp_2s_ancestral"])
def test_ancestral_samplers_that_look_twice_are_equal(name: str, options: dict[str, float], plan: str) -> None:
    close(ours(name, SIGMAS[plan], options), theirs(f"sample_{name}", SIGMAS[plan], options))


@pytest.mark.parametrize("plan", SIGMAS)
@pytest.mark.parametrize("options", [{}, {"eta": 0.4}, {"eta": 0.0}, {"s_noise": 0.9}, {"r": 0.3}, {"r": 1.0}])
def test_dpmpp_sde_is_equal(options: dict[str, float], plan: str) -> None:
    def noise(s: Level, t: Level) -> Tensor:
        return between(s.sigma, t.sigma)

    table = torch.tensor(SIGMAS[plan], dtype=torch.float64)
    wanted = sampling().sample_dpmpp_sde(
        lambda x, sigma: picture(x, float(sigma[0])),
        START * SIGMAS[plan][0],
        table,
        disable=True,
        noise_sampler=lambda s, t: between(float(s), float(t)),
        **options,
    )
    levels = [Level(1.0, sigma) for sigma in SIGMAS[plan]]
    run = SAMPLERS["dpmpp_sde"].bind(PATH, options)(START * SIGMAS[plan][0], levels, noise)
    close(answer(run, lambda x, level: picture(x, level.sigma)), wanted)


def without_grid(name: str, n: int, options: Options, theirs_too: dict[str, Any]) -> tuple[Tensor, Tensor, int, Any]:
    """Our result and k-diffusion's between two sigmas, how often we asked, and what k-diffusion says of itself."""
    high, low, asked = torch.tensor(14.6).double().item(), torch.tensor(0.03).double().item(), 0

    def denoise(x: Tensor, level: Level) -> Tensor:
        nonlocal asked
        asked += 1
        return picture(x, level.sigma)

    levels = [PATH.at(math.log(1 / high) + (math.log(high / low)) * i / n) for i in range(n + 1)]
    run = SAMPLERS[name].bind(PATH, options)(START * high, levels, lambda s, t: between(s.sigma, t.sigma))
    got = answer(run, denoise)
    more: dict[str, Any] = {**theirs_too, "noise_sampler": lambda s, t: between(float(s), float(t)), "disable": True}
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)  # k-diffusion makes its ends of Python numbers
    try:
        out = getattr(sampling(), f"sample_{name}")(
            lambda x, sigma: picture(x, float(sigma[0])), START * high, low, high, **more
        )
    finally:
        torch.set_default_dtype(default)
    wanted, info = out if isinstance(out, tuple) else (out, None)
    return got, wanted, asked, info


@pytest.mark.parametrize("eta", [0.0, 0.6, 1.0])
@pytest.mark.parametrize("n", [1, 2, 3, 4, 9, 20])
def test_dpm_fast_is_equal_and_asks_exactly_n_times(n: int, eta: float) -> None:
    got, wanted, asked, _ = without_grid("dpm_fast", n, {"eta": eta}, {"n": n, "eta": eta})
    close(got, wanted)
    assert asked == n


@pytest.mark.parametrize("eta", [0.0, 0.7])
@pytest.mark.parametrize("order", [2, 3])
@pytest.mark.parametrize("rtol", [0.2, 0.05, 0.002])
def test_dpm_adaptive_is_equal_and_asks_less_by_what_it_remembers(rtol: float, order: int, eta: float) -> None:
    options: Options = {"rtol": rtol, "atol": 0.1 * rtol, "order": order, "eta": eta}
    got, wanted, asked, info = without_grid("dpm_adaptive", 3, options, {**options, "return_info": True})
    torch.testing.assert_close(got, wanted, rtol=3e-12, atol=3e-12)
    # k-diffusion asks anew at the start of a step that it tries again.
    assert asked == info["nfe"] - info["n_reject"]
    assert info["n_reject"] > 0 or rtol > 0.01, "no step was rejected"
