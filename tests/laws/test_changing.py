"""Conditions that change with the step, and conditions of unequal length: what the driver promises of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from safelight.core.guidance import CFG
from safelight.core.noise import Fresh, start_noise
from safelight.core.path import Level, vp_scaled_linear
from safelight.core.sample import Changing, Job, sample, sample_many
from safelight.core.samplers.table import SAMPLERS
from safelight.core.schedule import SCHEDULES
from safelight.errors import RequestError

PATH = vp_scaled_linear()
SHAPE = (1, 2, 2)
STEPS = 6


class Ear:
    """Answers x0 = the condition, and keeps what it was asked."""

    def __init__(self) -> None:
        self.calls: list[list[tuple[float, Any]]] = []

    def __call__(self, x: Tensor, levels: Sequence[Level], conds: Sequence[Any]) -> Tensor:
        self.calls.append([(level.lam, cond) for level, cond in zip(levels, conds)])
        return torch.stack([torch.full(SHAPE, float(cond)) for cond in conds]) * 0.1 + 0.5 * x


def levels() -> list[Level]:
    return SCHEDULES["trailing"](PATH, STEPS)


def job(cond: Any, sampler: str = "euler", seed: int = 0, kind: object = None) -> Job:
    guidance = CFG(2.0, both=True)
    conds = {"cond": cond, "uncond": -1.0}
    return Job(
        *(SAMPLERS[sampler].bind(PATH), levels(), start_noise(seed, SHAPE), Fresh(seed, SHAPE), guidance, conds),
        width=3,  # more than a job fills, so that strangers are let in
        kind=kind,
    )


def final(*jobs: Job) -> list[Tensor]:
    return [step.x for _, step in sorted(sample_many(Ear(), jobs), key=lambda pair: pair[0]) if step.last]


def test_every_step_is_told_its_own_condition() -> None:
    ear = Ear()
    for _ in sample(ear, job(Changing(tuple(levels()), tuple(float(step) for step in range(STEPS))))):
        pass
    assert [call[0][1] for call in ear.calls] == [float(step) for step in range(STEPS)]
    assert all(call[1][1] == -1.0 for call in ear.calls)


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_question_is_told_what_its_step_is_told_whatever_the_sampler(name: str) -> None:
    ear, visited = Ear(), levels()
    for _ in sample(ear, job(Changing(tuple(visited), tuple(float(step) for step in range(STEPS))), name)):
        pass
    for call in ear.calls:
        lam, cond = call[0]
        step = sum(level.lam <= lam for level in visited[1:-1])
        assert cond == float(step)


def test_equal_conditions_at_every_step_are_one_condition() -> None:
    for name in ("euler", "heun", "dpmpp_2m_sde", "dpm_adaptive"):
        (one,), (many,) = final(job(3.0, name)), final(job(Changing(tuple(levels()), (3.0,) * STEPS), name))
        assert torch.equal(one, many)


def test_strangers_of_another_kind_share_no_call_and_change_nothing() -> None:
    ear = Ear()
    jobs = [job(float(seed), seed=seed, kind=seed % 2) for seed in range(4)]
    mixed = {place: step.x for place, step in sample_many(ear, jobs) if step.last}
    for call in ear.calls:
        assert len({cond % 2 for _, cond in call if cond >= 0}) <= 1
    assert any(len({cond for _, cond in call if cond >= 0}) == 2 for call in ear.calls), "those of one kind do share"
    for place, each in enumerate(jobs):
        assert torch.equal(mixed[place], final(each)[0])


def test_a_condition_for_other_than_every_step_is_refused() -> None:
    for count in (0, STEPS - 1, STEPS + 1):
        with pytest.raises(RequestError, match="give one a step"):
            Changing(tuple(levels()), (1.0,) * count)
