"""Laws of the driver: one picture or many strangers, watched, stopped and always the same bits."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import permutations
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from safelight.core.guidance import CFG, Guidance, Unguided
from safelight.core.noise import Fresh, start_noise
from safelight.core.path import CLEAN, Level, vp_scaled_linear
from safelight.core.prediction import denoised_rows
from safelight.core.run import Denoised
from safelight.core.sample import Job, Step, sample, sample_many
from safelight.core.samplers.table import SAMPLERS
from safelight.core.schedule import SCHEDULES
from safelight.errors import RequestError

PATH = vp_scaled_linear()
SHAPE = (4, 8, 8)


class Network(nn.Module):
    """A small convolutional eps network whose answer depends on x, level and condition, and on no other row."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.enter, self.leave = nn.Conv2d(4, 32, 3, padding=1), nn.Conv2d(32, 4, 3, padding=1)
            self.tell = nn.Linear(2, 32)
        self.widths: list[int] = []

    @torch.no_grad()
    def forward(self, x: Tensor, levels: Sequence[Level], conds: Sequence[Any]) -> Tensor:
        self.widths.append(len(x))
        told = self.tell(torch.tensor([[level.t / 1000, cond] for level, cond in zip(levels, conds)]))
        out = self.leave(torch.tanh(self.enter(x) + told[:, :, None, None]))
        return denoised_rows("eps", x, out, levels)


def job(sampler: str, n: int, seed: int, guidance: Guidance, width: int = 0) -> Job:
    levels = SCHEDULES["trailing"](PATH, n)
    noise = Fresh(seed, SHAPE)
    return Job(
        SAMPLERS[sampler].bind(PATH),
        levels,
        start_noise(seed, SHAPE),
        noise,
        guidance,
        {"cond": seed / 7, "uncond": 0.0},
        width=width,
    )


def crowd(width: int = 0) -> list[Job]:
    """Pictures of different samplers, lengths, seeds and guidance; each names its own width."""
    plans = [
        ("ddim", 5, 1, CFG(7.0)),
        ("heun", 3, 2, CFG(3.0)),
        ("euler_ancestral", 7, 3, Unguided()),
        ("dpmpp_2m", 4, 4, CFG(7.0, rescale=0.7)),
        ("dpmpp_2m_sde", 6, 5, CFG(1.0)),
        ("ddpm", 2, 6, CFG(5.0)),
    ]
    return [job(sampler, n, seed, guidance, width) for sampler, n, seed, guidance in plans]


def last(steps: Iterator[Step]) -> Tensor:
    return list(steps)[-1].x


def together(jobs: list[Job]) -> list[Tensor]:
    """The finished pictures of a crowd, in order."""
    final: dict[int, Tensor] = {}
    for place, step in sample_many(Network(), jobs):
        final[place] = step.x
    return [final[place] for place in range(len(jobs))]


@pytest.mark.parametrize("width", [0, 1, 3, 8])
def test_a_picture_has_the_same_bits_alone_and_among_strangers(width: int) -> None:
    alone = [last(sample(Network(), each)) for each in crowd(width)]
    for picture, same in zip(together(crowd(width)), alone):
        assert torch.equal(picture, same)


def test_a_picture_has_the_same_bits_in_any_order() -> None:
    jobs = crowd(4)[:4]
    known = together(jobs)
    for order in list(permutations(range(4)))[1::5]:
        for place, picture in zip(order, together([jobs[i] for i in order])):
            assert torch.equal(picture, known[place])


@pytest.mark.parametrize("name", sorted(SAMPLERS))
def test_a_seed_means_the_same_picture_in_any_batch(name: str) -> None:
    alone = last(sample(Network(), job(name, 4, 11, CFG(4.0), width=6)))
    batch = together([job(name, 4, seed, CFG(4.0), width=6) for seed in (9, 10, 11, 12)])
    assert torch.equal(batch[2], alone)
    assert not torch.equal(batch[1], alone)


def test_every_call_has_exactly_the_width_that_the_picture_names() -> None:
    for width, jobs in ((2, [job("ddim", 3, 1, CFG(7.0))]), (1, [job("ddim", 3, 1, CFG(1.0))]), (5, crowd(5))):
        network = Network()
        list(sample_many(network, jobs))
        assert set(network.widths) == {width}


def test_strangers_of_one_width_share_calls() -> None:
    shared, jobs = Network(), [job("ddim", 5, seed, CFG(7.0), width=8) for seed in range(4)]
    list(sample_many(shared, jobs))
    assert len(shared.widths) == 5, "four pictures of two branches fill one call of eight"


def test_pictures_of_another_shape_or_width_do_not_share_but_run_together() -> None:
    wide = replace(job("ddim", 3, 1, CFG(7.0)), x=start_noise(1, (4, 8, 16)), noise=Fresh(1, (4, 8, 16)))
    mixed = [job("ddim", 3, 1, CFG(7.0)), wide, job("ddim", 3, 1, CFG(7.0), width=4)]
    for picture, each in zip(together(mixed), mixed):
        assert torch.equal(picture, last(sample(Network(), each)))


