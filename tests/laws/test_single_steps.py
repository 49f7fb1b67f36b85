"""Laws of single-step samplers beside the common ones: identities, orders across a grid, steps of their own."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import cycle, pairwise

import pytest
import torch
from torch import Tensor

from safelight.core.path import CLEAN, EDM, VP, Flow, Level, Path, vp_scaled_linear
from safelight.core.samplers.row import Options
from safelight.core.samplers.runge_kutta import joined
from safelight.core.samplers.table import SAMPLERS
from safelight.core.schedule import karras, trailing
from safelight.errors import PredictionError, RequestError
from tests.laws.measure import VE_PATH, spread_error
from tests.laws.world import Mixture, answer, geometric, silent, slopes

WORLD = Mixture()
START = torch.linspace(-2, 2, 9, dtype=torch.float64)
FLOW_LEVELS = [Flow().at_clock(clock) for clock in (1.0, 0.93, 0.7, 0.66, 0.3, 0.05, 0.0)]


def noise(s: Level, t: Level) -> Tensor:
    """Some tensor that is a function of the step."""
    place = 3.0 * t.sigma / (t.alpha + t.sigma) + s.sigma / (s.alpha + s.sigma)
    return torch.sin(20.0 * place + torch.arange(9, dtype=torch.float64))


def drawn(name: str, path: Path, levels: list[Level], options: Options | None = None) -> Tensor:
    """What a row makes of START with ``noise``."""
    return answer(SAMPLERS[name].bind(path, options)(START * levels[0].sigma, levels, noise), WORLD.denoise)


def ode_error(name: str, levels: list[Level], options: Options | None = None) -> float:
    start = WORLD.points(levels[0])
    out = answer(SAMPLERS[name].bind(VE_PATH, options)(start, levels, silent), WORLD.denoise)
    return (out - WORLD.flow(start, levels[0], levels[-1])).abs().max().item()


def same(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


# Identities


@pytest.mark.parametrize("path", [vp_scaled_linear(), EDM()])
def test_dpm_2_is_dpm_solver_2_where_the_clock_is_sigma_over_alpha(path: Path) -> None:
    levels = karras(path, 7)
    same(drawn("dpm_2", path, levels), drawn("dpm_solver_2", path, levels))


@pytest.mark.parametrize("path", [vp_scaled_linear(), EDM(), Flow()])
def test_what_adds_no_noise_is_its_base(path: Path) -> None:
    levels = karras(path, 7)
    for name, base in (
        ("euler_ancestral", "euler"),
        ("dpm_2_ancestral", "dpm_2"),
        ("dpmpp_2s_ancestral", "dpmpp_2s"),
        ("dpmpp_sde", "dpmpp_2s"),
        ("seeds_2", "dpmpp_2s"),
    ):
        same(drawn(name, path, levels, {"eta": 0.0}), drawn(base, path, levels))


@pytest.mark.parametrize("eta", [0.4, 1.0])
def test_ancestral_euler_is_ddim_with_eta_but_not_on_a_flow_path(eta: float) -> None:
    vp = vp_scaled_linear()
    a, b = (drawn(name, vp, karras(vp, 6), {"eta": eta}) for name in ("euler_ancestral", "ddpm"))
    same(a, b)
    a, b = (drawn(name, Flow(), FLOW_LEVELS[:-1], {"eta": eta}) for name in ("euler_ancestral", "ddpm"))
    assert (a - b).abs().max() > 1e-3


def test_seeds_2_is_dpmpp_sde_whose_noise_is_read_off_one_path() -> None:
    levels = karras(VE_PATH, 6)[:-1]
    ends = [lam for s, t in pairwise(levels) for lam in (s.lam, (s.lam + t.lam) / 2)] + [levels[-1].lam]
    path = torch.randn(1, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for i, (a, b) in enumerate(pairwise(ends)):
        fresh = torch.randn(1, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(i + 1))
        path = torch.cat([path, math.exp(a - b) * path[-1:] + math.sqrt(-math.expm1(2 * (a - b))) * fresh])

    def nested(s: Level, t: Level) -> Tensor:
        a, b = (path[min(range(len(ends)), key=lambda i: abs(ends[i] - level.lam))] for level in (s, t))
        h = t.lam - s.lam
        return (b - math.exp(-h) * a) / math.sqrt(-math.expm1(-2 * h))

    seeds, sde = (
        answer(SAMPLERS[name].bind(VE_PATH)(START * 80, levels, nested), WORLD.denoise)
        for name in ("seeds_2", "dpmpp_sde")
    )
    same(seeds, sde)


def test_singlestep_of_order_2_is_2s_on_every_second_level() -> None:
    fine = [VE_PATH.at(-2.0 + 0.5 * i) for i in range(9)]
    same(drawn("dpm_singlestep", VE_PATH, fine), drawn("dpmpp_2s", VE_PATH, fine[::2]))


def test_singlestep_of_order_1_is_euler_and_has_no_rule() -> None:
    levels = karras(VE_PATH, 7)
    with pytest.raises(RequestError, match="does nothing at order 1"):
        drawn("dpm_singlestep", VE_PATH, levels, {"order": 1, "rule": "heun"})
    same(drawn("dpm_singlestep", VE_PATH, levels, {"order": 1}), drawn("euler", VE_PATH, levels))


def test_the_noises_of_parts_join_to_a_unit_normal() -> None:
    stops = [VE_PATH.at(lam) for lam in (-1.0, -0.2, 0.1, 0.9)]
    for eta in (0.3, 1.0, 2.0):
        assert joined(stops, list(torch.eye(3, dtype=torch.float64)), eta).norm().item() == pytest.approx(
            1.0, abs=1e-14
        )


# The rule of rectified flow


def rectified(name: str, levels: list[Level], eta: float) -> Tensor:
    """The ancestral samplers of flow models, written in sigma alone: slopes (x - x0) / sigma, alpha = 1 - sigma."""
    x, path = START * levels[0].sigma, Flow()

    def slope(x: Tensor, sigma: float) -> Tensor:
        return (x - WORLD.denoise(x, path.at_clock(sigma))) / sigma

    for s, t in pairwise([level.sigma for level in levels]):
        down = t * (1.0 + (t / s - 1.0) * eta)
        d = slope(x, s)
        middle = s
        if name == "dpm_2_ancestral" and down > 0.0:
            middle = math.sqrt(s * down)
        if name == "dpmpp_2s_ancestral" and down > 0.0 and s < 1.0:
            odds = math.sqrt((1.0 - s) / s * (1.0 - down) / down)
            middle = 1.0 / (1.0 + odds)
        if middle != s:
            y = x + d * (middle - s)
            d = slope(y, middle)
            if name == "dpmpp_2s_ancestral":  # what was seen counts, not the slope
                d = (x - (y - middle * d)) / s
        x = x + d * (down - s)
        if t > 0.0:
            keep = (1.0 - t) / (1.0 - down)
            x = keep * x + math.sqrt(t**2 - (keep * down) ** 2) * noise(path.at_clock(s), path.at_clock(t))
    return x


@pytest.mark.parametrize("eta", [0.3, 1.0])
@pytest.mark.parametrize("name", ["euler_ancestral", "dpm_2_ancestral", "dpmpp_2s_ancestral"])
def test_on_a_flow_path_ancestral_samplers_follow_its_own_rule(name: str, eta: float) -> None:
    same(drawn(name, Flow(), FLOW_LEVELS, {"eta": eta}), rectified(name, FLOW_LEVELS, eta))


@pytest.mark.parametrize("name", ["euler_ancestral", "dpm_2_ancestral", "dpmpp_2s_ancestral", "dpmpp_sde", "seeds_2"])
def test_mean_and_variance_converge_on_a_flow_path(name: str) -> None:
    path, errors = Flow(), []
    for n in (64, 128, 256):
        levels = [path.at(-3.0 + 5.0 * i / n) for i in range(n + 1)]
        errors.append(spread_error(SAMPLERS[name], levels, path))
    assert all(abs(slope - SAMPLERS[name].order) < 0.3 for slope in slopes(errors)), (slopes(errors), errors)


def test_more_noise_than_there_is_leaves_the_prediction_and_fresh_noise() -> None:
    levels = FLOW_LEVELS[1:3]
    out = drawn("euler_ancestral", Flow(), levels, {"eta": 10.0})
    x0 = WORLD.denoise(START * levels[0].sigma, levels[0])
    same(out, levels[1].alpha * x0 + levels[1].sigma * noise(*levels))


@pytest.mark.parametrize("name", ["dpm_2_ancestral", "dpmpp_2s_ancestral"])
def test_eta_above_one_is_refused_where_a_step_looks_twice(name: str) -> None:
    with pytest.raises(RequestError, match="between 0 and 1"):
        drawn(name, VE_PATH, karras(VE_PATH, 3), {"eta": 1.1})


# Noise


def test_dpmpp_sde_is_of_order_one_where_overlapping_noises_are_independent() -> None:
    row = replace(SAMPLERS["dpmpp_sde"], noise="fresh")
    errors = [spread_error(row, geometric(20.0, 0.1, n), VE_PATH) for n in (64, 128, 256)]
    assert all(abs(slope - 1.0) < 0.3 for slope in slopes(errors)), errors


def test_seeds_3_without_noise_is_of_order_three() -> None:
    errors = [ode_error("seeds_3", geometric(20.0, 0.1, n), {"eta": 0.0}) for n in (32, 64, 128)]
    assert all(abs(slope - 3.0) < 0.3 for slope in slopes(errors)), errors


# Heun++


@pytest.mark.parametrize("path", [EDM(), Flow()])
def test_heunpp2_weighs_slopes_by_their_level(path: Path) -> None:
    levels = FLOW_LEVELS if isinstance(path, Flow) else karras(path, 6)
    x, clocks = START * levels[0].sigma, [path.clock(level) for level in levels]

    def slope(x: Tensor, i: int) -> Tensor:
        return (x - WORLD.denoise(x, levels[i])) / clocks[i]

    for i in range(len(levels) - 1):
        looks = min(3, len(levels) - 1 - i)
        y, seen = x, []
        for j in range(i, i + looks):
            seen.append(slope(y, j))
            y = y + (clocks[j + 1] - clocks[j]) * seen[-1]
        shares = [clocks[i + j] / (looks * clocks[0]) for j in range(1, looks)]
        shares = [1.0 - sum(shares), *shares]
        x = x + (clocks[i + 1] - clocks[i]) * sum(share * d for share, d in zip(shares, seen))
    same(drawn("heunpp2", path, levels), x)


def test_heunpp2_asks_three_times_a_step_but_in_the_last_two() -> None:
    for n in range(2, 9):
        assert SAMPLERS["heunpp2"].evaluations(karras(VE_PATH, n), VE_PATH) == 3 * n - 3


# Steps across a grid, and without one


def group_slopes(order: int, rule: str, *inner: float) -> list[float]:
    """Local orders of a group of ``dpm_singlestep`` whose grid lies at these parts of it."""
    errors = []
    for halving in range(5):
        levels = [VE_PATH.at(-math.log(2.0) + 0.4 / 2**halving * part) for part in (0.0, *inner, 1.0)]
        errors.append(ode_error("dpm_singlestep", levels, {"order": order, "rule": rule}))
    return slopes(errors)[-2:]


@pytest.mark.parametrize("rule", ["midpoint", "heun"])
def test_a_group_of_singlestep_is_one_step_of_its_order(rule: str) -> None:
    assert all(abs(slope - 3) < 0.3 for slope in group_slopes(2, rule, 0.6))
    assert all(abs(slope - 4) < 0.3 for slope in group_slopes(3, rule, 1 / 3, 2 / 3))
    for order in (2, 3):
        options: Options = {"order": order, "rule": rule}
        errors = [ode_error("dpm_singlestep", geometric(20.0, 0.1, n), options) for n in (36, 72, 144)]
        assert all(abs(slope - order) < 0.3 for slope in slopes(errors)), (slopes(errors), errors)


@pytest.mark.parametrize("rule", ["midpoint", "heun"])
def test_on_a_grid_that_is_uneven_in_lam_singlestep_of_order_three_has_order_two(rule: str) -> None:
    # The third look must be at two thirds of the group for order 3, and diffusers' class takes the grid as it is.
    assert all(abs(slope - 3) < 0.3 for slope in group_slopes(3, rule, 0.3, 0.75))


def test_dpm_fast_converges_at_least_at_its_order() -> None:
    # One more step than a multiple of three ends with a step of order 1, a multiple with 2 and 1.
    for counts in ((33, 66, 132), (34, 67, 133)):
        errors = [ode_error("dpm_fast", geometric(20.0, 0.1, n)) for n in counts]
        assert all(slope > SAMPLERS["dpm_fast"].order - 0.3 for slope in slopes(errors)), (slopes(errors), errors)
        assert errors[-1] < 3e-4, errors


@pytest.mark.parametrize("name", ["dpm_fast", "dpm_adaptive"])
@pytest.mark.parametrize("path", [vp_scaled_linear(), EDM(), Flow()])
def test_only_the_ends_of_the_grid_are_looked_at(name: str, path: Path) -> None:
    levels = karras(path, 6)
    moved = [path.at(level.lam + 0.1) if 1 < i < 5 else level for i, level in enumerate(levels)]
    assert moved != levels
    assert torch.equal(drawn(name, path, levels), drawn(name, path, moved))


@pytest.mark.parametrize("path", [vp_scaled_linear(), Flow()])
def test_dpm_fast_asks_as_often_as_the_grid_has_steps(path: Path) -> None:
    for n in range(1, 12):
        for levels in (trailing(path, n), trailing(path, n + 1)[:-1], trailing(path, n + 1)[1:]):
            asked: list[Level] = []

            def denoise(x: Tensor, level: Level, asked: list[Level] = asked) -> Tensor:
                asked.append(level)
                return WORLD.denoise(x, level)

            out = answer(SAMPLERS["dpm_fast"].bind(path)(START * levels[0].sigma, levels, silent), denoise)
            assert len(asked) == len(levels) - 1
            assert torch.isfinite(out).all()


# Adaptive steps


def adapted(path: Path, options: Options, start: Tensor | None = None) -> tuple[Tensor, list[tuple[Tensor, Level]]]:
    """The end of an adaptive run between two levels, and all that it asked."""
    levels = [path.at(-2.5), path.at(2.3)]
    asked: list[tuple[Tensor, Level]] = []

    def denoise(x: Tensor, level: Level) -> Tensor:
        asked.append((x.clone(), level))
        return WORLD.denoise(x, level)

    start = WORLD.points(levels[0]) if start is None else start
    return answer(SAMPLERS["dpm_adaptive"].bind(path, options)(start, levels, silent), denoise), asked


@pytest.mark.parametrize("order", [2, 3])
@pytest.mark.parametrize("path", [vp_scaled_linear(), EDM(), Flow()])
def test_a_smaller_tolerance_asks_more_and_errs_less(path: Path, order: int) -> None:
    start, end, counts, errors = WORLD.points(path.at(-2.5)), path.at(2.3), [], []
    for rtol in (0.2, 0.05, 0.01, 0.002, 0.0004):
        out, asked = adapted(path, {"rtol": rtol, "atol": 0.1 * rtol, "order": order})
        counts.append(len(asked))
        errors.append((out - WORLD.flow(start, path.at(-2.5), end)).abs().max().item())
    assert counts == sorted(counts) and counts[0] < counts[-1], counts
    assert errors == sorted(errors, reverse=True), errors
    assert errors[-1] < 0.0004


def test_nothing_is_asked_twice_though_steps_are_tried_again() -> None:
    _, asked = adapted(VE_PATH, {"rtol": 0.001, "atol": 0.0001})
    levels = [level for _, level in asked]
    starts = [level for level in levels if sum(later == level for later in levels) > 1]
    assert starts == [], "a step that was rejected asked again where it started"
    assert any(b.lam < a.lam for a, b in pairwise(levels)), "no step was rejected"


def test_a_picture_has_its_own_steps_whatever_its_chart() -> None:
    # Two pictures in one state have other steps than each alone: the driver keeps them apart.
    alone, asked = adapted(EDM(), {"rtol": 0.01})
    vp: VP = vp_scaled_linear()
    start = WORLD.points(EDM().at(-2.5)) * vp.at(-2.5).alpha
    moved, also = adapted(vp, {"rtol": 0.01}, start)
    same(moved / vp.at(2.3).alpha, alone)
    assert [round(level.lam, 9) for _, level in asked] == [round(level.lam, 9) for _, level in also]


@pytest.mark.parametrize("options", [{"rtol": 0.0}, {"rtol": -0.1}, {"atol": 0.0}, {"atol": -1.0}])
def test_a_tolerance_of_nothing_is_refused(options: dict[str, float]) -> None:
    with pytest.raises(RequestError, match="tol of dpm_adaptive must lie between"):
        SAMPLERS["dpm_adaptive"].bind(VE_PATH, options)


@pytest.mark.parametrize("order", [1, 4])
def test_an_order_that_there_is_not_is_refused(order: int) -> None:
    with pytest.raises(RequestError, match="is 2 or 3"):
        adapted(VE_PATH, {"order": order})
    if order > 3:
        with pytest.raises(RequestError, match="1, 2 or 3"):
            drawn("dpm_singlestep", VE_PATH, karras(VE_PATH, 3), {"order": order})


def test_what_a_number_format_cannot_keep_to_ends_in_words_and_not_in_a_loop() -> None:
    levels = [VE_PATH.at(-2.5), VE_PATH.at(2.3)]
    run = SAMPLERS["dpm_adaptive"].bind(VE_PATH, {"rtol": 1e-9, "atol": 1e-9})
    moods = cycle((1.0, -1.0, 0.5))
    with pytest.raises(RequestError, match="float32; raise them"):
        answer(run(torch.linspace(-20, 20, 9), levels, silent), lambda x, _: next(moods) * torch.ones_like(x))
    with pytest.raises(PredictionError, match="not a number"):
        answer(run(START, levels, silent), lambda x, _: x * math.nan)


def test_adaptive_between_equal_ends_knows_how_often_it_asks() -> None:
    row = SAMPLERS["dpm_adaptive"]
    for levels in ([VE_PATH.at(0.0), CLEAN], [CLEAN], [Flow().level(1000), CLEAN]):
        assert row.evaluations(levels, VE_PATH) == len(levels) - 1
    assert row.evaluations(karras(VE_PATH, 2), VE_PATH) is None
