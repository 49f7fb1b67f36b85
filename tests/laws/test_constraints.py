"""Laws of constraints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from safelight.core.constrain import Clamp, Keep
from safelight.core.guidance import CFG
from safelight.core.noise import Fresh, start_noise
from safelight.core.path import Level, vp_scaled_linear
from safelight.core.sample import Job, sample
from safelight.core.samplers.table import SAMPLERS
from safelight.core.schedule import SCHEDULES, start

PATH = vp_scaled_linear()
SHAPE = (4, 8, 8)
KNOWN = start_noise(100, SHAPE)
MASK = torch.zeros(1, 1, 8, 8)
MASK[..., :, 4:] = 1.0


def drawn(name: str, levels: Sequence[Level], constraint: Keep | None, shown: list[Tensor] | None = None) -> Tensor:
    """A picture drawn by a network that answers tanh(x) plus its condition."""

    def network(x: Tensor, at: Sequence[Level], conds: Sequence[Any]) -> Tensor:
        if shown is not None:
            shown.append(x[:1].clone())
        return torch.tanh(x) + torch.tensor(conds).reshape(-1, 1, 1, 1)

    job = Job(
        SAMPLERS[name].bind(PATH),
        levels,
        start_noise(5, SHAPE),
        Fresh(5, SHAPE),
        CFG(3.0),
        {"cond": 0.5, "uncond": 0.1},
        constraint,
    )
    return list(sample(network, job))[-1].x


@pytest.mark.parametrize("name", sorted(SAMPLERS))
@pytest.mark.parametrize("strength", [1.0, 0.5])
def test_kept_pixels_come_back_exactly(name: str, strength: float) -> None:
    levels = start(SCHEDULES["leading"](PATH, 6), strength)
    unclean = [*levels[:-1], PATH.level(0)._replace(alpha=0.9999, sigma=0.0141)]
    for plan in (levels, unclean):
        out = drawn(name, plan, Keep(KNOWN, MASK, start_noise(5, SHAPE)))
        assert torch.equal(out[..., :4], KNOWN[..., :4])
        assert not torch.equal(out[..., 4:], KNOWN[..., 4:])


@pytest.mark.parametrize("name", sorted(SAMPLERS))
def test_a_mask_that_repaints_all_changes_nothing(name: str) -> None:
    levels = SCHEDULES["leading"](PATH, 6)
    free = drawn(name, levels, None)
    assert torch.equal(drawn(name, levels, Keep(KNOWN, torch.ones(1, 1, 8, 8), start_noise(5, SHAPE))), free)


def test_a_network_is_shown_the_kept_part_at_its_noise_level() -> None:
    levels, noise, shown = SCHEDULES["leading"](PATH, 6), start_noise(5, SHAPE), []
    drawn("dpmpp_2m", levels, Keep(KNOWN, MASK, noise), shown)
    for x, level in zip(shown, levels):
        assert torch.equal(x[..., :4], (level.alpha * KNOWN + level.sigma * noise)[..., :4])


def test_every_preview_shows_the_kept_part_as_it_is() -> None:
    job = Job(
        SAMPLERS["heun"].bind(PATH),
        SCHEDULES["leading"](PATH, 6),
        start_noise(5, SHAPE),
        Fresh(5, SHAPE),
        CFG(3.0),
        {"cond": 0.5, "uncond": 0.1},
        Keep(KNOWN, MASK, start_noise(5, SHAPE)),
    )
    for step in sample(lambda x, levels, conds: torch.tanh(x), job):
        assert torch.equal(step.denoised[..., :4], KNOWN[..., :4])


def test_a_soft_mask_mixes() -> None:
    keep = Keep(KNOWN, torch.full((1, 1, 8, 8), 0.25), start_noise(5, SHAPE))
    x0 = torch.ones(1, *SHAPE)
    torch.testing.assert_close(keep.answer(x0, PATH.level(3)), 0.25 * x0 + 0.75 * KNOWN)


def test_a_constant_answer_is_a_fixed_point_of_keeping_it() -> None:
    keep = Keep(KNOWN, MASK, start_noise(5, SHAPE))
    assert torch.equal(keep.answer(KNOWN, PATH.level(500)), KNOWN)


def test_a_clamp_cuts_answers_and_leaves_questions_alone() -> None:
    x = torch.linspace(-3, 3, 7)
    assert Clamp(1.5).question(x, PATH.level(5)) is x
    assert Clamp(1.5).answer(x, PATH.level(5)).abs().max() == 1.5
