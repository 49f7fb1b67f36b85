"""Laws of the path of noise: its covariance exactly, its order of questions, and what a seed tends to."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations, pairwise

import pytest
import torch
from torch import Tensor

from safelight.core import brownian
from safelight.core.brownian import DEPTH, GRAIN, REACH, Brownian
from safelight.core.noise import Fresh, start_noise
from safelight.core.path import CLEAN, Flow, Level, vp_scaled_linear
from safelight.core.run import Noise
from safelight.core.samplers.table import SAMPLERS, find
from tests.laws.exempt import rows
from tests.laws.world import Mixture, answer

PATH = vp_scaled_linear()
PURE = Level(0.0, 1.0)
SHAPE = (4, 8, 8)


def leaf(k: int) -> Level:
    """A level that lies on the tree."""
    return PATH.at(k * GRAIN - REACH)


# Pure noise, some leaves of uneven distance, clean.
MARKS = [PURE, leaf(7), *(leaf(2**DEPTH // 2 + k) for k in (-60_000, -30_001, -4, 0, 1, 9_999, 70_000)), CLEAN]
STEPS = list(combinations(MARKS, 2))


@pytest.fixture
def exact(monkeypatch: pytest.MonkeyPatch) -> Brownian:
    """A path whose every draw is an axis of its own: noise comes as its coefficients, in float64."""
    places: dict[int, int] = {}

    def axis(seed: int, shape: tuple[int, ...]) -> Tensor:
        drawn = torch.zeros(1, *shape, dtype=torch.float64)
        drawn[0, places.setdefault(seed, len(places))] = 1.0
        return drawn

    monkeypatch.setattr(brownian, "draw", axis)
    return Brownian(3, (400,))


def clock(level: Level) -> float:
    """The signal-to-noise ratio, in which the path is a Brownian motion."""
    return math.inf if not level.sigma else (level.alpha / level.sigma) ** 2


def test_noise_has_exactly_the_covariance_of_brownian_increments_over_the_signal_to_noise_ratio(
    exact: Brownian,
) -> None:
    steps = [(s, t) for s, t in STEPS if t is not CLEAN]
    z = torch.stack([exact(s, t)[0] for s, t in steps])
    spans = [(clock(s), clock(t)) for s, t in steps]
    wanted = torch.tensor(
        [[max(min(b, d) - max(a, c), 0.0) / math.sqrt(b - a) / math.sqrt(d - c) for c, d in spans] for a, b in spans],
        dtype=torch.float64,
    )
    torch.testing.assert_close(z @ z.T, wanted, rtol=0.0, atol=1e-10)


def test_a_step_is_composed_of_its_parts_exactly(exact: Brownian) -> None:
    for s, m, t in combinations(MARKS[:-1], 3):
        early, late = (m.sigma / m.alpha / s.sigma * s.alpha, t.sigma / t.alpha / m.sigma * m.alpha)
        parts = late * math.sqrt(1 - early**2) * exact(s, m) + math.sqrt(1 - late**2) * exact(m, t)
        whole = math.sqrt(1 - (early * late) ** 2) * exact(s, t)
        torch.testing.assert_close(parts, whole, rtol=0.0, atol=1e-9)


def test_the_last_step_is_unit_noise_of_its_own(exact: Brownian) -> None:
    last = torch.stack([exact(s, CLEAN)[0] for s in MARKS[:-1]])
    assert torch.equal(last @ last.T, torch.ones(len(last), len(last), dtype=torch.float64))
    before = torch.stack([exact(s, t)[0] for s, t in STEPS if t is not CLEAN])
    assert not (before @ last[0]).any()


def test_the_first_numbers_of_the_path_of_seed_zero_are_known() -> None:
    # Written down: another tree would give everybody other pictures.
    first = torch.tensor([-1.6327775716781616, 2.149784803390503, 0.4768739938735962, 1.29585599899292])
    second = torch.tensor([-0.7428176999092102, -1.3387494087219238, -1.2036548852920532, -0.7856608629226685])
    path, middle = Brownian(0, (4,)), Level(0.6, 0.8)
    torch.testing.assert_close(path(PURE, middle)[0], first, rtol=0.0, atol=1e-6)
    torch.testing.assert_close(path(middle, Level(0.8, 0.6))[0], second, rtol=0.0, atol=1e-6)


def test_the_way_up_is_fresh_and_independent_of_the_way_down() -> None:
    s, t = PATH.level(600), PATH.level(400)
    path = Brownian(3, SHAPE)
    assert torch.equal(path(t, s), Fresh(3, SHAPE)(t, s))
    assert torch.equal(path(CLEAN, s), Fresh(3, SHAPE)(CLEAN, s))
    assert torch.equal(path(s, PURE), Fresh(3, SHAPE)(s, PURE))
    near = PATH.at(s.lam + GRAIN / 100)
    assert torch.equal(path(s, near), Fresh(3, SHAPE)(s, near)), "shorter than a leaf"


def test_neither_order_nor_what_else_was_asked_matters() -> None:
    alone = [Brownian(3, SHAPE)(s, t) for s, t in STEPS]
    shared = Brownian(3, SHAPE)
    order = torch.randperm(len(STEPS), generator=torch.Generator().manual_seed(0)).tolist()
    for place in order + order[::-1]:
        assert torch.equal(shared(*STEPS[place]), alone[place])


def test_threads_that_share_a_path_get_the_same() -> None:
    shared = Brownian(3, SHAPE)
    wanted = [Brownian(3, SHAPE)(s, t) for s, t in STEPS]
    with ThreadPoolExecutor(4) as pool:
        for drawn in pool.map(lambda _: [shared(s, t) for s, t in STEPS], range(4)):
            assert all(map(torch.equal, drawn, wanted))


def test_a_path_keeps_no_more_than_two_ways_through_its_tree() -> None:
    path = Brownian(3, (1,))
    for s, t in pairwise(PATH.level(k) for k in range(999, 0, -1)):
        path(s, t)
        assert len(path._known) <= 2 * (DEPTH + 2)


def test_seed_and_view_change_the_path_and_the_device_is_that_asked_for() -> None:
    s, t = PATH.level(900), PATH.level(300)
    draws = [Brownian(3, SHAPE)(s, t), Brownian(4, SHAPE)(s, t), Brownian(3, SHAPE, view=1)(s, t)]
    correlation = torch.corrcoef(torch.stack([each.flatten() for each in draws])) - torch.eye(3)
    assert correlation.abs().max() < 0.25
    assert Brownian(3, SHAPE, device="meta")(s, t).device.type == "meta"
    assert Brownian(3, SHAPE, device="meta")(t, s).device.type == "meta"


@pytest.mark.parametrize("path", [PATH, Flow()])
def test_steps_are_unit_normal_and_independent_of_each_other_and_of_the_start(path: Flow) -> None:
    levels = [path.at(lam) for lam in (-math.inf, -5.0, -3.0, -1.5, -1.4, -0.2, 0.0, 0.7, 3.0, 6.9)]
    noise = Brownian(11, (20_000,))
    table = torch.cat([start_noise(11, (20_000,)), *(noise(s, t) for s, t in pairwise(levels))])
    covariance = table @ table.T / 20_000
    assert (covariance - torch.eye(len(levels))).abs().max() < 5 / math.sqrt(20_000)
    assert ((table**4).mean(1) - 3).abs().max() < 0.25


def apart(name: str, options: dict[str, float], noise: Noise, sizes: list[int], count: int) -> list[float]:
    """How far runs of n steps end from runs of 2 n with the same noise, root mean square, for neighbours in sizes."""
    mixture, start = Mixture(), start_noise(5, (count,)).double()

    def drawn(n: int) -> Tensor:
        levels = [PATH.at(-2.5 + 5.5 * i / n) for i in range(n + 1)]
        run = find(name).bind(PATH, options)(levels[0].sigma * start, levels, lambda s, t: noise(s, t).double())
        return answer(run, mixture.denoise)

    ends = [drawn(n) for n in sizes]
    return [float((a - b).square().mean().sqrt()) for a, b in pairwise(ends)]


@pytest.mark.parametrize("name", rows("path", [name for name, row in SAMPLERS.items() if row.noise == "path"]))
def test_every_row_that_reads_a_path_tends_to_one_picture(name: str) -> None:
    path = apart(name, {}, Brownian(5, (500,)), [10, 20, 40, 80], 500)
    assert path[-1] < 0.5 * path[0] and path[-1] < 0.1, path


@pytest.mark.parametrize(
    ("name", "options"),
    [("euler_ancestral", {}), ("ddim", {"eta": 0.5}), ("dpmpp_2m_sde", {}), ("dpmpp_2m_sde_heun", {"eta": 0.5})],
)
def test_more_steps_come_closer_to_one_picture_with_a_path_and_not_with_fresh_noise(
    name: str, options: dict[str, float]
) -> None:
    sizes = [10, 20, 40, 80]
    path = apart(name, options, Brownian(5, (500,)), sizes, 500)
    fresh = apart(name, options, Fresh(5, (500,)), sizes, 500)
    assert all(b < 0.75 * a for a, b in pairwise(path)), path
    assert path[-1] < 0.08, path
    assert min(fresh) > 1.0, fresh
