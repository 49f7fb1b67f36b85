"""Laws of every noise path."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest

from safelight.core.path import CLEAN, VP, Flow, Level, vp_cosine, vp_from_betas, vp_linear, vp_scaled_linear
from safelight.errors import RequestError
from tests.laws.world import PATHS

NAMES = sorted(PATHS)


def close(a: Level, b: Level, tolerance: float = 1e-9) -> bool:
    return all(math.isclose(x, y, rel_tol=tolerance, abs_tol=tolerance) for x, y in zip(a, b))


def samples(name: str) -> list[Level]:
    """Levels over the whole table, on rows and between them, the noisy end's interval included."""
    path = PATHS[name]
    return [path.trained(k) for k in (0, 0.25, 1, 37.5, 500, 500.9, 998, 998.25, 998.75, 999)]


@pytest.mark.parametrize("name", NAMES)
def test_a_label_leads_back_to_its_level(name: str) -> None:
    for level in samples(name):
        assert close(PATHS[name].level(level.t), level)


@pytest.mark.parametrize("name", NAMES)
def test_lam_leads_back_to_its_level(name: str) -> None:
    for level in samples(name):
        again = PATHS[name].at(level.lam)
        if level.alpha == 0.0:
            assert (again.alpha, again.t) == (0.0, level.t)
        else:
            assert close(again, level, 1e-8)


@pytest.mark.parametrize("name", NAMES)
def test_the_clock_leads_back_to_its_level(name: str) -> None:
    for level in samples(name):
        if math.isfinite(PATHS[name].clock(level)):
            assert close(PATHS[name].at_clock(PATHS[name].clock(level)), level, 1e-8)


@pytest.mark.parametrize("name", NAMES)
def test_noise_grows_along_the_table_and_the_ends_are_its_ends(name: str) -> None:
    path, levels = PATHS[name], samples(name)
    assert all(a.lam > b.lam and a.t < b.t for a, b in pairwise(levels))
    assert path.ends == (path.trained(path.steps - 1), path.trained(0)) or name in ("edm", "ve")
    assert path.ends[0].lam < path.ends[1].lam


@pytest.mark.parametrize("name", NAMES)
def test_levels_lie_on_the_path(name: str) -> None:
    for level in [*samples(name), *(PATHS[name].at(lam) for lam in (-6.0, -0.1, 0.0, 0.1, 6.0))]:
        if isinstance(PATHS[name], VP):
            assert math.isclose(level.alpha**2 + level.sigma**2, 1.0, rel_tol=1e-12)
        elif isinstance(PATHS[name], Flow):
            assert math.isclose(level.alpha + level.sigma, 1.0, rel_tol=1e-12)
        else:
            assert level.alpha == 1.0


@pytest.mark.parametrize("name", NAMES)
def test_the_clean_end_is_the_same_on_every_path(name: str) -> None:
    assert PATHS[name].at(math.inf)[:2] == CLEAN[:2]
    assert PATHS[name].at_clock(0.0)[:2] == CLEAN[:2]
    assert CLEAN.lam == math.inf


@pytest.mark.parametrize("name", ["linear", "scaled linear", "cosine", "zero snr"])
def test_beyond_the_table_the_noise_is_exact_and_the_label_stops(name: str) -> None:
    path = PATHS[name]
    low = path.at(20.0)
    assert low.t == 0.0
    assert math.isclose(low.lam, 20.0)
    if name != "zero snr":
        high = path.at(path.ends[0].lam - 1.0)
        assert high.t == path.steps - 1
        assert math.isclose(high.lam, path.ends[0].lam - 1.0)


def test_tables_equal_their_closed_forms() -> None:
    # log(alpha^2) at row k is the sum of log(1 - beta); summed exactly (fsum) it is an independent way there.
    n = 1000
    linear = [1e-4 + (0.02 - 1e-4) * i / (n - 1) for i in range(n)]
    scaled = [(math.sqrt(0.00085) + (math.sqrt(0.012) - math.sqrt(0.00085)) * i / (n - 1)) ** 2 for i in range(n)]
    for path, betas in ((vp_linear(), linear), (vp_scaled_linear(), scaled)):
        for k in (0, 1, 99, 500, 999):
            exact = math.exp(math.fsum(math.log1p(-beta) for beta in betas[: k + 1]))
            assert math.isclose(path.alphas_cumprod[k], exact, rel_tol=1e-12)
    cosine = vp_cosine()
    for k in (0, 1, 99, 500, 990):  # the last betas are cut
        exact = (math.cos(((k + 1) / n + 0.008) / 1.008 * math.pi / 2) / math.cos(0.008 / 1.008 * math.pi / 2)) ** 2
        assert math.isclose(cosine.alphas_cumprod[k], exact, rel_tol=1e-12)


def test_zero_terminal_snr_ends_in_pure_noise_and_keeps_its_first_row() -> None:
    path = PATHS["zero snr"]
    assert path.ends[0] == Level(0.0, 1.0, 999.0)
    assert path.ends[0].lam == -math.inf
    assert math.isclose(path.ends[1].alpha, vp_scaled_linear().ends[1].alpha, rel_tol=1e-14)


def test_a_shift_moves_a_flow_by_its_logarithm() -> None:
    for k in (0, 10, 500, 998):
        moved = Flow(shift=3.0).trained(k).lam
        assert math.isclose(moved, Flow().trained(k).lam - math.log(3.0), abs_tol=1e-9)
    for shift in (1.0, 1.7, 3.0, math.exp(1.15)):
        assert Flow(shift=shift).ends[0][:2] == (0.0, 1.0)


def test_impossible_paths_are_refused() -> None:
    with pytest.raises(RequestError, match="must fall"):
        VP((0.5, 0.6))
    with pytest.raises(RequestError, match="must fall"):
        vp_from_betas([0.1])
    with pytest.raises(RequestError, match="shift"):
        Flow(shift=0.0)
    with pytest.raises(RequestError, match="outside"):
        vp_linear().level(1000)
    with pytest.raises(RequestError, match="outside"):
        Flow().level(-1)
