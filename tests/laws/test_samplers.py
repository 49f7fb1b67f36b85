"""Laws of every row of the table of samplers."""

from __future__ import annotations

import math
from itertools import product

import pytest
import torch

from safelight.core.path import CLEAN, Flow, Level, vp_scaled_linear
from safelight.core.prediction import noised
from safelight.core.samplers.table import SAMPLERS
from safelight.core.schedule import SCHEDULES
from tests.laws.ceilings import CEILING
from tests.laws.exempt import EXEMPT, rows
from tests.laws.measure import VE_PATH, local_errors, ode_errors, spread_errors, still
from tests.laws.world import PATHS, Mixture, answer, silent, slopes

NAMES = sorted(SAMPLERS)
PLANS = ("exponential", "karras", "leading", "linspace", "simple", "trailing")
"""Schedules that between them start at and near pure noise, end with short and long steps, and skip the table's end."""


def independent(s: Level, t: Level) -> torch.Tensor:
    generator = torch.Generator().manual_seed(hash((s, t)) & 0xFFFFFFFF)
    return torch.randn(9, dtype=torch.float64, generator=generator)


def assert_order(law: str, name: str, errors: list[float]) -> None:
    """The errors of runs whose steps double shrink at the declared order, neither slower nor, mostly, faster."""
    for slope in slopes(errors):
        assert slope > SAMPLERS[name].order - 0.3, (slopes(errors), errors)
        if (f"{law} from above", name) not in EXEMPT:
            assert slope < SAMPLERS[name].order + 0.3, (slopes(errors), errors)


