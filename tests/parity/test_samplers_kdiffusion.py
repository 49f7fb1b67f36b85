"""Every first sampler equals k-diffusion's within 1e-9 in float64, with the same noise."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from safelight.core.path import EDM, Level, vp_scaled_linear
from safelight.core.run import Denoised
from safelight.core.samplers.table import SAMPLERS
from safelight.core.schedule import exponential, karras
from tests.parity.kdiffusion import sampling

PATH = EDM()
SIGMAS = {
    "karras to clean": [level.sigma for level in karras(PATH, 12)],
    "exponential, not clean": [level.sigma for level in exponential(PATH, 9)][:-1],
    "uneven": [30.0, 11.0, 9.5, 2.0, 1.9, 0.3, 0.02, 0.0],
    "one step": [14.6, 0.0],
}
START = torch.randn(1, 4, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def picture(x: Tensor, sigma: float) -> Tensor:
    """A smooth, curved denoiser."""
    return torch.tanh(x / math.sqrt(1 + sigma**2)) * (0.5 + 0.5 / (1 + sigma)) + 0.1 * torch.sin(x / (1 + sigma)) / (
        1 + sigma
    )


def draw(i: int) -> Tensor:
    return torch.randn(START.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1000 + i))


def ours(name: str, sigmas: list[float], options: dict[str, float | str]) -> Tensor:
    """Our run over these sigmas; the noise of the step that starts at sigmas[i] is draw(i)."""
    levels = [Level(1.0, sigma) for sigma in sigmas]
    run = SAMPLERS[name].bind(PATH, options)(START * sigmas[0], levels, lambda s, t: draw(sigmas.index(s.sigma)))
    try:
        x, level = next(run)
        while True:
            x, level = run.send(Denoised(picture(x, level.sigma)))
    except StopIteration as end:
        return end.value


def theirs(function: str, sigmas: list[float], options: dict[str, float | str]) -> Tensor:
    """k-diffusion's run: ``noise_sampler`` is called with the sigmas of the step."""
    table = torch.tensor(sigmas, dtype=torch.float64)
    takes_noise = "ancestral" in function or "sde" in function
    more = {"noise_sampler": lambda s, t: draw(sigmas.index(float(s)))} if takes_noise else {}

    def model(x: Tensor, sigma: Tensor) -> Tensor:
        return picture(x, float(sigma[0]))

    return getattr(sampling(), function)(model, START * sigmas[0], table, disable=True, **more, **options)


def close(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("plan", SIGMAS)
@pytest.mark.parametrize(
    ("name", "function", "options"),
    [
        ("euler", "sample_euler", {}),
        ("ddim", "sample_euler", {}),
        ("heun", "sample_heun", {}),
        ("dpmpp_2m", "sample_dpmpp_2m", {}),
        *(("lms", "sample_lms", {"order": order}) for order in (1, 2, 3, 4)),
    ],
)
def test_deterministic_samplers_are_equal(name: str, function: str, options: dict[str, float], plan: str) -> None:
    close(ours(name, SIGMAS[plan], options), theirs(function, SIGMAS[plan], options))


@pytest.mark.parametrize("plan", SIGMAS)
@pytest.mark.parametrize("options", [{}, {"eta": 0.4}, {"eta": 0.0}, {"eta": 1.3}, {"s_noise": 0.9}])
def test_euler_ancestral_is_equal(options: dict[str, float], plan: str) -> None:
    wanted = theirs("sample_euler_ancestral", SIGMAS[plan], options)
    for name in ("euler_ancestral", "ddpm"):
        close(ours(name, SIGMAS[plan], options), wanted)


# Without "one step": k-diffusion's function reads a variable that it has not set where the first step is the last.
@pytest.mark.parametrize("plan", sorted(set(SIGMAS) - {"one step"}))
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize(("name", "rule"), [("dpmpp_2m_sde", "midpoint"), ("dpmpp_2m_sde_heun", "heun")])
def test_dpmpp_2m_sde_is_equal(name: str, rule: str, eta: float, plan: str) -> None:
    wanted = theirs("sample_dpmpp_2m_sde", SIGMAS[plan], {"eta": eta, "s_noise": 1.1, "solver_type": rule})
    close(ours(name, SIGMAS[plan], {"eta": eta, "s_noise": 1.1}), wanted)


@pytest.mark.parametrize("plan", sorted(set(SIGMAS) - {"one step"}))
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_dpmpp_3m_sde_is_equal_with_its_halved_curvature(eta: float, plan: str) -> None:
    wanted = theirs("sample_dpmpp_3m_sde", SIGMAS[plan], {"eta": eta, "s_noise": 1.1})
    close(ours("dpmpp_3m_sde", SIGMAS[plan], {"eta": eta, "s_noise": 1.1}), wanted)
    assert (ours("adams3_sde", SIGMAS[plan], {"eta": eta, "s_noise": 1.1}) - wanted).abs().max() > 1e-4


@pytest.mark.parametrize("plan", SIGMAS)
@pytest.mark.parametrize("name", ["euler", "heun"])
def test_churn_is_equal(name: str, plan: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # k-diffusion draws from torch's global generator, once per step whether or not it churns.
    calls = iter(range(100))
    monkeypatch.setattr(torch, "randn_like", lambda x: draw(next(calls)))
    options: dict[str, float | str] = {"s_churn": 3.0, "s_tmin": 0.05, "s_tmax": 25.0, "s_noise": 1.003}
    close(ours(name, SIGMAS[plan], options), theirs(f"sample_{name}", SIGMAS[plan], options))


@pytest.mark.parametrize(("grid", "function"), [(karras, "get_sigmas_karras"), (exponential, "get_sigmas_exponential")])
def test_grids_are_equal(grid: Callable[..., list[Level]], function: str) -> None:
    path = vp_scaled_linear()
    for n in (2, 10, 31):
        low, high = path.clock(path.ends[1]), path.clock(path.ends[0])
        wanted = getattr(sampling(), function)(n, low, high).double()
        got = torch.tensor([path.clock(level) for level in grid(path, n)], dtype=torch.float64)
        torch.testing.assert_close(got, wanted, rtol=5e-6, atol=0)  # theirs is float32
