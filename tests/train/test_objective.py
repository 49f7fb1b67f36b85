"""What a denoiser is taught: targets, weights and levels, against the papers' own formulas."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from safelight.core.path import CLEAN, Flow, Level, Path, vp_scaled_linear, zero_terminal_snr
from safelight.core.prediction import denoised_rows, noised
from safelight.errors import ConfigError, UnknownNameError
from safelight.train.objective import Objective, draw_shares, error, weight

VP, ZERO, FLOW = vp_scaled_linear(), zero_terminal_snr(vp_scaled_linear()), Flow()
TAUGHT: list[tuple[str, Path]] = [("eps", VP), ("v", VP), ("v", ZERO), ("x0", ZERO), ("flow", FLOW), ("flow", ZERO)]
GAMMA = 5.0


def _batch(path: Path) -> tuple[Tensor, Tensor, list[Level]]:
    generator = torch.Generator().manual_seed(0)
    x0, eps = torch.randn(2, 7, 3, 4, 4, generator=generator, dtype=torch.float64)
    return x0, eps, [path.trained(k) for k in (0, 1, 250, 500, 750, 998, 999)]


def _perfect(kind: str, x0: Tensor, eps: Tensor, levels: list[Level]) -> Tensor:
    """What the papers say that a network of each kind should answer, row by row."""
    rows = zip(x0, eps, levels, strict=True)
    answers = {
        "eps": lambda x, e, level: e,
        "x0": lambda x, e, level: x,
        "v": lambda x, e, level: level.alpha * e - level.sigma * x,
        "flow": lambda x, e, level: e - x,
    }
    return torch.stack([answers[kind](x, e, level) for x, e, level in rows])


@pytest.mark.parametrize("min_snr", [0.0, GAMMA])
@pytest.mark.parametrize(("kind", "path"), TAUGHT)
def test_a_perfect_prediction_has_no_loss_and_any_other_has_one(kind: str, path: Path, min_snr: float) -> None:
    x0, eps, levels = _batch(path)
    objective, perfect = Objective(min_snr=min_snr), _perfect(kind, x0, eps, levels)
    assert error(kind, objective, perfect, x0, eps, levels).item() < 1e-12
    assert error(kind, objective, perfect + 0.1, x0, eps, levels).item() > 1e-6


@pytest.mark.parametrize(("kind", "path"), TAUGHT)
def test_without_weighting_the_loss_is_the_plain_squared_error(kind: str, path: Path) -> None:
    x0, eps, levels = _batch(path)
    wrong = _perfect(kind, x0, eps, levels) + 0.5
    assert error(kind, Objective(min_snr=0.0), wrong, x0, eps, levels).item() == pytest.approx(0.25)


def _hang(kind: str, snr: Tensor, gamma: float) -> Tensor:
    """Hang et al. 2303.09556, section 3.4: the loss weights of their released code, over a table of SNRs."""
    smaller = torch.stack([snr, gamma * torch.ones_like(snr)], dim=1).min(dim=1)[0]
    return {"x0": smaller, "eps": smaller / snr, "v": smaller / (snr + 1)}[kind]


@pytest.mark.parametrize("kind", ["eps", "v", "x0"])
def test_min_snr_weights_are_those_of_the_paper(kind: str) -> None:
    kept = torch.tensor(VP.alphas_cumprod, dtype=torch.float64)
    wanted = _hang(kind, kept / (1 - kept), GAMMA)
    found = torch.tensor([weight(kind, GAMMA, VP.trained(k)) for k in range(VP.steps)], dtype=torch.float64)
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=0)


@pytest.mark.parametrize(("kind", "path"), TAUGHT)
def test_a_weighted_error_counts_min_snr_in_x0(kind: str, path: Path) -> None:
    x0, eps, levels = _batch(path)
    x, wrong = noised(x0, eps, levels), _perfect(kind, x0, eps, levels) + 0.3
    seen = denoised_rows(kind, x, wrong, levels)
    for level, off in zip(levels, (seen - x0).square().flatten(1).mean(1).tolist(), strict=True):
        snr = (level.alpha / level.sigma) ** 2
        assert weight(kind, GAMMA, level) * 0.09 == pytest.approx(min(snr, GAMMA) * off, rel=1e-6, abs=1e-12)


def test_weights_are_finite_at_both_ends() -> None:
    for kind in ("eps", "v", "x0", "flow"):
        for level in (CLEAN, Level(0.0, 1.0, 999.0)):
            assert math.isfinite(weight(kind, GAMMA, level))
            assert weight(kind, 0.0, level) == 1.0


def test_uniform_levels_are_uniform_and_logit_normal_ones_favour_the_middle() -> None:
    for levels, middle in (("uniform", 0.5), ("logit_normal", 0.7281)):  # P(|N(0, 1)| < log 3)
        shares = draw_shares(Objective(levels), 40_000, torch.Generator().manual_seed(0))
        assert shares.min() >= 0.0 and shares.max() < 1.0
        assert shares.mean().item() == pytest.approx(0.5, abs=0.01)
        assert ((shares > 0.25) & (shares < 0.75)).float().mean().item() == pytest.approx(middle, abs=0.01)


def test_unknown_names_and_impossible_numbers_are_refused() -> None:
    with pytest.raises(UnknownNameError, match="logit_normal"):
        Objective("logit-normal")
    with pytest.raises(ConfigError, match="min_snr"):
        Objective(min_snr=float("nan"))
    with pytest.raises(UnknownNameError, match="prediction to weight"):
        weight("edm", GAMMA, VP.trained(3))
