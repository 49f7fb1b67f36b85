"""Laws of guidance."""

from __future__ import annotations

import math

import pytest
import torch

from safelight.core.guidance import CFG, Unguided
from safelight.core.path import Level, vp_scaled_linear
from safelight.core.prediction import denoised, said
from safelight.errors import RequestError

LEVEL = vp_scaled_linear().level(600)
X, COND, UNCOND = torch.randn(3, 1, 4, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
BOTH = {"cond": COND, "uncond": UNCOND}
GUIDANCES = [Unguided(), CFG(1.0), CFG(1.0, rescale=0.5), CFG(0.0), CFG(7.5), CFG(7.5, rescale=0.7), CFG(-2.0)]


@pytest.mark.parametrize("guidance", GUIDANCES)
def test_where_all_branches_agree_nothing_changes(guidance: CFG) -> None:
    same = dict.fromkeys(guidance.branches(LEVEL), COND)
    torch.testing.assert_close(guidance.combine(X, LEVEL, same).x0, COND, rtol=1e-12, atol=1e-12)


def test_scale_one_asks_and_answers_the_condition_alone() -> None:
    for guidance in (Unguided(), CFG(1.0), CFG(1.0, rescale=0.9)):
        assert guidance.branches(LEVEL) == ("cond",)
        assert torch.equal(guidance.combine(X, LEVEL, {"cond": COND}).x0, COND)


def test_the_unguided_answer_comes_along_where_a_sampler_needs_it() -> None:
    for scale in (0.0, 1.0, 7.5):
        guidance = CFG(scale, both=True)
        assert guidance.branches(LEVEL) == ("cond", "uncond")
        got = guidance.combine(X, LEVEL, BOTH)
        assert got.uncond is not None
        assert torch.equal(got.uncond, UNCOND)
        assert torch.equal(got.x0, CFG(scale).combine(X, LEVEL, BOTH).x0)


def test_scale_zero_answers_without_the_condition() -> None:
    assert torch.equal(CFG(0.0).combine(X, LEVEL, BOTH).x0, UNCOND)


def test_guidance_exaggerates_the_difference_linearly() -> None:
    got = CFG(7.5).combine(X, LEVEL, BOTH)
    torch.testing.assert_close(got.x0, UNCOND + 7.5 * (COND - UNCOND))
    assert got.uncond is not None
    assert torch.equal(got.uncond, UNCOND)


@pytest.mark.parametrize("kind", ["eps", "v", "x0"])
def test_rescale_pulls_the_spread_of_what_the_network_says(kind: str) -> None:
    full = CFG(7.5, rescale=1.0, prediction=kind).combine(X, LEVEL, BOTH).x0
    wanted, got = said(kind, X, COND, LEVEL).std(), said(kind, X, full, LEVEL).std()
    torch.testing.assert_close(got, wanted, rtol=1e-10, atol=0)
    none = CFG(7.5, rescale=0.0, prediction=kind).combine(X, LEVEL, BOTH).x0
    half = CFG(7.5, rescale=0.5, prediction=kind).combine(X, LEVEL, BOTH).x0
    torch.testing.assert_close(half, (full + none) / 2, rtol=1e-10, atol=1e-10)


def test_rescale_is_finite_at_pure_noise_for_a_v_network() -> None:
    noise = Level(0.0, 1.0, 999.0)
    got = CFG(7.5, rescale=0.7, prediction="v").combine(X, noise, BOTH).x0
    assert torch.isfinite(got).all()
    out = -(UNCOND + 7.5 * (COND - UNCOND))
    out = 0.7 * out * (COND.std() / out.std()) + 0.3 * out
    torch.testing.assert_close(got, denoised("v", X, out, noise))


def test_numbers_that_are_none_are_refused() -> None:
    for scale in (math.nan, math.inf):
        with pytest.raises(RequestError, match="guidance scale"):
            CFG(scale)
    for rescale in (-0.1, 1.1, math.nan):
        with pytest.raises(RequestError, match="rescale"):
            CFG(7.0, rescale=rescale)