def test_steps_count_evaluations_and_the_last_one_carries_the_finished_picture() -> None:
    for each in crowd():
        steps = list(sample(Network(), each))
        assert [step.index for step in steps] == list(range(1, len(steps) + 1))
        assert {step.total for step in steps} == {len(steps)}
        assert [step.last for step in steps] == [False] * (len(steps) - 1) + [True]
        assert steps[-1].level == CLEAN
        assert torch.equal(steps[-1].x, steps[-1].denoised)


def test_a_run_that_finds_its_own_steps_tells_no_total_but_says_its_last() -> None:
    each = job("dpm_adaptive", 5, 1, CFG(7.0))
    steps = list(sample(Network(), each))
    assert [step.index for step in steps] == list(range(1, len(steps) + 1))
    assert {step.total for step in steps} == {None}
    assert [step.last for step in steps] == [False] * (len(steps) - 1) + [True]
    assert torch.equal(steps[-1].x, steps[-1].denoised)
    # Among strangers with steps of their own it keeps its bits, and so do they.
    jobs = [job("dpm_adaptive", 5, seed, CFG(scale), width=3) for seed, scale in ((1, 7.0), (2, 1.0))]
    jobs.append(job("heun", 3, 3, CFG(3.0), width=3))
    for picture, one in zip(together(jobs), jobs):
        assert torch.equal(picture, last(sample(Network(), one)))


def test_nothing_is_asked_before_the_first_step_is_wanted() -> None:
    network = Network()
    steps = sample(network, job("ddim", 5, 1, CFG(7.0)))
    assert network.widths == []
    next(steps)
    assert len(network.widths) == 1


def test_a_job_without_steps_returns_its_start() -> None:
    each = replace(job("ddim", 5, 1, CFG(7.0)), levels=[CLEAN])
    (step,) = sample(Network(), each)
    assert (step.index, step.total, step.last) == (0, 0, True)
    assert torch.equal(step.x, each.x)


class Watched:
    """A solver that notes when its run is closed, and holds on to it so that nobody else closes it."""

    def __init__(self, closed: list[int], place: int) -> None:
        self.closed, self.place, self.runs = closed, place, []

    def __call__(self, x: Tensor, levels: Sequence[Level], noise: Callable[..., Tensor]) -> Any:
        self.runs.append(self.walk(x, levels))
        return self.runs[-1]

    def walk(self, x: Tensor, levels: Sequence[Level]) -> Any:
        try:
            for level in levels[:-1]:
                x = (yield x, level).x0
        finally:
            self.closed.append(self.place)
        return x

    @property
    def uncond(self) -> bool:
        return False

    def evaluations(self, levels: Sequence[Level]) -> int:
        return len(levels) - 1


def test_closing_the_iterator_closes_every_run() -> None:
    closed: list[int] = []
    jobs = [replace(job("ddim", 5, 1, CFG(7.0)), sampler=Watched(closed, place)) for place in range(3)]
    steps = sample_many(Network(), jobs)
    next(steps)
    assert closed == []
    steps.close()
    assert sorted(closed) == [0, 1, 2]


def test_an_error_of_the_network_closes_every_run() -> None:
    closed: list[int] = []
    jobs = [replace(job("ddim", 5, 1, CFG(7.0)), sampler=Watched(closed, place)) for place in range(2)]

    def broken(x: Tensor, levels: Sequence[Level], conds: Sequence[Any]) -> Tensor:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        next(sample_many(broken, jobs))
    assert sorted(closed) == [0, 1]


def test_a_guidance_may_ask_for_less_at_some_levels() -> None:
    class Interval:
        """Guidance only where there is much noise."""

        def branches(self, level: Level) -> tuple[str, ...]:
            return ("cond", "uncond") if level.t > 500 else ("cond",)

        def combine(self, x: Tensor, level: Level, x0_by_branch: dict[str, Tensor]) -> Denoised:
            return (CFG(5.0) if level.t > 500 else Unguided()).combine(x, level, x0_by_branch)

    jobs = [job("ddim", 6, seed, Interval(), width=2) for seed in (1, 2)]
    network = Network()
    list(sample_many(network, jobs))
    assert set(network.widths) == {2}
    assert len(network.widths) == 3 * 2 + 3, "where one branch is asked, two pictures share a call"
    for picture, each in zip(together(jobs), jobs):
        assert torch.equal(picture, last(sample(Network(), each)))


def test_bad_jobs_are_refused() -> None:
    good = job("ddim", 3, 1, CFG(7.0))
    with pytest.raises(RequestError, match="no such condition"):
        replace(good, conds={"cond": 1.0})
    with pytest.raises(RequestError, match="at least one level"):
        replace(good, levels=[])
    with pytest.raises(RequestError, match="one picture"):
        replace(good, x=torch.zeros(2, *SHAPE))
    with pytest.raises(RequestError, match="answered"):
        next(sample(lambda x, levels, conds: x[:1], good))
