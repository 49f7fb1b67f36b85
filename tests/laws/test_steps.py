"""Laws of the two primitives and of the weight rule."""

from __future__ import annotations

import math

import pytest
import torch

from safelight.core.path import CLEAN, Level
from safelight.core.steps import blend, move, ratio, renoise, weights
from tests.laws.world import PATHS

X0, EPS, Z = torch.randn(3, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
PAIRS = [(999, 700), (700, 699.5), (500, 10), (10, 0)]


@pytest.mark.parametrize("name", sorted(PATHS))
@pytest.mark.parametrize("pair", PAIRS)
def test_a_move_with_the_true_picture_stays_on_the_path(name: str, pair: tuple[float, float]) -> None:
    s, t = (PATHS[name].trained(k) for k in pair)
    x = s.alpha * X0 + s.sigma * EPS
    torch.testing.assert_close(move(x, X0, s, t), t.alpha * X0 + t.sigma * EPS, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("name", sorted(PATHS))
@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("eta", [0.3, 1.0, 2.0])
def test_a_move_with_noise_keeps_signal_and_variance(name: str, pair: tuple[float, float], eta: float) -> None:
    s, t = (PATHS[name].trained(k) for k in pair)
    zero, one = torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    signal = move(s.alpha * one, one, s, t, eta, zero)
    old, new = move(s.sigma * one, zero, s, t, eta, zero), move(zero, zero, s, t, eta, one)
    assert math.isclose(signal.item(), t.alpha, rel_tol=1e-11, abs_tol=1e-12)
    assert math.isclose(old.item() ** 2 + new.item() ** 2, t.sigma**2, rel_tol=1e-9)
    assert math.isclose(old.item(), t.sigma * ratio(s, t) ** eta, rel_tol=1e-9, abs_tol=1e-15)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_two_moves_are_one_while_the_prediction_stands_still(eta: float) -> None:
    s, middle, t = (PATHS["scaled linear"].level(k) for k in (900, 640, 100))
    zero = torch.zeros_like(X0)
    halves = move(move(EPS, X0, s, middle, eta, zero), X0, middle, t, eta, zero)
    torch.testing.assert_close(halves, move(EPS, X0, s, t, eta, zero), rtol=1e-12, atol=1e-12)


def test_a_move_to_the_clean_end_is_the_prediction_itself() -> None:
    for name in PATHS:
        assert torch.equal(move(EPS, X0, PATHS[name].ends[0], CLEAN), X0)


@pytest.mark.parametrize("name", sorted(PATHS))
@pytest.mark.parametrize("pair", PAIRS)
def test_renoising_keeps_signal_and_variance(name: str, pair: tuple[float, float]) -> None:
    t, s = (PATHS[name].trained(k) for k in pair)
    zero, one = torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    assert math.isclose(renoise(s.alpha * one, s, t, zero).item(), t.alpha, rel_tol=1e-12, abs_tol=1e-15)
    old, new = renoise(s.sigma * one, s, t, zero).item(), renoise(zero, s, t, one).item()
    assert math.isclose(old**2 + new**2, t.sigma**2, rel_tol=1e-12)


@pytest.mark.parametrize("k", [-1.0, 0.0, 1.0, 2.0])
@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_the_weight_rule_is_exact_for_polynomials(k: float, order: int) -> None:
    nodes, (a, b) = [0.3, -0.1, -0.8, -1.1][:order], (0.3, 1.2)
    n = 20_000
    midpoints = [a + (b - a) * (i + 0.5) / n for i in range(n)]
    masses = [math.exp(k * (u - b)) for u in midpoints]
    got = weights(nodes, a, b, k)
    assert math.isclose(sum(got), 1.0, rel_tol=1e-12)
    for power in range(order):
        exact = sum(m * u**power for m, u in zip(masses, midpoints)) / sum(masses)
        assert math.isclose(sum(w * u**power for w, u in zip(got, nodes)), exact, rel_tol=1e-7, abs_tol=1e-9)


def test_without_an_exponent_the_weights_are_those_of_adams_and_bashforth() -> None:
    for got, wanted in zip(weights([0.0, -1.0, -2.0], 0.0, 1.0, 0.0), (23 / 12, -16 / 12, 5 / 12)):
        assert math.isclose(got, wanted, rel_tol=1e-12)


def test_over_an_infinite_step_only_the_newest_prediction_counts() -> None:
    assert blend([(0.3, X0), (0.1, EPS)], 0.3, math.inf, 1.0) is X0
    assert blend([(0.3, X0), (-math.inf, EPS)], 0.3, 0.5, 1.0) is X0
    assert blend([(-math.inf, X0)], -math.inf, 0.5, 1.0) is X0


def test_the_ratio_of_a_step_is_finite_at_both_ends() -> None:
    noise, some = Level(0.0, 1.0, 999.0), Level(0.6, 0.8, 500.0)
    assert ratio(noise, some) == 0.0
    assert ratio(some, CLEAN) == 0.0
    assert ratio(noise, CLEAN) == 0.0
    assert ratio(some, some) == 1.0
