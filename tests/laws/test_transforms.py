"""Laws of what may be done to a list of levels, and of lists that a user writes down."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import pytest

from safelight.core.path import CLEAN, EDM, VE, VP, Flow, Level, vp_scaled_linear
from safelight.core.schedule import SCHEDULES, start
from safelight.core.schedules import transforms
from safelight.core.schedules.row import falling
from safelight.core.schedules.tables import custom, is_list, written
from safelight.errors import RequestError, UnknownNameError
from tests.laws.world import PATHS

SD, FLOW = vp_scaled_linear(), Flow()


def near(a: list[Level], b: list[Level], tolerance: float = 1e-9) -> bool:
    return len(a) == len(b) and all(
        math.isclose(x, y, rel_tol=tolerance, abs_tol=tolerance) for p, q in zip(a, b) for x, y in zip(p, q)
    )


def test_strength_keeps_the_last_steps_as_diffusers_counts_them() -> None:
    levels = SCHEDULES["trailing"](vp_scaled_linear(), 20)
    for strength in (0.05, 0.3, 0.55, 0.75, 0.8, 0.999, 1.0):
        assert start(levels, strength) == levels[20 - min(int(20 * strength), 20) :]
    assert start(levels, 1.0) == levels
    for strength in (0.0, 0.04, -0.1, 1.1, math.nan):
        with pytest.raises(RequestError, match="strength"):
            start(levels, strength)


@pytest.mark.parametrize("name", sorted(PATHS))
def test_a_shift_moves_every_level_by_its_logarithm_on_every_path(name: str) -> None:
    path = PATHS[name]
    levels = SCHEDULES["karras"](path, 7)
    for factor in (0.3, 1.0, 2.5):
        moved = transforms.shift(path, levels, factor)
        for before, after in zip(levels, moved):
            assert after.lam == before.lam or math.isclose(after.lam, before.lam - math.log(factor), abs_tol=1e-9)
        assert near(transforms.shift(path, transforms.shift(path, levels, factor), 1 / factor), levels, 1e-7) or (
            name not in ("flow", "flow shifted")
        )


def test_shifts_multiply_and_those_of_a_flow_are_its_formula() -> None:
    levels = SCHEDULES["even"](FLOW, 10)
    twice = transforms.shift(FLOW, transforms.shift(FLOW, levels, 2.0), 1.5)
    assert near(twice, transforms.shift(FLOW, levels, 3.0))
    for before, after in zip(levels, transforms.shift(FLOW, levels, 3.0)):
        assert math.isclose(after.sigma, 3 * before.sigma / (1 + 2 * before.sigma), abs_tol=1e-12)


def test_a_shift_that_is_asked_for_replaces_a_flows_own() -> None:
    for plan in ("even", "sgm_uniform", "simple"):
        wanted = SCHEDULES[plan](Flow(shift=3.0), 12)
        assert near(SCHEDULES[plan](FLOW, 12, {"shift": 3.0}), wanted)
        assert near(SCHEDULES[plan](Flow(shift=1.7), 12, {"shift": 3.0}), wanted)
        assert SCHEDULES[plan](Flow(shift=3.0), 12, {"shift": 3.0}) == wanted


def test_the_last_levels_of_a_shifted_flow_are_those_of_the_formula_once() -> None:
    # shift = 3, 28 steps: other programs end at 0.009 where they shift the cleanest row twice, and at 0.103.
    def shifted(sigma: float) -> float:
        return 3 * sigma / (1 + 2 * sigma)

    path = Flow(shift=3.0)
    assert math.isclose(SCHEDULES["linspace"](path, 28)[-2].sigma, shifted(1e-3), rel_tol=1e-9)
    assert round(shifted(1e-3), 3) == 0.003 and round(shifted(shifted(1e-3)), 3) == 0.009
    assert round(SCHEDULES["sgm_uniform"](path, 28)[-2].sigma, 3) == 0.103


def test_dynamic_mu_is_a_line_through_its_ends() -> None:
    assert transforms.dynamic_mu(256) == 0.5
    assert math.isclose(transforms.dynamic_mu(4096), 1.15)
    assert math.isclose(transforms.dynamic_mu(2176), 0.825)
    with pytest.raises(RequestError, match="one token or more"):
        transforms.dynamic_mu(0)


@pytest.mark.parametrize("n", range(1, 101))
def test_a_stretched_schedule_ends_at_its_terminal_and_is_finite_with_one_step(n: int) -> None:
    levels = SCHEDULES["even"](FLOW, n, {"shift": 2.0, "terminal": 0.1})
    assert len(levels) == n + 1 and levels[0].sigma == 1.0 and levels[-1] == CLEAN
    assert all(math.isfinite(value) for level in levels for value in level)
    if n > 1:
        assert math.isclose(levels[-2].sigma, 0.1)
    assert all(a.lam < b.lam for a, b in pairwise(levels))


@pytest.mark.parametrize("plan", ["sgm_uniform", "trailing", "simple", "even"])
def test_a_last_level_may_keep_noise(plan: str) -> None:
    levels = SCHEDULES[plan](SD, 9, {"last": "0.05"})
    assert len(levels) == 10 and math.isclose(SD.clock(levels[-1]), 0.05)
    assert levels[:-1] == SCHEDULES[plan](SD, 9)[:-1]
    assert SCHEDULES[plan](SD, 9, {"last": "trained"})[-1] == SD.ends[1]


def test_a_grid_with_one_level_spare_may_end_in_noise() -> None:
    # n even parts of the angle with the cleanest level as the end: what A1111 calls "KL Optimal".
    levels = SCHEDULES["kl_optimal"](SD, 8, {"spare": 1.0, "last": "trained"})
    low, high = (math.atan(SD.clock(end)) for end in reversed(SD.ends))
    for i, level in enumerate(levels):
        assert math.isclose(SD.clock(level), math.tan(i / 8 * low + (1 - i / 8) * high), rel_tol=1e-9)


def test_a_schedule_begins_where_it_is_told() -> None:
    whole = SCHEDULES["karras"](SD, 20)
    levels = SCHEDULES["karras"](SD, 20, {"first": 3.0})
    assert math.isclose(SD.clock(levels[0]), 3.0)
    assert levels[1:] == [level for level in whole if SD.clock(level) < 3.0]
    assert transforms.start_at(whole, whole[4]) == whole[4:]
    for wrong in (SD.at_clock(20.0), CLEAN):
        with pytest.raises(RequestError, match="outside the schedule"):
            transforms.start_at(whole, wrong)


def test_a_moved_path_keeps_its_labels_and_its_pure_noise() -> None:
    for path in (SD, PATHS["zero snr"], Flow()):
        moved = transforms.moved(path, 2.0)
        for k in (0, 10, 500, 998):
            assert math.isclose(moved.trained(k).lam, path.trained(k).lam - math.log(2.0), abs_tol=1e-9)
    assert transforms.moved(SD, 2.0).trained(10).t == 10
    assert transforms.moved(PATHS["zero snr"], 2.0).ends[0] == Level(0.0, 1.0, 999.0)
    assert transforms.moved(Flow(2.0), 1.5) == Flow(3.0)
    for path, factor in ((SD, 0.0), (SD, math.nan), (EDM(), 2.0)):
        with pytest.raises(RequestError, match="shift"):
            transforms.moved(path, factor)


def test_a_path_moved_in_growing_parts_stays_at_its_clean_end_and_goes_all_the_way_at_the_other() -> None:
    grown = transforms.moved(SD, math.sqrt(8.0), growing=True)
    assert isinstance(grown, VP) and isinstance(SD, VP)
    for k in (0, 1, 250, 500, 998, 999):
        # exp(log(snr) (1 - w) + log(snr / 8) w), as MV-Adapter's scheduler has it; snr = exp(2 lam)
        lam, w = SD.level(k).lam, k / 999
        snr = math.exp(2.0 * lam * (1.0 - w) + (2.0 * lam - math.log(8.0)) * w)
        assert math.isclose(grown.alphas_cumprod[k], snr / (1.0 + snr), rel_tol=1e-12)
        assert grown.level(k).t == k
    assert math.isclose(grown.alphas_cumprod[0], SD.alphas_cumprod[0], rel_tol=1e-14)
    assert transforms.moved(PATHS["zero snr"], 2.0, growing=True).ends[0] == Level(0.0, 1.0, 999.0)
    for path, factor, told in ((Flow(), 2.0, "growing"), (SD, 1e-300, "must fall"), (SD, math.inf, "above 0")):
        with pytest.raises(RequestError, match=told):
            transforms.moved(path, factor, growing=True)


def test_written_lists_are_read() -> None:
    levels = custom(SD, "14.6, 7.1,2.6, 0.5, 0")
    assert [round(SD.clock(level), 9) for level in levels] == [14.6, 7.1, 2.6, 0.5, 0]
    assert levels == custom(SD, "sigmas: 14.6,7.1,2.6,0.5,0") and levels[-1] == CLEAN
    assert custom(SD, "14.615,2,0")[0] == SD.ends[0], "published numbers are rounded"
    assert custom(SD, "2,0.1")[-1].sigma > 0
    asked = custom(SD, "timesteps: 999, 700.5, 100")
    assert [level.t for level in asked[:-1]] == [999, 700.5, 100] and asked[-1] == CLEAN
    assert [level.sigma for level in custom(FLOW, "1,0.7,0.2,0")] == [1, 0.7, 0.2, 0]
    assert custom(SD, "levels: 0.6 0.8 400, 0.8 0.6 200.5, 1 0 0") == [
        Level(0.6, 0.8, 400.0),
        Level(0.8, 0.6, 200.5),
        CLEAN,
    ]


@pytest.mark.parametrize("name", sorted(PATHS))
def test_a_list_is_written_and_read_to_the_last_bit(name: str) -> None:
    for plan in ("karras", "beta", "trailing"):
        levels = SCHEDULES[plan](PATHS[name], 13)
        assert is_list(written(levels))
        assert custom(PATHS[name], written(levels)) == levels


def test_names_are_not_taken_for_lists() -> None:
    for row in SCHEDULES.values():
        assert not any(map(is_list, (row.name, *row.names.all)))


LISTS = {
    "": "not a number",
    "14,": "'' in a list of levels is not a number",
    "14,nan,0": "'nan' in a list of levels is not a number",
    "inf,1,0": "is not a number",
    "14 2,0": "is not a number",
    "14": "two levels or more",
    "0": "two levels or more",
    "1,2,0": "noise must fall",
    "2,2,0": "noise must fall",
    "2,0,0": "noise must fall",
    "20,1,0": "not between 0 and 14.6146",
    "2,-1": "not between 0 and",
    "timesteps: 1000,1": "outside 0..999",
    "timesteps: -1,-2": "outside 0..999",
    "timesteps: 5,9": "noise must fall",
    "timestep: 5,1": "nearest known: timesteps",
    "levels: 1 2, 1 0 0": "not 3 numbers",
    "levels: 0.01 1 999, 1 0 0": "knows at most",
    "levels: -1 1 999, 1 0 0": "not below 0",
    "levels: 0.6 0.8 4, 0.8 0.6 4, 1 0 0": "by one name",
    "levels: 0.5 0.5 400, 0.9 0.44 100, 1 0 0": "does not lie on this network's path.* alpha is 0.7071",
    "levels: 1 1.33 400, 0.9 0.44 100, 1 0 0": "alpha is 0.601 and its sigma 0.7993",
    "levels: 0.6 0.8 400, 0.9 0.44 100, 0.5 0 0": "alpha is 1 and its sigma 0",
    "levels: 1e-320 1e308 999, 1 0 0": "does not lie on",
}


@pytest.mark.parametrize("text", LISTS)
def test_lists_that_cannot_be_walked_are_refused(text: str) -> None:
    with pytest.raises((RequestError, UnknownNameError), match=LISTS[text]):
        custom(SD, text)


REFUSED: dict[str, tuple[Callable[[], object], str]] = {
    "no shift": (lambda: transforms.shift(SD, SCHEDULES["karras"](SD, 4), 0.0), "above 0"),
    "shift beyond training": (lambda: SCHEDULES["karras"](SD, 4, {"shift": 3.0}), "begin there or below"),
    "terminal off a flow": (lambda: SCHEDULES["karras"](SD, 4, {"terminal": 0.1}), "no flow"),
    "terminal of nothing": (lambda: transforms.stretch_terminal(FLOW, [Level(0, 1, 1), CLEAN], 1.0), "between 0 and 1"),
    "last above": (lambda: SCHEDULES["karras"](SD, 4, {"last": "2.0"}), "lies not below the level before"),
    "last the same": (lambda: SCHEDULES["karras"](SD, 4, {"last": "trained"}), "spare=1"),
    "last a word": (lambda: SCHEDULES["karras"](SD, 4, {"last": "zero"}), "clean, trained or a sigma"),
    "last not a number": (lambda: SCHEDULES["karras"](SD, 4, {"last": "nan"}), "clean, trained or a sigma"),
    "first above": (lambda: SCHEDULES["karras"](SD, 4, {"first": 20.0}), "outside the schedule"),
    "not a number": (lambda: falling(SD, [Level(math.nan, 1.0, 999.0), CLEAN]), "finite numbers"),
    "infinite": (lambda: falling(VE(), [Level(1.0, math.inf, 1.0), CLEAN]), "finite numbers"),
    "no label": (lambda: custom(EDM(), "timesteps: 1000, 1"), "outside -100..100 of the EDM path"),
    "rising": (lambda: falling(SD, [SD.level(3), SD.level(5)]), "noise must fall"),
    "one level": (lambda: falling(SD, [CLEAN]), "two levels or more"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_done_is_refused(case: str) -> None:
    call, told = REFUSED[case]
    with pytest.raises(RequestError, match=told):
        call()
