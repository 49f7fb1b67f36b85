"""Laws of every schedule on every path."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from scipy.special import betainc, betaincinv

from safelight.core.path import CLEAN, EDM, Flow, Path, vp_scaled_linear
from safelight.core.samplers.row import Option
from safelight.core.schedule import (
    SCHEDULES,
    exponential,
    karras,
    leading_positions,
    linspace_positions,
    trailing_positions,
)
from safelight.core.schedules import positions, quantile, row, tables
from safelight.errors import RequestError, UnknownNameError
from tests.laws.world import PATHS

SD, VIDEO = vp_scaled_linear(), EDM(0.002, 700.0)
TABLES = ("ays", "gits_cifar10")
# (row, options, path): all rows on all paths, and each published list on the path for which it was published.
CASES: list[tuple[str, dict[str, Option], Path]] = [
    *((name, {}, path) for name in SCHEDULES if name not in TABLES for path in PATHS.values()),
    ("ays", {"model": "sd15"}, SD),
    ("ays", {"model": "sdxl"}, SD),
    ("ays", {"model": "svd"}, VIDEO),
    ("gits_cifar10", {}, EDM()),
    ("beta_sigma", {"a": 1.2, "b": 0.5}, SD),
    ("karras", {"rho": 3.0, "sigma_min": 0.1, "sigma_max": 10.0}, SD),
    ("laplace", {"mu": 0.5, "beta": 0.3}, SD),
    ("leading", {"offset": 1.0}, SD),
    ("linear_quadratic", {"threshold": 0.1}, Flow()),
    ("linspace", {"spare": 1.0}, SD),
    ("polyexponential", {"rho": 0.7}, SD),
]
NAMED = [f"{name} {options} {path}" for name, options, path in CASES]


@pytest.mark.parametrize(("plan", "options", "path"), CASES, ids=NAMED)
def test_a_schedule_has_exactly_n_falling_steps_and_ends_clean(
    plan: str, options: dict[str, Option], path: Path
) -> None:
    for n in range(1, 101):
        if plan == "lcm" and n > 50:
            with pytest.raises(RequestError, match="steps must lie between 1 and 50"):
                SCHEDULES[plan](path, n, options)
            continue
        levels = SCHEDULES[plan](path, n, options)
        assert type(levels) is list
        assert len(levels) == n + 1
        assert levels[-1] == CLEAN
        assert all(a.lam < b.lam for a, b in pairwise(levels))
        assert all(a.t > b.t for a, b in pairwise(levels[:-1]))


@pytest.mark.parametrize("plan", sorted(set(SCHEDULES) - {"ddim_uniform", "leading", *TABLES}))
@pytest.mark.parametrize("name", sorted(PATHS))
def test_a_schedule_begins_at_the_noisy_end(plan: str, name: str) -> None:
    for n in (1, 2, 20):
        first, end = SCHEDULES[plan](PATHS[name], n)[0], PATHS[name].ends[0]
        assert all(math.isclose(a, b, rel_tol=1e-12, abs_tol=1e-12) for a, b in zip(first, end))


ROWS = {row.name for row in positions.ROWS}


@pytest.mark.parametrize("plan", sorted(set(SCHEDULES) - {"laplace", "lcm", *TABLES}))
def test_as_many_steps_as_the_table_has_rows_are_allowed_and_no_more(plan: str) -> None:
    most = 1000 if plan in ROWS else 10_000
    assert len(SCHEDULES[plan](SD, 1000)) == 1001
    for wrong in (0, -1, most + 1, 10_001):
        with pytest.raises(RequestError, match="steps must lie between 1 and"):
            SCHEDULES[plan](SD, wrong)


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


def labels(plan: str, n: int, **options: Option) -> list[float]:
    return [level.t for level in SCHEDULES[plan](SD, n, options)[:-1]]


def sigmas(plan: str, n: int, **options: Option) -> list[float]:
    return [SD.clock(level) for level in SCHEDULES[plan](SD, n, options)[:-1]]


def test_the_two_linspaces_and_the_two_leadings_are_told_apart() -> None:
    assert labels("linspace", 5) == [999, 749.25, 499.5, 249.75, 0]
    assert labels("sgm_uniform", 5) == labels("linspace", 5, spare=1.0)
    assert math.isclose(sigmas("linspace", 5)[-1], 0.0292, abs_tol=1e-4)  # Euler's in diffusers
    assert math.isclose(sigmas("sgm_uniform", 5)[-1], 0.572, abs_tol=1e-3)  # DPM-Solver's
    assert labels("leading", 4) == [750, 500, 250, 0]
    assert labels("leading", 4, spare=1.0) == [800, 600, 400, 200]


def test_ddim_uniform_has_n_steps_where_walking_the_table_in_strides_has_others() -> None:
    # Begin at row 1 and go up by T // n until the table of T rows ends: that many rows, whatever n was asked for.
    walked = [math.ceil((1000 - 1) / (1000 // n)) for n in range(1, 101)]
    assert sum(count != n for n, count in enumerate(walked, 1)) == 85
    for n, count in enumerate(walked, 1):
        rows = [1 + i * (1000 // n) for i in range(count)]
        assert labels("ddim_uniform", n) == rows[:n][::-1]


def test_betas_two_meanings_are_what_scipy_says() -> None:
    for n in (1, 5, 20, 99):
        rows = [round(float(betaincinv(0.6, 0.6, 1 - i / n)) * 999) for i in range(n)]
        assert labels("beta", n) == rows
        low, high = SD.clock(SD.ends[1]), SD.clock(SD.ends[0])
        shares = [float(betaincinv(0.6, 0.6, 1 - i / (n - 1) if n > 1 else 1.0)) for i in range(n)]
        wanted = [low + share * (high - low) for share in shares]
        assert all(math.isclose(a, b, rel_tol=1e-9) for a, b in zip(sigmas("beta_sigma", n), wanted))
    uneven = [round(float(betaincinv(1.2, 0.5, 1 - i / 9)) * 999) for i in range(9)]
    assert labels("beta", 9, a=1.2, b=0.5) == uneven
    for got, told in (("beta", [14.6, 7.37, 2.62, 1.03, 0.396]), ("beta_sigma", [14.6, 12.1, 7.32, 2.59, 0.029])):
        assert all(math.isclose(a, b, rel_tol=6e-3) for a, b in zip(sigmas(got, 5), told))


def test_beta_visits_the_next_free_row_where_two_quantiles_share_one() -> None:
    assert positions.apart([9.0, 9.0, 9.0, 4.0, 0.0, 0.0]) == [9, 8, 7, 4, 1, 0]
    shares = [round(float(betaincinv(0.6, 0.6, 1 - i / 400)) * 999) for i in range(400)]
    assert len(set(shares)) < 400 == len(set(labels("beta", 400)))


@pytest.mark.parametrize("a", [0.05, 0.6, 1.0, 2.5, 20.0])
@pytest.mark.parametrize("b", [0.1, 0.6, 1.0, 7.0])
def test_the_beta_distribution_and_its_inverse_are_scipys(a: float, b: float) -> None:
    for x in (0.0, 1e-12, 0.003, 0.2, 0.5, 0.77, 0.999, 1.0):
        assert math.isclose(quantile.below(x, a, b), float(betainc(a, b, x)), rel_tol=1e-11, abs_tol=1e-14)
        assert math.isclose(quantile.quantile(x, a, b), float(betaincinv(a, b, x)), rel_tol=1e-10, abs_tol=1e-13)


def even(values: list[float], tolerance: float = 1e-12) -> bool:
    gaps = [b - a for a, b in pairwise(values)]
    return max(gaps) - min(gaps) < tolerance


def test_karras_is_even_in_the_root_of_sigma_exponential_in_its_logarithm_and_kl_optimal_in_its_angle() -> None:
    path = EDM()
    assert even([level.sigma ** (1 / 7) for level in karras(path, 10)[:-1]])
    assert even([math.log(level.sigma) for level in exponential(path, 10)[:-1]])
    assert even([math.atan(level.sigma) for level in SCHEDULES["kl_optimal"](path, 10)[:-1]])
    logs = [math.log(level.sigma / 0.002) for level in SCHEDULES["polyexponential"](path, 10, {"rho": 3.0})[:-1]]
    assert even([log ** (1 / 3) for log in logs], 1e-6)
    bounded = karras(path, 5, sigma_min=0.1, sigma_max=10.0)
    assert math.isclose(bounded[0].sigma, 10.0)
    assert math.isclose(bounded[-2].sigma, 0.1)


def test_karras_on_a_flow_is_even_in_the_root_of_its_own_sigma() -> None:
    assert even([level.sigma ** (1 / 7) for level in karras(Flow(), 10)[:-1]])


def test_laplace_lays_log_snr_at_the_quantiles_of_its_distribution() -> None:
    mu, width, n = 0.5, 0.3, 21
    for i, level in enumerate(SCHEDULES["laplace"](SD, n, {"mu": mu, "beta": width})[1:-2], 1):
        at = -level.lam - mu  # log(sigma / alpha), above 0 at the noisy side
        above = 0.5 * math.exp(-abs(at) / width)
        share = above if at > 0 else 1 - above  # of the law that lies above
        assert math.isclose(share, i / (n - 1), abs_tol=1e-9)


def test_linear_quadratic_is_a_line_then_a_parabola_without_a_kink_that_would_end_clean() -> None:
    levels = SCHEDULES["linear_quadratic"](Flow(), 40, {"threshold": 0.1})
    gaps = [a.sigma - b.sigma for a, b in pairwise(levels)]
    assert all(math.isclose(gap, 0.1 / 20) for gap in gaps[:20])
    assert even([b - a for a, b in pairwise(gaps[20:])])
    assert all(b > a for a, b in pairwise(gaps[19:]))


def test_published_levels_are_visited_exactly_at_their_own_number_of_steps() -> None:
    assert labels("ays", 10, model="sd15") == list(tables.AYS_ROWS["sd15"][:-1])
    assert labels("ays", 10, model="sdxl") == list(tables.AYS_ROWS["sdxl"][:-1])
    assert labels("ays", 11, model="sdxl", spare=0.0) == list(tables.AYS_ROWS["sdxl"])
    video = [level.sigma for level in SCHEDULES["ays"](VIDEO, 10, {"model": "svd"})[:-1]]
    assert video == list(tables.AYS_SIGMAS["svd"][:-1])
    kept = [level.sigma for level in SCHEDULES["gits_cifar10"](EDM(), 6, {"last": "trained"})]
    assert kept == list(tables.GITS_SIGMAS["cifar10"])


def test_between_published_levels_log_sigma_is_linear() -> None:
    for n in (3, 19, 20, 37):
        points = [math.log(SD.clock(SD.level(k))) for k in tables.AYS_ROWS["sdxl"]]
        for i, sigma in enumerate(sigmas("ays", n, model="sdxl")):
            place = i * 10 / n
            below = int(place)
            wanted = points[below] + (place - below) * (points[below + 1] - points[below])
            assert math.isclose(math.log(sigma), wanted, abs_tol=1e-9)


WRONG: dict[str, tuple[str, Path, dict[str, Option], str]] = {
    "no model": ("ays", SD, {}, "say for which model"),
    "another model": ("ays", SD, {"model": "sd3"}, "sd15"),
    "rows on a flow": ("ays", Flow(), {"model": "sd15"}, "rows of a table of 1000"),
    "rows on zero snr": ("ays", PATHS["zero snr"], {"model": "sd15"}, "ends above pure noise"),
    "a list of a larger range": ("ays", EDM(), {"model": "svd"}, "sigma 700 is not between 0 and 80"),
    "another list of a larger range": ("gits_cifar10", SD, {}, "sigma 80 is not between 0 and 14.6146"),
    "above the path": ("karras", SD, {"sigma_max": 20.0}, "begins at sigma 20, and the network knows at most 14.6146"),
    "ends crossed": ("karras", SD, {"sigma_max": 0.01}, "sigma_min must lie between 0 and sigma_max"),
    "too many below the trained end": ("karras", SD, {"sigma_min": 1e-4}, "by one name"),
    "too wide": ("laplace", SD, {"beta": 3.0}, "lower beta"),
    "only linear": ("linear_quadratic", SD, {"linear_steps": 20}, "linear steps leave none"),
    "turning back": ("linear_quadratic", SD, {"linear_steps": 1, "threshold": 0.5}, "turn back"),
    "unknown": ("karras", SD, {"roh": 7.0}, "rho"),
    "not its own": ("karras", SD, {"a": 0.6}, "option of schedule karras"),
    "a word": ("karras", SD, {"rho": "x"}, "must be a number from 0.1 to 100"),
    "nan": ("karras", SD, {"rho": "nan"}, "must be a number"),
    "out of range": ("beta", SD, {"a": 0.0}, "from 0.05 to 50"),
    "half a row": ("leading", SD, {"offset": 0.5}, "must be a whole number"),
}


@pytest.mark.parametrize("case", WRONG)
def test_options_that_cannot_be_are_refused(case: str) -> None:
    plan, path, options, told = WRONG[case]
    with pytest.raises(RequestError, match=told):
        SCHEDULES[plan](path, 20, options)


def test_every_option_changes_the_levels() -> None:
    other = {
        "a": 0.9,
        "b": 0.9,
        "beta": 0.4,
        "first": 2.0,
        "last": "trained",
        "linear_steps": 3,
        "model": "sdxl",
        "mu": 0.3,
        "offset": 1.0,
        "original": 100.0,
        "rho": 5.0,
        "rounded": 1.0,
        "shift": 0.7,
        "sigma_max": 9.0,
        "sigma_min": 0.1,
        "spare": 1.0,
        "threshold": 0.1,
    }
    for name, plan in SCHEDULES.items():
        path = EDM() if name == "gits_cifar10" else SD
        needed: dict[str, Option] = {"model": "sd15"} if name == "ays" else {}
        before = plan(path, 8, needed)
        for option, value in plan.whole.items():
            if option == "terminal":
                changed, plain = plan(Flow(), 8, {option: 0.3}) if name not in TABLES else [], plan
                assert not changed or changed != plain(Flow(), 8), (name, option)
                continue
            if option == "last" and math.isclose(before[-2].lam, path.ends[1].lam):
                value_, before_ = "trained", plan(path, 8, {**needed, "spare": 1.0})
                assert plan(path, 8, {**needed, "spare": 1.0, option: value_}) != before_, (name, option)
                continue
            switched = 1.0 - float(value) if option == "spare" else other[option]
            assert plan(path, 8, {**needed, option: switched}) != before, (name, option)


def test_every_option_has_a_range_or_is_a_word() -> None:
    for plan in SCHEDULES.values():
        for name, value in plan.whole.items():
            assert isinstance(value, str) or name in row.RANGES


def test_unknown_words_are_refused_by_name() -> None:
    with pytest.raises(UnknownNameError, match="option of schedule karras"):
        SCHEDULES["karras"](SD, 5, {"sigma": 1.0})
