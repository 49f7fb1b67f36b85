"""One piece of mathematics under several names: rows and options that must give the same picture to the last digits.

Every pair runs on the mixture over uneven levels of a path, in float64, with the same noise.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import accumulate, pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from safelight.core.path import CLEAN, EDM, Flow, Level, Path, vp_scaled_linear
from safelight.core.run import Run
from safelight.core.samplers.adams import adams
from safelight.core.samplers.bashforth import bashforth, published, vp_time_of
from safelight.core.samplers.corrected import RULES
from safelight.core.samplers.table import SAMPLERS
from safelight.core.steps import blend, weights
from tests.laws.world import Denoise, Mixture, answer, unanimous

CLOCKS = (0.93, 0.8, 0.71, 0.5, 0.42, 0.2, 0.11)


def uneven(path: Path, clean: bool = False) -> list[Level]:
    """Seven levels of uneven steps, none of them at an end of the path, then perhaps the clean one."""
    flow = isinstance(path, Flow)
    return [path.at_clock(c if flow else 12.0 * c**3) for c in CLOCKS] + ([CLEAN] if clean else [])


def even(path: Path) -> list[Level]:
    """Seven levels, even in the path's clock."""
    return [path.at_clock(0.9 - 0.1 * i) for i in range(7)]


def noise(s: Level, t: Level) -> Tensor:
    seed = round(1e6 * s.sigma) * 7 + round(1e6 * t.sigma)
    return torch.randn(9, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def drawn(name: str, path: Path, levels: list[Level], **options: Any) -> Tensor:
    start = torch.linspace(-2.0, 2.0, 9, dtype=torch.float64) * math.hypot(levels[0].alpha, levels[0].sigma)
    return answer(SAMPLERS[name].bind(path, options)(start, levels, noise), Mixture().denoise)


ROADS = {"edm": EDM(), "vp": vp_scaled_linear(), "flow": Flow()}
SAME: list[tuple[str, dict[str, Any], str, dict[str, Any]]] = [
    # One step, many names.
    ("ddim", {}, "euler", {}),
    ("ddim", {}, "adams2", {"order": 1}),
    ("ddim", {}, "lms", {"order": 1}),
    ("ddim", {}, "gradient_estimation", {"gamma": 1.0}),
    ("ddim", {}, "er_sde1", {"eta": 0.0}),
    ("ddpm", {}, "adams2", {"order": 1, "eta": 1.0}),
    # Exponential Adams of order 2 and 3.
    ("res_multistep", {}, "adams2", {}),
    ("res_multistep", {}, "dpmpp_2m_sde_heun", {"eta": 0.0}),
    ("res_multistep_ancestral", {"eta": 0.0}, "res_multistep", {}),
    ("dpmpp_2m_sde_heun", {}, "adams2_sde", {}),
    ("dpmpp_2m_sde", {"eta": 0.0}, "dpmpp_2m", {}),
    ("dpmpp_3m_sde", {"order": 2}, "dpmpp_2m_sde_heun", {}),
    ("adams3", {"eta": 1.0}, "adams3_sde", {}),
    # A corrector does not care what its paper is called.
    ("sa_solver", {"eta": 0.0}, "adams3_corrected", {}),
    ("sa_solver", {"window": "whole"}, "adams3_corrected", {"eta": 1.0}),
    ("sa_solver_pece", {"eta": 0.0}, "adams3_corrected", {"mode": "pece"}),
]


@pytest.mark.parametrize("road", ROADS)
@pytest.mark.parametrize(("left", "left_options", "right", "right_options"), SAME)
def test_two_names_of_one_method_draw_one_picture(
    left: str, left_options: dict[str, Any], right: str, right_options: dict[str, Any], road: str
) -> None:
    for clean in (False, True):
        levels = uneven(ROADS[road], clean)
        a, b = (
            drawn(name, ROADS[road], levels, **more) for name, more in ((left, left_options), (right, right_options))
        )
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("road", ROADS)
def test_on_even_steps_ipndm_is_adams_bashforth_in_the_clock(road: str) -> None:
    path = ROADS[road]
    torch.testing.assert_close(drawn("ipndm", path, even(path)), drawn("lms", path, even(path)), rtol=1e-12, atol=1e-12)
    assert (drawn("ipndm", path, uneven(path)) - drawn("lms", path, uneven(path))).abs().max() > 1e-4
    half = drawn("gradient_estimation", path, even(path), gamma=1.5)
    torch.testing.assert_close(half, drawn("lms", path, even(path), order=2), rtol=1e-12, atol=1e-12)


def test_published_weights_of_ipndm_v_are_right_only_where_two_slopes_are_known() -> None:
    path = EDM()
    levels = uneven(path)
    torch.testing.assert_close(
        drawn("ipndm_v", path, levels, order=2), drawn("lms", path, levels, order=2), rtol=1e-12, atol=1e-12
    )
    for order in (3, 4):
        gap = drawn("ipndm_v", path, levels, order=order) - drawn("lms", path, levels, order=order)
        assert gap.abs().max() > 1e-3


def test_published_weights_of_ipndm_v_are_those_of_the_published_code() -> None:
    # What the authors' code weighs slopes with on the step 3 -> 2 after steps from 10, 7 and 5.5.
    wanted = {3: (1.683333333333, -1.488888888889, 0.805555555556)}
    wanted[4] = (1.803571428571, -1.987654320988, 1.273148148148, -0.296884185773)
    for count, numbers in wanted.items():
        got = published([3.0, 5.5, 7.0, 10.0][:count], 3.0, 2.0, 0.0)
        assert all(math.isclose(a, b, abs_tol=1e-11) for a, b in zip(got, numbers, strict=True))
    assert abs(sum(wanted[4]) - 1.0) > 0.2, "no weights of an average"


def test_the_time_of_deis_is_that_of_the_vp_equation() -> None:
    # log(1 + clock^2) is quadratic in t, 0 at 0; its other two conditions are Karras et al.'s ends.
    def square(clock: float) -> float:
        return math.log1p(clock * clock)

    for clock in (0.002, 0.3, 1.0, 14.0, 80.0):
        t = vp_time_of(clock)
        quadratic = t * (square(80.0) * (t - 0.001) + square(0.002) / 0.001 * (1.0 - t)) / 0.999
        assert math.isclose(square(clock), quadratic, rel_tol=1e-9)
    assert math.isclose(vp_time_of(0.002), 0.001)
    assert math.isclose(vp_time_of(80.0), 1.0)


def test_the_log_form_of_deis_is_exponential_adams_on_the_noise() -> None:
    # x0 + (sigma / alpha) (eps - mixed) says the same as a step that holds the mixed noise still.
    path = vp_scaled_linear()
    levels, world = uneven(path), Mixture()
    x = torch.linspace(-2.0, 2.0, 9, dtype=torch.float64)
    out = answer(bashforth(x, levels, noise, path=path, order=3, over="log"), world.denoise)
    past: list[tuple[float, Tensor]] = []
    for s, t in pairwise(levels):
        past = [(s.lam, (x - s.alpha * world.denoise(x, s)) / s.sigma), *past[:2]]
        held = blend(past, s.lam, t.lam, -1.0)
        x = t.alpha * (x - s.sigma * held) / s.alpha + t.sigma * held
    torch.testing.assert_close(out, x, rtol=1e-12, atol=1e-12)


def test_unipc_and_exact_correctors_differ_only_where_two_predictions_are_known() -> None:
    # Over the middle of a long run all of UniPC's choices of B(h) are one method; they start and end differently.
    path = EDM()
    levels = uneven(path)
    rules = [drawn("unipc", path, levels, rule=rule) for rule in ("bh1", "bh2", "exact")]
    assert (rules[0] - rules[1]).abs().max() > 1e-6
    nodes = [0.0, 0.3, -0.4]
    for rule in ("bh1", "bh2"):
        assert RULES[rule](nodes, 0.0, 0.3, 1.0) == weights(nodes, 0.0, 0.3, 1.0)


# What the exact methods claim to integrate without error: a polynomial in their own variable.


def polynomial(degree: int, u: float) -> float:
    return sum((i + 1.0) * (-0.4) ** i * (u - 0.1) ** i for i in range(degree + 1))


def integral(degree: int, a: float, b: float, k: float) -> float:
    """Of polynomial(u) e^(k (u - b)) over [a, b], by 4000 midpoints of Simpson's rule: an integrator of its own."""
    n = 4000
    h = (b - a) / n
    total = 0.0
    for i in range(n + 1):
        u = a + i * h
        total += (1 if i in (0, n) else 4 if i % 2 else 2) * polynomial(degree, u) * math.exp(k * (u - b))
    return total * h / 3.0


LEVELS = [EDM().at(lam) for lam in (-1.0, -0.4, 0.1, 0.75, 1.3, 1.6)]
START = torch.tensor([1.7, -0.3], dtype=torch.float64)


def put(run: Run, exact: list[Tensor], nodes: int, denoise: Denoise) -> Tensor:
    """The end of a run that is put onto the exact curve at every question until enough predictions are known."""
    state, level = next(run)
    try:
        while True:
            at = LEVELS.index(level)
            if at < nodes:
                state.copy_(exact[at])
            state, level = run.send(unanimous(denoise(state, level)))
    except StopIteration as end:
        return end.value


def curve(advance: Callable[[Tensor, Level, Level], Tensor]) -> list[Tensor]:
    """The exact states at LEVELS."""
    return list(accumulate(pairwise(LEVELS), lambda x, pair: advance(x, *pair), initial=START))


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_a_prediction_that_is_a_polynomial_in_lam_is_solved_exactly(degree: int, eta: float) -> None:
    def advance(x: Tensor, s: Level, t: Level) -> Tensor:
        # x_t = (sigma_t / sigma_s) q^eta x_s + (1 + eta) integral of x0 e^((1 + eta) (u - lam_t)), at alpha = 1
        drift = (1.0 + eta) * integral(degree, s.lam, t.lam, 1.0 + eta)
        return t.sigma / s.sigma * math.exp(-eta * (t.lam - s.lam)) * x + drift

    def denoise(x: Tensor, level: Level) -> Tensor:
        return torch.full_like(x, polynomial(degree, level.lam))

    exact = curve(advance)
    for order in (degree, degree + 1):
        run = adams(START.clone(), LEVELS, lambda s, t: 0.0 * START, path=EDM(), order=order, eta=eta)
        if order:
            error = (put(run, exact, degree + 1, denoise) - exact[-1]).abs().max()
            assert error < 1e-13 if order > degree else error > 1e-4


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
@pytest.mark.parametrize("over", ["clock", "log"])
def test_a_slope_that_is_a_polynomial_in_its_variable_is_solved_exactly(degree: int, over: str) -> None:
    def advance(x: Tensor, s: Level, t: Level) -> Tensor:
        if over == "clock":
            return x + integral(degree, s.sigma, t.sigma, 0.0)
        return x - t.sigma * integral(degree, s.lam, t.lam, -1.0)

    def denoise(x: Tensor, level: Level) -> Tensor:
        return x - level.sigma * polynomial(degree, level.sigma if over == "clock" else level.lam)

    exact = curve(advance)
    for order in (degree, degree + 1):
        run = bashforth(START.clone(), LEVELS, lambda s, t: START, path=EDM(), order=order, over=over)
        if order:
            error = (put(run, exact, degree + 1, denoise) - exact[-1]).abs().max()
            assert error < 1e-12 if order > degree else error > 1e-4


def test_the_window_of_sa_solver_looks_at_the_start_or_at_the_end_of_a_step() -> None:
    path = vp_scaled_linear()
    levels = [path.level(t) for t in (999, 900, 790, 500, 210, 100, 10)]
    wanted = {
        "whole": [999, 900, 790, 500, 210, 100],
        "starts": [790, 500, 210],  # rows 200 to 800 of 1000
        "ends": [900, 790, 500],
    }
    for window, rows in wanted.items():
        asked: list[float] = []

        def listen(s: Level, t: Level, asked: list[float] = asked) -> Tensor:
            asked.append(s.t)
            return noise(s, t)

        solver = SAMPLERS["sa_solver"].bind(path, {"window": window})
        answer(solver(torch.zeros(9, dtype=torch.float64), levels, listen), Mixture().denoise)
        assert asked == rows, window
