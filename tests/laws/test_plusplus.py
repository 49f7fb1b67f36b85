"""Laws of CFG++: a base that never hears of guidance, and a push after every step."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from safelight.core.guidance import CFG, Guidance, Unguided
from safelight.core.noise import Fresh, start_noise
from safelight.core.path import CLEAN, EDM, Level, vp_scaled_linear
from safelight.core.run import Denoised, Noise, Run
from safelight.core.sample import Job, sample
from safelight.core.samplers.plusplus import gain
from safelight.core.samplers.table import SAMPLERS
from safelight.core.schedule import SCHEDULES
from safelight.core.steps import ratio
from safelight.errors import RequestError, UnknownNameError
from tests.laws.world import PATHS, Mixture, answer, silent

BASES = {
    "cfg_pp_2m": ("dpmpp_2m", {}),
    "cfg_pp_2s_ancestral": ("dpmpp_2s_ancestral", {}),
    "cfg_pp_res_multistep": ("res_multistep", {}),
    "euler_ancestral_cfg_pp": ("ddpm", {}),
    "euler_cfg_pp": ("ddim", {}),
}
PATH, START = vp_scaled_linear(), torch.linspace(-2, 2, 9, dtype=torch.float64)
OPEN = [PATH.level(k) for k in (990, 800, 777, 400, 310, 90)]
PLANS = {"open": OPEN, "to clean": [*OPEN, CLEAN], "one": [PATH.level(990), CLEAN]}


def wave(s: Level, t: Level) -> Tensor:
    return torch.sin(torch.arange(9, dtype=torch.float64) * (s.sigma + 3 * t.sigma))


def free(x: Tensor, level: Level) -> Tensor:
    """The unguided prediction."""
    return Mixture().denoise(x, level)


def guided(x: Tensor, level: Level) -> Tensor:
    """The guided one: it wants something else, and that the more the more noise there is."""
    return free(x, level) + 0.3 * torch.cos(x) + level.sigma


def both(run: Run) -> Tensor:
    """A run that hears both predictions."""
    try:
        x, level = next(run)
        while True:
            x, level = run.send(Denoised(guided(x, level), free(x, level)))
    except StopIteration as end:
        return end.value


def pushed(run: Run, levels: Sequence[Level]) -> Tensor:
    """A run of a base that hears the unguided prediction alone, moved by hand after every step."""
    grid = {id(level) for level in levels}  # the middle of an ancestral step may equal its end
    x, level = next(run)
    push = torch.zeros_like(x)
    try:
        while True:
            if id(level) in grid:
                push = guided(x, level) - free(x, level)
            x, level = run.send(Denoised(free(x, level)))
            if id(level) in grid:
                x.add_(level.alpha * push)  # a sampler's state is the tensor that it shows
    except StopIteration as end:
        return end.value + levels[-1].alpha * push


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("name", BASES)
def test_it_is_its_base_on_the_unguided_answer_and_a_push_after_every_step(name: str, plan: str) -> None:
    (base, options), levels = BASES[name], PLANS[plan]
    assert name in {row.name for row in SAMPLERS.values() if row.uncond}
    got = both(SAMPLERS[name].bind(PATH)(START, levels, wave))
    wanted = pushed(SAMPLERS[base].bind(PATH, options)(START.clone(), levels, wave), levels)
    torch.testing.assert_close(got, wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("road", sorted(PATHS))
@pytest.mark.parametrize(
    "name", sorted({"euler_cfg_pp", "euler_ancestral_cfg_pp", "cfg_pp_2m", "cfg_pp_res_multistep"})
)
def test_where_guidance_changes_nothing_it_is_its_base(name: str, road: str) -> None:
    (base, options), path = BASES[name], PATHS[road]
    for n in (1, 4):
        levels = SCHEDULES["trailing"](path, n)
        got = answer(SAMPLERS[name].bind(path)(START, levels, wave), free)
        wanted = answer(SAMPLERS[base].bind(path, options)(START, levels, wave), free)
        torch.testing.assert_close(got, wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("road", sorted(PATHS))
def test_of_first_order_it_is_guidance_divided_by_what_a_step_forgets(road: str) -> None:
    path, w = PATHS[road], 0.6
    levels = SCHEDULES["karras"](path, 6)
    scale = {s: w / (1.0 - ratio(s, t)) for s, t in pairwise(levels)}

    def ordinary(x: Tensor, level: Level) -> Tensor:
        return free(x, level) + scale[level] * (guided(x, level) - free(x, level))

    run = SAMPLERS["euler_cfg_pp"].bind(path)(START, levels, silent)
    x, level = next(run)
    try:
        while True:
            u = free(x, level)
            x, level = run.send(Denoised(u + w * (guided(x, level) - u), u))
    except StopIteration as end:
        got = end.value
    wanted = answer(SAMPLERS["euler"].bind(path)(START, levels, silent), ordinary)
    torch.testing.assert_close(got, wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", BASES)
def test_it_ends_at_the_guided_prediction(name: str) -> None:
    run = SAMPLERS[name].bind(PATH)(START, PLANS["to clean"], wave)
    x, level = next(run)
    try:
        while True:
            last = guided(x, level)
            x, level = run.send(Denoised(last, 1e6 * last.sin()))  # so far away that a sum would not come back
    except StopIteration as end:
        out = end.value
    assert torch.equal(out, last)


def test_its_scale_is_the_papers_at_the_papers_fifty_steps() -> None:
    for grid in ("leading", "trailing"):
        assert gain(SCHEDULES[grid](PATH, 50)) == pytest.approx(12.5, rel=0.05)
    assert gain([PATH.level(999), CLEAN]) == 1.0


def test_more_steps_are_more_guidance() -> None:
    # With a push that is always the same, the ordinary method tends to one picture and CFG++ away from it.
    ends = []
    for n in (40, 80, 160):
        levels = [PATH.at_clock(14.0 * (0.1 / 14.0) ** (i / n)) for i in range(n + 1)]
        run = SAMPLERS["euler_cfg_pp"].bind(PATH)(START, levels, silent)
        x, _ = next(run)
        try:
            while True:
                x, _ = run.send(Denoised(torch.ones_like(x), torch.zeros_like(x)))
        except StopIteration as end:
            ends.append((end.value - START * levels[-1].sigma / levels[0].sigma).mean().item())
    assert 1.8 < ends[1] / ends[0] < 2.2
    assert 1.8 < ends[2] / ends[1] < 2.2


@pytest.mark.parametrize("name", sorted(SAMPLERS))
def test_only_rows_that_say_so_need_the_unguided_answer(name: str) -> None:
    row, levels = SAMPLERS[name], SCHEDULES["karras"](EDM(), 4)

    def drawn(uncond: float | None) -> Tensor:
        run = row.bind(EDM())(START, levels, wave)
        x, level = next(run)
        try:
            while True:
                x, level = run.send(Denoised(free(x, level), None if uncond is None else uncond * x))
        except StopIteration as end:
            return end.value

    if row.uncond:
        assert not torch.equal(drawn(0.1), drawn(0.2))
        with pytest.raises(RequestError, match="unguided answer"):
            drawn(None)
    else:
        assert torch.equal(drawn(None), drawn(0.2))


def job(name: str, guidance: Guidance, conds: dict[str, float], noise: Noise | None = None) -> Job:
    shape = (4, 2, 2)
    return Job(
        SAMPLERS[name].bind(PATH),
        SCHEDULES["trailing"](PATH, 4),
        start_noise(3, shape),
        noise or Fresh(3, shape),
        guidance,
        conds,
    )


def network(x: Tensor, levels: Sequence[Level], conds: Sequence[Any]) -> Tensor:
    return torch.tanh(x) + torch.tensor(conds).reshape(-1, 1, 1, 1)


def test_a_job_asks_the_unguided_branch_even_where_the_scale_is_one() -> None:
    ends = [
        list(sample(network, job("euler_cfg_pp", CFG(1.0, both=True), {"cond": 0.2, "uncond": uncond})))[-1].x
        for uncond in (0.0, 0.1)
    ]
    assert not torch.equal(*ends)


def test_a_job_that_would_not_ask_it_is_refused_before_anything_is_asked() -> None:
    for guidance in (Unguided(), CFG(1.0)):
        with pytest.raises(RequestError, match=r"CFG\(scale, both=True\)"):
            job("cfg_pp_2m", guidance, {"cond": 0.2})
        assert job("dpmpp_2m", guidance, {"cond": 0.2}).rows == 1
    with pytest.raises(RequestError, match="no such condition"):
        job("cfg_pp_2m", CFG(1.0, both=True), {"cond": 0.2})


def test_options_that_are_none_are_refused() -> None:
    with pytest.raises(RequestError, match="between 0 and 1"):
        next(SAMPLERS["cfg_pp_2s_ancestral"].bind(PATH, {"eta": 1.5})(START, OPEN, silent))
    with pytest.raises(UnknownNameError, match="rule"):
        next(SAMPLERS["cfg_pp_2m"].bind(PATH, {"rule": "end"})(START, OPEN, silent))