@pytest.mark.parametrize("name", rows("constant", NAMES))
def test_a_constant_denoiser_is_solved_exactly(name: str) -> None:
    # x0 = c makes x_t = alpha_t c + (sigma_t / sigma_s)(x_s - alpha_s c): the weights of every step sum to one.
    c, levels = 0.3, [VE_PATH.at_clock(sigma) for sigma in (20.0, 9.0, 5.0, 1.1, 0.4)]
    start = torch.linspace(-40, 40, 9, dtype=torch.float64)
    out = answer(SAMPLERS[name].bind(VE_PATH, still(name))(start, levels, silent), lambda x, _: torch.full_like(x, c))
    torch.testing.assert_close(out, c + 0.4 / 20.0 * (start - c), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", rows("order", NAMES))
def test_the_ode_is_solved_at_the_declared_order(name: str) -> None:
    errors = ode_errors(name, (32, 64, 128))
    assert_order("order", name, errors)
    assert errors[-1] < CEILING[name][0], errors


@pytest.mark.parametrize("name", rows("local order", NAMES))
def test_one_step_from_an_exact_history_has_the_declared_order(name: str) -> None:
    errors = local_errors(name)
    for slope in slopes(errors)[-2:]:
        assert abs(slope - (SAMPLERS[name].rule_order + 1)) < 0.3, (slopes(errors), errors)


@pytest.mark.parametrize("name", rows("spread", NAMES))
def test_mean_and_variance_converge_at_the_declared_order(name: str) -> None:
    errors = spread_errors(name, (64, 128, 256))
    assert_order("spread", name, errors)
    assert errors[-1] < CEILING[name][1], errors


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("road", sorted(PATHS))
def test_few_steps_are_finite_and_end_at_the_last_prediction(name: str, road: str) -> None:
    path, world = PATHS[road], Mixture()
    solver, start = SAMPLERS[name].bind(path), torch.linspace(-2, 2, 9, dtype=torch.float64)
    for plan, n in product(PLANS, range(1, 6)):
        levels, seen = SCHEDULES[plan](path, n), []

        def denoise(x: torch.Tensor, level: Level, seen: list[torch.Tensor] = seen) -> torch.Tensor:
            assert level.sigma > 0
            seen.append(world.denoise(x, level))
            return seen[-1]

        out = answer(solver(start * levels[0].sigma, levels, independent), denoise)
        assert solver.evaluations(levels) in (len(seen), None)
        assert torch.isfinite(out).all()
        if ("end", name) not in EXEMPT:
            assert torch.equal(out, seen[-1])


@pytest.mark.parametrize("name", NAMES)
def test_only_stochastic_rows_ask_for_noise(name: str) -> None:
    levels, asked = SCHEDULES["karras"](VE_PATH, 6), []

    def noise(s: Level, t: Level) -> torch.Tensor:
        asked.append((s, t))
        return independent(s, t)

    answer(SAMPLERS[name].bind(VE_PATH)(torch.ones(9, dtype=torch.float64), levels, noise), Mixture().denoise)
    assert bool(asked) == SAMPLERS[name].stochastic
    assert all(t.sigma > 0 for _, t in asked), "the clean end needs no noise"


@pytest.mark.parametrize("name", rows("chart", NAMES))
@pytest.mark.parametrize("churn", [0.0, 1.5])
def test_the_same_picture_is_drawn_in_every_chart(name: str, churn: float) -> None:
    # A variance-preserving state is a variance-exploding one times alpha; nothing else may change.
    options = {"s_churn": churn} if "s_churn" in SAMPLERS[name].options else {}
    vp, world, results = vp_scaled_linear(), Mixture(), []
    start = torch.linspace(-30, 30, 9, dtype=torch.float64)
    charts = ((VE_PATH, lambda clock: 1.0), (vp, lambda clock: 1.0 / math.hypot(1.0, clock)))
    for path, scale in charts:
        levels = [Level(scale(clock), scale(clock) * clock) for clock in (14.0, 6.0, 3.1, 1.0, 0.3, 0.1)]

        def noise(s: Level, t: Level) -> torch.Tensor:
            return torch.sin(torch.arange(9, dtype=torch.float64) * round(100 * t.sigma / t.alpha))

        out = answer(SAMPLERS[name].bind(path, options)(start * levels[0].alpha, levels, noise), world.denoise)
        results.append(out / levels[-1].alpha)
    torch.testing.assert_close(*results, rtol=1e-12, atol=1e-12)


def test_heun_keeps_its_order_on_a_flow_from_pure_noise_to_the_end() -> None:
    world, path, errors = Mixture(), Flow(), []
    for n in (32, 64, 128):
        levels = [path.at_clock(1.0 - 0.98 * i / n) for i in range(n + 1)]
        start = world.points(levels[0])
        out = answer(SAMPLERS["heun"].bind(path)(start, levels, silent), world.denoise)
        errors.append((out - world.flow(start, levels[0], levels[-1])).abs().max().item())
    assert all(abs(slope - 2) < 0.3 for slope in slopes(errors)), errors


@pytest.mark.parametrize("name", NAMES)
def test_what_is_given_is_left_untouched_and_float32_stays_float32(name: str) -> None:
    path = vp_scaled_linear()
    levels, start = SCHEDULES["leading"](path, 4), torch.linspace(-1, 1, 9)
    kept, list_kept = start.clone(), list(levels)

    def noise(s: Level, t: Level) -> torch.Tensor:
        return independent(s, t).float()

    out = answer(SAMPLERS[name].bind(path)(start, levels, noise), lambda x, _: x * 0.5)
    assert out.dtype == torch.float32
    assert torch.equal(start, kept)
    assert levels == list_kept


@pytest.mark.parametrize("name", rows("device", NAMES))
def test_a_run_stays_on_the_device_of_its_state(name: str) -> None:
    path, shape = vp_scaled_linear(), (1, 4, 8, 8)
    start = torch.empty(shape, device="meta")
    levels = SCHEDULES["karras"](path, 3)
    out = answer(
        SAMPLERS[name].bind(path)(start, levels, lambda s, t: torch.empty(shape, device="meta")), lambda x, _: x
    )
    assert out.device.type == "meta"
    assert out.shape == shape


def test_a_run_of_no_steps_returns_what_it_was_given() -> None:
    start = torch.randn(9, dtype=torch.float64)
    for row in SAMPLERS.values():
        assert torch.equal(answer(row.bind(VE_PATH)(start, [CLEAN], silent), Mixture().denoise), start)


def test_churn_asks_above_the_grid_and_only_between_its_bounds() -> None:
    path = vp_scaled_linear()
    levels = SCHEDULES["karras"](path, 8)
    bounds = {"s_churn": 4.0, "s_tmin": 0.5, "s_tmax": 8.0}
    for name in ("euler", "heun"):
        asked: list[Level] = []

        def denoise(x: torch.Tensor, level: Level, asked: list[Level] = asked) -> torch.Tensor:
            asked.append(level)
            return Mixture().denoise(x, level)

        answer(SAMPLERS[name].bind(path, bounds)(torch.ones(9, dtype=torch.float64), levels, independent), denoise)
        gamma = min(4.0 / 8, math.sqrt(2) - 1)
        for s in levels[:-1]:
            churned = 0.5 <= path.clock(s) <= 8.0
            wanted = path.at_clock(path.clock(s) * (1 + gamma)) if churned else s
            assert any(math.isclose(path.clock(a), path.clock(wanted), rel_tol=1e-12) for a in asked)
            assert any(math.isclose(a.t, wanted.t, abs_tol=1e-6) for a in asked)


def test_noising_rows_matches_the_law_of_the_path() -> None:
    path, x0, eps = vp_scaled_linear(), torch.randn(3, 2, 2), torch.randn(3, 2, 2)
    levels = [path.level(t) for t in (0, 500, 999)]
    for i, level in enumerate(levels):
        assert torch.equal(noised(x0, eps, levels)[i], level.alpha * x0[i] + level.sigma * eps[i])
