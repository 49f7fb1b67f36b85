"""Laws of guidance, over every rule: alone, and together with every sampler of the table."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from safelight.core.guidance import CFG, Guidance, Rescaled, Unguided, begin
from safelight.core.guides.apg import APG
from safelight.core.guides.interval import Interval
from safelight.core.guides.push import Push
from safelight.core.guides.scale import ByStep
from safelight.core.guides.threshold import Threshold, quantile
from safelight.core.guides.zero_star import ZeroStar, still_until
from safelight.core.noise import Fresh, start_noise
from safelight.core.path import CLEAN, Level, vp_scaled_linear
from safelight.core.prediction import denoised, said
from safelight.core.sample import Job, sample, sample_many
from safelight.core.samplers.table import SAMPLERS
from safelight.core.schedule import SCHEDULES
from safelight.errors import RequestError

PATH = vp_scaled_linear()
LEVEL = PATH.level(600)
NOISY, QUIET = PATH.level(900), PATH.level(100)
LEVELS = SCHEDULES["trailing"](PATH, 4)
RANDOM = torch.randn(8, 1, 4, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
X, COND, UNCOND = RANDOM[:3]
BOTH = {"cond": COND, "uncond": UNCOND}
EXTRA = ("perturbed", "smoothed", "skipped", "degraded", "weak")
ALL = {**BOTH, **dict(zip(EXTRA, RANDOM[3:]))}
STEPPED = ByStep(tuple(LEVELS), (9.0, 5.0, 1.0, 3.0))

Make = Callable[[float], Guidance]
RULES: dict[str, Make] = {
    "cfg": CFG,
    "cfg rescaled": lambda scale: CFG(scale, rescale=0.7, prediction="v"),
    "apg": APG,
    "apg with momentum": lambda scale: APG(scale, 0.3, threshold=2.0, momentum=-0.5),
    "cfg-zero": lambda scale: ZeroStar(scale, "v"),
    "interval": lambda scale: Interval(CFG(scale), 0.3, 5.0),
    "interval of apg": lambda scale: Interval(APG(scale, momentum=0.5), 0.3, 5.0),
    "rescaled apg": lambda scale: Rescaled(APG(scale), 0.7, "v"),
    **{name: lambda scale, name=name: Push(Unguided(), name, scale - 1.0) for name in EXTRA},  # type: ignore[misc]
    "by step": lambda scale: CFG(ByStep(tuple(LEVELS), (scale,) * 4)),
    "threshold": lambda scale: Threshold(CFG(scale), limit=50.0),
}
"""Name -> rule of a scale, where scale 1 means the condition."""
WHOLE: dict[str, Guidance] = {
    **{name: make(4.0) for name, make in RULES.items()},
    "unguided": Unguided(),
    "both": CFG(1.0, both=True),
    "nothing of it": CFG(0.0),
    "away": CFG(-2.0),
    "steps": CFG(STEPPED),
    "threshold that cuts": Threshold(CFG(4.0), 0.9, 1.5),
    "all at once": Threshold(
        Rescaled(Push(Push(Interval(APG(6.0, momentum=-0.5), 0.2, 9.0), "weak", 0.5), "perturbed", 2.0), 0.3, "v"),
        0.9,
        9.0,
    ),
}
FIXED = [name for name in WHOLE if name != "threshold that cuts"]


def asked(guidance: Guidance, level: Level, answers: dict[str, Tensor] | None = None) -> dict[str, Tensor]:
    """The answers that the guidance asks for at this level."""
    return {name: (answers or ALL)[name] for name in guidance.branches(level)}


@pytest.mark.parametrize("name", FIXED)
def test_where_all_branches_agree_nothing_changes(name: str) -> None:
    guidance = WHOLE[name]
    for level in (NOISY, LEVEL, QUIET):
        same = dict.fromkeys(guidance.branches(level), COND)
        torch.testing.assert_close(guidance.combine(X, level, same).x0, COND, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", RULES)
def test_scale_one_asks_and_answers_the_condition_alone(name: str) -> None:
    guidance = RULES[name](1.0)
    for level in (NOISY, LEVEL, QUIET):
        assert guidance.branches(level) == ("cond",)
        assert torch.equal(guidance.combine(X, level, {"cond": COND}).x0, COND)


@pytest.mark.parametrize("name", RULES)
def test_another_scale_asks_for_more_and_answers_something_else(name: str) -> None:
    guidance = RULES[name](4.0)
    assert len(guidance.branches(LEVEL)) == 2
    assert not torch.allclose(guidance.combine(X, LEVEL, asked(guidance, LEVEL)).x0, COND)


@pytest.mark.parametrize("name", WHOLE)
def test_what_is_asked_is_finite_without_signal_and_without_noise(name: str) -> None:
    guidance = WHOLE[name]
    for level in (Level(0.0, 1.0, 999.0), CLEAN):
        assert torch.isfinite(guidance.combine(X, level, asked(guidance, level)).x0).all()


@pytest.mark.parametrize("name", WHOLE)
def test_no_rule_needs_a_number_of_the_device(name: str) -> None:
    guidance = begin(WHOLE[name])
    for level in (NOISY, LEVEL, QUIET, CLEAN):
        answers = {branch: answer.to("meta") for branch, answer in asked(guidance, level).items()}
        assert guidance.combine(X.to("meta"), level, answers).x0.shape == X.shape


def network(x: Tensor, levels: Sequence[Level], conds: Sequence[Any]) -> Tensor:
    """Answers tanh of x and its condition, row by row."""
    return torch.tanh(x + x.new_tensor(list(conds)).reshape(-1, 1, 1, 1))


def job(guidance: Guidance, sampler: str = "ddim", seed: int = 1, levels: Sequence[Level] = LEVELS) -> Job:
    conds = {name: seed / 5 + place for place, name in enumerate(("cond", "uncond", *EXTRA))}
    shape = (4, 8, 8)
    start, noise = start_noise(seed, shape), Fresh(seed, shape)
    return Job(SAMPLERS[sampler].bind(PATH), levels, levels[0].sigma * start, noise, guidance, conds)


def last(each: Job) -> Tensor:
    return list(sample(network, each))[-1].x


def with_both(guidance: Guidance) -> Guidance:
    """The same, asking "uncond" at every level for the samplers that need it."""
    if isinstance(guidance, CFG | APG | ZeroStar):
        return replace(guidance, both=True)
    if isinstance(guidance, Interval):
        return replace(guidance, inside=with_both(guidance.inside), outside=CFG(1.0, both=True))
    if isinstance(guidance, Unguided):
        return CFG(1.0, both=True)
    assert isinstance(guidance, Push | Rescaled | Threshold)
    return replace(guidance, inside=with_both(guidance.inside))


@pytest.mark.parametrize("sampler", sorted(SAMPLERS))
def test_every_rule_draws_with_every_sampler_or_refuses(sampler: str) -> None:
    levels = SCHEDULES["trailing"](PATH, 3)
    wants = SAMPLERS[sampler].uncond
    plain = last(job(CFG(1.0, both=wants), sampler, levels=levels))
    for name, guidance in WHOLE.items():
        if name in ("steps", "by step"):
            guidance = CFG(ByStep(tuple(levels), (9.0, 5.0, 3.0)))
        if wants and not all("uncond" in guidance.branches(level) for level in levels[:-1]):
            with pytest.raises(RequestError, match="needs the unguided answer"):
                job(guidance, sampler, levels=levels)
        drawn = last(job(with_both(guidance) if wants else guidance, sampler, levels=levels))
        assert torch.isfinite(drawn).all(), name
        assert torch.equal(drawn, plain) == (name in ("unguided", "both")), name


def test_strangers_do_not_share_what_a_rule_remembers_and_a_job_can_be_run_twice() -> None:
    rule = Push(Interval(APG(6.0, momentum=-0.8), 0.0, 50.0), "weak", 1.0)
    jobs = [job(rule, "dpmpp_2m", seed) for seed in (1, 2, 3)]
    alone = [last(each) for each in jobs]
    together: dict[int, Tensor] = {place: step.x for place, step in sample_many(network, jobs)}
    for place, picture in enumerate(alone):
        assert torch.equal(together[place], picture)
        assert torch.equal(last(jobs[place]), picture)
    forgetful = last(job(Push(Interval(APG(6.0), 0.0, 50.0), "weak", 1.0), "dpmpp_2m", 1))
    assert not torch.equal(forgetful, alone[0]), "what is remembered matters"


def test_a_run_stopped_half_way_leaves_nothing_to_the_next() -> None:
    each = job(APG(6.0, momentum=0.9))
    whole, steps = last(each), sample(network, each)
    next(steps)
    steps.close()
    assert torch.equal(last(each), whole)


def test_scale_zero_answers_without_the_condition() -> None:
    assert torch.equal(CFG(0.0).combine(X, LEVEL, BOTH).x0, UNCOND)


def test_guidance_exaggerates_the_difference_linearly() -> None:
    got = CFG(7.5).combine(X, LEVEL, BOTH)
    torch.testing.assert_close(got.x0, UNCOND + 7.5 * (COND - UNCOND))
    assert got.uncond is not None
    assert torch.equal(got.uncond, UNCOND)


@pytest.mark.parametrize("rule", [CFG, partial(APG, momentum=0.5), partial(ZeroStar, prediction="v")])
def test_who_asks_for_both_is_answered_both_at_any_scale(rule: Callable[..., Guidance]) -> None:
    for scale in (1.0, 3.0):
        guidance = rule(scale, both=True)
        assert guidance.branches(LEVEL) == ("cond", "uncond")
        for whole in (guidance, Push(guidance, "weak", 1.0), Rescaled(guidance, 0.5, "v"), Threshold(guidance)):
            uncond = whole.combine(X, LEVEL, ALL).uncond
            assert uncond is not None and torch.equal(uncond, UNCOND)


@pytest.mark.parametrize("kind", ["eps", "v", "x0"])
def test_rescale_pulls_the_spread_of_what_the_network_says(kind: str) -> None:
    full = CFG(7.5, rescale=1.0, prediction=kind).combine(X, LEVEL, BOTH).x0
    wanted, got = said(kind, X, COND, LEVEL).std(), said(kind, X, full, LEVEL).std()
    torch.testing.assert_close(got, wanted, rtol=1e-10, atol=0)
    none = CFG(7.5, rescale=0.0, prediction=kind).combine(X, LEVEL, BOTH).x0
    half = CFG(7.5, rescale=0.5, prediction=kind).combine(X, LEVEL, BOTH).x0
    torch.testing.assert_close(half, (full + none) / 2, rtol=1e-10, atol=1e-10)
    around = Rescaled(CFG(7.5), 0.5, kind).combine(X, LEVEL, BOTH)
    assert torch.equal(around.x0, half)


def test_rescale_is_finite_at_pure_noise_for_a_v_network() -> None:
    noise = Level(0.0, 1.0, 999.0)
    got = CFG(7.5, rescale=0.7, prediction="v").combine(X, noise, BOTH).x0
    out = -(UNCOND + 7.5 * (COND - UNCOND))
    out = 0.7 * out * (COND.std() / out.std()) + 0.3 * out
    torch.testing.assert_close(got, denoised("v", X, out, noise))


def test_an_interval_guides_above_its_lower_noise_and_up_to_its_higher_and_asks_less_elsewhere() -> None:
    low, high = (level.sigma / level.alpha for level in (QUIET, NOISY))
    rule = Interval(CFG(5.0), low, high)
    for level, guides in ((QUIET, False), (LEVEL, True), (NOISY, True), (PATH.level(901), False), (CLEAN, False)):
        assert rule.branches(level) == (("cond", "uncond") if guides else ("cond",))
        got = rule.combine(X, level, asked(rule, level)).x0
        assert torch.equal(got, CFG(5.0).combine(X, level, BOTH).x0 if guides else COND)
    assert Interval(CFG(5.0)).branches(Level(0.0, 1.0, 999.0)) == ("cond", "uncond")


def test_a_push_is_a_step_away_from_its_branch_and_asks_nothing_where_it_is_off() -> None:
    rule = Push(CFG(3.0), "perturbed", 2.0, low=0.5, high=5.0)
    assert rule.branches(LEVEL) == ("cond", "uncond", "perturbed")
    got = rule.combine(X, LEVEL, ALL).x0
    torch.testing.assert_close(got, UNCOND + 3.0 * (COND - UNCOND) + 2.0 * (COND - ALL["perturbed"]))
    for level in (QUIET, Level(0.01, 1.0, 999.0)):
        assert rule.branches(level) == ("cond", "uncond")
        assert torch.equal(rule.combine(X, level, BOTH).x0, CFG(3.0).combine(X, level, BOTH).x0)


def test_autoguidance_is_guidance_with_the_weaker_network_as_the_other_branch() -> None:
    got = Push(Unguided(), "weak", 3.0 - 1.0).combine(X, LEVEL, ALL).x0
    torch.testing.assert_close(got, ALL["weak"] + 3.0 * (COND - ALL["weak"]))


def test_a_push_from_uncond_asks_it_even_where_nothing_else_does() -> None:
    rule = Push(Interval(CFG(3.0), 100.0, 200.0), "degraded", 2.0, base="uncond")
    assert rule.branches(LEVEL) == ("cond", "uncond", "degraded")
    torch.testing.assert_close(rule.combine(X, LEVEL, ALL).x0, COND + 2.0 * (UNCOND - ALL["degraded"]))


def test_projected_guidance_leaves_out_what_lies_along_the_condition() -> None:
    def dot(a: Tensor, b: Tensor) -> float:
        return float((a * b).sum())

    delta = COND - UNCOND
    push = APG(2.0).combine(X, LEVEL, BOTH).x0 - COND
    assert abs(dot(push, COND)) < 1e-10 < abs(dot(delta, COND))
    torch.testing.assert_close(push - delta, -dot(delta, COND) / dot(COND, COND) * COND)
    torch.testing.assert_close(APG(7.5, eta=1.0).combine(X, LEVEL, BOTH).x0, CFG(7.5).combine(X, LEVEL, BOTH).x0)


def test_projected_guidance_shortens_what_is_longer_than_its_threshold() -> None:
    longest = float((COND - UNCOND).norm())
    for threshold, length in ((0.5 * longest, 0.5 * longest), (2.0 * longest, longest)):
        push = APG(2.0, eta=1.0, threshold=threshold).combine(X, LEVEL, BOTH).x0 - COND
        assert float(push.norm()) == pytest.approx(length, rel=1e-12)


def test_momentum_adds_what_was_before_with_its_weight() -> None:
    run = begin(APG(2.0, eta=1.0, momentum=-0.5))
    first = run.combine(X, LEVEL, BOTH).x0
    second = run.combine(X, LEVEL, {"cond": COND, "uncond": X}).x0
    third = run.combine(X, LEVEL, BOTH).x0
    torch.testing.assert_close(first, COND + (COND - UNCOND))
    torch.testing.assert_close(second, COND + (COND - X) - 0.5 * (COND - UNCOND))
    torch.testing.assert_close(third, COND + (COND - UNCOND) - 0.5 * (COND - X) + 0.25 * (COND - UNCOND))


def test_cfg_zero_fits_uncond_to_the_condition_before_it_guides() -> None:
    c, u = (said("flow", X, x0, LEVEL) for x0 in (COND, UNCOND))
    s = (c.flatten() @ u.flatten()) / (u.flatten() @ u.flatten())
    fit = torch.linalg.lstsq(u.flatten()[:, None], c.flatten()[:, None]).solution[0, 0]
    torch.testing.assert_close(s, fit)
    got = said("flow", X, ZeroStar(4.0).combine(X, LEVEL, BOTH).x0, LEVEL)
    torch.testing.assert_close(got, s * u + 4.0 * (c - s * u), rtol=1e-8, atol=1e-8)


def test_the_first_steps_of_cfg_zero_stand_still_and_ask_one_question() -> None:
    rule = ZeroStar(4.0, "flow", still_until(tuple(LEVELS[:-1]), 2))
    assert [len(rule.branches(level)) for level in LEVELS[:-1]] == [1, 1, 2, 2]
    for level in LEVELS[:2]:
        x0 = rule.combine(X, level, {"cond": COND}).x0
        torch.testing.assert_close(said("flow", X, x0, level), torch.zeros_like(X), rtol=0, atol=1e-12)
    assert still_until(tuple(LEVELS), 0) is None


def test_a_scale_for_each_step_holds_from_its_level_to_the_next() -> None:
    assert [STEPPED(level) for level in LEVELS] == [9.0, 5.0, 1.0, 3.0, 3.0]
    between = PATH.at((LEVELS[1].lam + LEVELS[2].lam) / 2)
    assert STEPPED(between) == 5.0
    assert STEPPED(Level(0.0, 1.0, 999.0)) == 9.0
    assert [len(CFG(STEPPED).branches(level)) for level in LEVELS[:-1]] == [2, 2, 1, 2]
    assert torch.equal(CFG(STEPPED).combine(X, LEVELS[1], BOTH).x0, CFG(5.0).combine(X, LEVELS[1], BOTH).x0)


@pytest.mark.parametrize("rule", [CFG, APG, partial(Push, Unguided(), "uncond")])
def test_every_view_has_the_scale_that_is_its_own(rule: Callable[..., Guidance]) -> None:
    views = [{"cond": ALL[a], "uncond": ALL[b]} for a, b in (("cond", "uncond"), ("weak", "perturbed"))]
    scene = {name: torch.stack([view[name] for view in views], dim=2) for name in BOTH}
    got = rule((2.0, 5.0)).combine(torch.stack([X, X], dim=2), LEVEL, scene).x0
    if rule is not APG:  # which measures the whole scene
        for place, (view, scale) in enumerate(zip(views, (2.0, 5.0))):
            torch.testing.assert_close(got[:, :, place], rule(scale).combine(X, LEVEL, view).x0)
    even = rule((2.0, 2.0)).combine(torch.stack([X, X], dim=2), LEVEL, scene).x0
    torch.testing.assert_close(even, rule(2.0).combine(torch.stack([X, X], dim=2), LEVEL, scene).x0)
    for x, answers in ((X, BOTH), (torch.stack([X] * 3, 2), {n: torch.stack([t] * 3, 2) for n, t in BOTH.items()})):
        with pytest.raises(RequestError, match=r"2 scales of guidance were given for [13] views"):
            rule((2.0, 5.0)).combine(x, LEVEL, answers)


def test_a_threshold_brings_answers_back_to_their_range_and_leaves_the_others() -> None:
    loud = CFG(8.0).combine(X, LEVEL, BOTH).x0
    got = Threshold(CFG(8.0), 0.9, limit=1.5).combine(X, LEVEL, BOTH).x0
    reach = torch.quantile(loud.abs().flatten(), 0.9)
    torch.testing.assert_close(got, loud.clamp(-reach, reach) / reach * 1.5)
    assert float(got.abs().max()) == pytest.approx(1.5)
    assert torch.equal(Threshold(CFG(8.0), 1.0, limit=100.0).combine(X, LEVEL, BOTH).x0, loud)


@pytest.mark.parametrize("share", [0.01, 0.5, 0.995, 1.0])
def test_quantiles_are_those_of_torch(share: float) -> None:
    torch.testing.assert_close(quantile(X, share).flatten(), torch.quantile(X, share).reshape(1))


BAD: list[tuple[Callable[[], Any], str]] = [
    *((partial(CFG, scale), "guidance scale") for scale in (math.nan, math.inf, (1.0, math.nan))),
    *((partial(CFG, 7.0, rescale=amount), "rescale") for amount in (-0.1, 1.1, math.nan)),
    (partial(Rescaled, Unguided(), 2.0), "rescale"),
    (partial(APG, math.nan), "guidance scale"),
    *((partial(APG, 7.0, eta=eta), "eta of projected") for eta in (-0.1, 1.5, math.nan)),
    *((partial(APG, 7.0, threshold=longest), "threshold of projected") for longest in (0.0, -1.0, math.nan)),
    *((partial(APG, 7.0, momentum=weight), "momentum of projected") for weight in (1.0, -1.0, math.nan)),
    (partial(ZeroStar, math.inf), "guidance scale"),
    *(
        (partial(Interval, CFG(2.0), *ends), "interval of guidance")
        for ends in ((1, 1), (2, 1), (-1, 1), (math.nan, 1))
    ),
    (partial(Push, CFG(2.0), "weak", math.nan), "guidance scale"),
    (partial(Push, CFG(2.0), "weak", 1.0, low=3.0, high=2.0), "interval of guidance"),
    *((partial(Threshold, CFG(2.0), share), "percentile") for share in (0.0, 1.1, math.nan)),
    *((partial(Threshold, CFG(2.0), 0.9, limit), "limit") for limit in (0.0, math.inf, math.nan)),
    (partial(ByStep, tuple(LEVELS), (1.0, 2.0)), "2 scales of guidance were given for 4 steps"),
    (partial(ByStep, tuple(LEVELS), (1.0, 2.0, 3.0, math.nan)), "guidance scale"),
]


@pytest.mark.parametrize(("make", "words"), BAD)
def test_numbers_that_are_none_are_refused(make: Callable[[], Any], words: str) -> None:
    with pytest.raises(RequestError, match=words):
        make()
