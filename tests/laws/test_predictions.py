"""Laws of what networks predict."""

from __future__ import annotations

import math

import pytest
import torch

from safelight.core.path import CLEAN, Level
from safelight.core.prediction import KINDS, denoised, denoised_rows, noised, said, target
from safelight.errors import PredictionError, UnknownNameError
from tests.laws.world import PATHS

torch.manual_seed(0)
X0, EPS = torch.randn(5, 3, 2, dtype=torch.float64), torch.randn(5, 3, 2, dtype=torch.float64)


def levels(name: str) -> list[Level]:
    return [PATHS[name].trained(k) for k in (0, 100, 500, 900, 999)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", sorted(PATHS))
def test_a_perfect_network_gives_the_picture_back(kind: str, name: str) -> None:
    five = levels(name)
    if kind == "eps":
        five = [level if level.alpha else PATHS[name].trained(700) for level in five]
    x = noised(X0, EPS, five)
    got = denoised_rows(kind, x, target(kind, X0, EPS, five), five)
    torch.testing.assert_close(got, X0, rtol=0, atol=1e-9 if kind == "eps" else 1e-11)


@pytest.mark.parametrize("kind", KINDS)
def test_the_way_back_inverts_the_conversion(kind: str) -> None:
    for level in levels("scaled linear") + [Level(0.0, 1.0, 999.0)] * (kind != "eps"):
        torch.testing.assert_close(said(kind, EPS, denoised(kind, EPS, X0, level), level), X0, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_among_strangers_has_the_bits_it_has_alone(kind: str) -> None:
    five, x, out = levels("scaled linear"), torch.randn(5, 4, 8, 8), torch.randn(5, 4, 8, 8)
    together = denoised_rows(kind, x, out, five)
    assert together.dtype == torch.float32
    for i, level in enumerate(five):
        assert torch.equal(together[i : i + 1], denoised(kind, x[i : i + 1], out[i : i + 1], level))


def test_velocities_are_what_the_papers_say() -> None:
    level = PATHS["scaled linear"].level(400)
    torch.testing.assert_close(target("v", X0, EPS, [level] * 5), level.alpha * EPS - level.sigma * X0)
    torch.testing.assert_close(target("flow", X0, EPS, [level] * 5), EPS - X0)
    torch.testing.assert_close(target("eps", X0, EPS, [level] * 5), EPS)


def test_the_edm_network_has_karras_preconditioning() -> None:
    sigma, sigma_data, x, out = 3.0, 0.5, EPS, X0
    skip = sigma_data**2 / (sigma**2 + sigma_data**2)
    scale = sigma * sigma_data / math.hypot(sigma, sigma_data)
    torch.testing.assert_close(denoised("edm", x, out, Level(1.0, sigma), sigma_data), skip * x + scale * out)


def test_an_eps_network_is_refused_at_pure_noise_and_nothing_else_is() -> None:
    noise = Level(0.0, 1.0, 999.0)
    with pytest.raises(PredictionError, match="signal is zero"):
        denoised("eps", EPS, X0, noise)
    for kind in ("edm", "flow", "v", "x0"):
        assert torch.isfinite(denoised(kind, EPS, X0, noise)).all()
        assert torch.isfinite(denoised(kind, EPS, X0, CLEAN)).all()


def test_an_unknown_kind_is_named() -> None:
    with pytest.raises(UnknownNameError, match="prediction 'noise'"):
        denoised("noise", EPS, X0, CLEAN)
