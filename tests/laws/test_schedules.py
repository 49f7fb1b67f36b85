"""Laws of every schedule on every path."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest

from safelight.core.path import CLEAN, EDM, Flow, vp_scaled_linear
from safelight.core.schedule import (
    SCHEDULES,
    exponential,
    karras,
    leading_positions,
    linspace_positions,
    start,
    trailing_positions,
)
from safelight.errors import RequestError
from tests.laws.world import PATHS


@pytest.mark.parametrize("plan", sorted(SCHEDULES))
@pytest.mark.parametrize("name", sorted(PATHS))
def test_a_schedule_has_exactly_n_falling_steps_and_ends_clean(plan: str, name: str) -> None:
    for n in range(1, 101):
        levels = SCHEDULES[plan](PATHS[name], n)
        assert type(levels) is list
        assert len(levels) == n + 1
        assert levels[-1] == CLEAN
        assert all(a.lam < b.lam for a, b in pairwise(levels))
        assert all(a.t > b.t for a, b in pairwise(levels[:-1]))


@pytest.mark.parametrize("plan", sorted(set(SCHEDULES) - {"leading"}))
@pytest.mark.parametrize("name", sorted(PATHS))
def test_a_schedule_begins_at_the_noisy_end(plan: str, name: str) -> None:
    for n in (1, 2, 20):
        first, end = SCHEDULES[plan](PATHS[name], n)[0], PATHS[name].ends[0]
        assert all(math.isclose(a, b, rel_tol=1e-12, abs_tol=1e-12) for a, b in zip(first, end))


@pytest.mark.parametrize("plan", sorted(SCHEDULES))
def test_as_many_steps_as_the_table_has_rows_are_allowed_and_no_more(plan: str) -> None:
    path = vp_scaled_linear()
    assert len(SCHEDULES[plan](path, 1000)) == 1001
    with pytest.raises(RequestError, match="steps must lie between 1 and"):
        SCHEDULES[plan](path, 0)
    with pytest.raises(RequestError, match="steps must lie between 1 and"):
        SCHEDULES[plan](path, 10_001)


def test_known_positions() -> None:
    assert leading_positions(1000, 4) == [750, 500, 250, 0]
    assert leading_positions(1000, 4, offset=1) == [751, 501, 251, 1]
    assert leading_positions(1000, 4, spare=True) == [800, 600, 400, 200]
    assert leading_positions(1000, 1000, offset=1)[0] == 999, "an offset never leaves the table"
    assert trailing_positions(1000, 4) == [999, 749, 499, 249]
    assert trailing_positions(1000, 3) == [999, 666, 332]
    assert linspace_positions(1000, 4) == [999, 666, 333, 0]
    assert linspace_positions(1000, 3) == [999, 499.5, 0]
    assert linspace_positions(1000, 3, rounded=True) == [999, 500, 0]
    assert linspace_positions(1000, 3, spare=True) == [999, 666, 333]
    assert linspace_positions(1000, 1) == [999]


def test_karras_is_even_in_the_root_of_sigma_and_exponential_in_its_logarithm() -> None:
    path = EDM()
    roots = [level.sigma ** (1 / 7) for level in karras(path, 10)[:-1]]
    logs = [math.log(level.sigma) for level in exponential(path, 10)[:-1]]
    for values in (roots, logs):
        gaps = [b - a for a, b in pairwise(values)]
        assert max(gaps) - min(gaps) < 1e-12
    bounded = karras(path, 5, clock_min=0.1, clock_max=10.0)
    assert math.isclose(bounded[0].sigma, 10.0)
    assert math.isclose(bounded[-2].sigma, 0.1)


def test_karras_on_a_flow_is_even_in_the_root_of_its_own_sigma() -> None:
    roots = [level.sigma ** (1 / 7) for level in karras(Flow(), 10)[:-1]]
    gaps = [b - a for a, b in pairwise(roots)]
    assert max(gaps) - min(gaps) < 1e-12


def test_strength_keeps_the_last_steps_as_diffusers_counts_them() -> None:
    levels = SCHEDULES["trailing"](vp_scaled_linear(), 20)
    for strength in (0.05, 0.3, 0.55, 0.75, 0.8, 0.999, 1.0):
        assert start(levels, strength) == levels[20 - min(int(20 * strength), 20) :]
    assert start(levels, 1.0) == levels
    for strength in (0.0, 0.04, -0.1, 1.1, math.nan):
        with pytest.raises(RequestError, match="strength"):
            start(levels, strength)
