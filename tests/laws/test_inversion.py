"""DDIM inversion goes up the way that DDIM comes down."""

from __future__ import annotations

import math

import pytest
import torch

from safelight.core.guidance import CFG
from safelight.core.path import CLEAN, VP, Flow, Level, Path, vp_scaled_linear
from safelight.core.run import Denoised
from safelight.core.sample import Job, sample
from safelight.core.samplers.inversion import INVERSION
from safelight.core.samplers.table import SAMPLERS
from safelight.errors import RequestError
from tests.laws.world import Mixture, answer, silent, slopes

VP_PATH = vp_scaled_linear()


def rising(path: Path, n: int) -> list[Level]:
    """n + 1 levels of a path, even in lam, cleanest first."""
    low, high = math.log(VP_PATH.clock(VP_PATH.level(20))), math.log(VP_PATH.clock(VP_PATH.level(900)))
    return [path.at(-(low + (high - low) * i / n)) for i in range(n + 1)]


def seen(path: Path, x: torch.Tensor, level: Level) -> torch.Tensor:
    """What a network that predicts eps by its label alone makes the world look like at a level."""
    true = path.level(level.t)
    eps = (x - true.alpha * Mixture().denoise(x, true)) / true.sigma
    return (x - level.sigma * eps) / level.alpha


@pytest.mark.parametrize("path", [VP_PATH, Flow()])
def test_inverting_and_drawing_gives_the_picture_back_better_with_every_step(path: VP | Flow) -> None:
    errors = []
    for n in (50, 100, 200):
        levels = rising(path, n)
        picture = Mixture().points(levels[0])
        noise = answer(INVERSION.bind(path)(picture, levels, silent), lambda x, level: seen(path, x, level))
        back = answer(SAMPLERS["ddim"].bind(path)(noise, levels[::-1], silent), lambda x, level: seen(path, x, level))
        errors.append((back - picture).abs().max().item())
    assert all(abs(slope - 1) < 0.2 for slope in slopes(errors)), (slopes(errors), errors)
    assert errors[-1] < 4.6e-3, errors


def test_the_inverse_of_a_step_knows_what_the_step_will_see() -> None:
    # With a network that answers the same eps wherever it is asked the way up and the way down are one line.
    levels = [CLEAN, *(VP_PATH.level(k) for k in (100, 400, 999))]
    picture, eps = torch.linspace(-1, 1, 9, dtype=torch.float64), torch.linspace(2, -3, 9, dtype=torch.float64)

    def still(x: torch.Tensor, level: Level) -> torch.Tensor:
        return (x - level.sigma * eps) / level.alpha

    noise = answer(INVERSION.bind(VP_PATH)(picture, levels, silent), still)
    torch.testing.assert_close(noise, levels[-1].alpha * picture + levels[-1].sigma * eps, rtol=1e-12, atol=1e-12)
    back = answer(SAMPLERS["ddim"].bind(VP_PATH)(noise, levels[::-1], silent), still)
    torch.testing.assert_close(back, picture, rtol=1e-10, atol=1e-10)


def test_every_question_carries_the_label_of_the_next_level() -> None:
    levels = [CLEAN, VP_PATH.level(3), VP_PATH.level(500)]
    run = INVERSION.bind(VP_PATH)(torch.zeros(1), levels, silent)
    assert next(run)[1] == levels[1]
    assert run.send(Denoised(torch.zeros(1)))[1] == levels[1]._replace(t=500.0)


def test_an_inversion_is_driven_like_any_sampler() -> None:
    levels = [VP_PATH.level(k) for k in (0, 200, 700)]
    job = Job(INVERSION.bind(VP_PATH), levels, torch.ones(1, 3, 2, 2), silent, CFG(1.0), {"cond": 0.0})
    steps = list(sample(lambda x, levels, conds: 0.5 * x, job))
    assert [(step.index, step.total, step.level) for step in steps] == [
        (1, 2, levels[1]._replace(t=700.0)),
        (2, 2, levels[2]),
    ]
    assert steps[-1].x.isfinite().all()


def test_levels_that_do_not_rise_are_refused() -> None:
    with pytest.raises(RequestError, match="reverse the schedule"):
        next(INVERSION.bind(VP_PATH)(torch.zeros(1), [VP_PATH.level(5), CLEAN], silent))
