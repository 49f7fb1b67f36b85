"""Several prompts in one: each asked for itself, weighed by the formula, and guided on as one."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from safelight.cli.main import main
from safelight.core.guidance import CFG
from safelight.core.guides.together import Together, names
from safelight.core.path import Level
from safelight.core.sample import sample
from safelight.encoders.shares import Share, shares, spoken
from safelight.errors import PromptError, RequestError
from safelight.families.family import Prompt
from safelight.generate import image as task
from safelight.generate.guiding import Rule
from safelight.generate.hires import Hires
from safelight.generate.pipe import Drawn, Pipe, load
from safelight.generate.recipe import Recipe
from safelight.generate.reproduce import compare, load_for, request_of
from safelight.generate.request import Request
from tests.cascade import tiny_cascade
from tests.generate.scenes import mask, picture, pipe
from tests.models import tiny

BOTH = "a red hat AND [green|brown] hair :0.5"
ASKED = Request(BOTH, negative="a crown", seed=3, steps=4, sampler="euler", guidance=3.0, emphasis="a1111")


@cache
def exact() -> Pipe:
    """The tiny model in float64."""
    made = load(str(tiny("sd1")), device="cpu", threads=1)
    for module in made.model.modules:
        module.double()
    return made


def drawn(request: Request) -> Drawn:
    return pipe().draw(request)[0]


def ours(request: Request) -> tuple[Tensor, list[Level], Tensor]:
    """Where our run starts, its levels, and what it leaves."""
    settled = exact().settle(request)
    job = task.job(exact().model, settled, task.read(exact().model, settled))
    job = replace(job, x=job.x.double())
    *_, last = sample(task.evaluator(exact().model), job)
    return job.x, settled.levels, last.x


def said(text: str, x: Tensor, now: Level, step: int) -> Tensor:
    """What the network believes x to be under one prompt; a bar stands between what odd and even steps say."""
    text = text.split("|")[step % 2] if "|" in text else text
    cond = exact().model.encode(Prompt(text, (32, 32), negative=text == "a crown", emphasis="a1111")).cond
    eps = exact().model.predict(x, torch.tensor([now.t]).float(), cond)
    return (x - now.sigma * eps) / now.alpha


def by_hand(x: Tensor, levels: list[Level], weights: dict[str, float], scale: float) -> Tensor:
    """Euler's steps over u + scale * sum of w (c - u)."""
    for step, (now, after) in enumerate(pairwise(levels)):
        u = said("a crown", x, now, step)
        ways = (weight * (said(text, x, now, step) - u) for text, weight in weights.items())
        x0 = u + scale * sum(ways, torch.zeros_like(u))
        eps = (x - now.alpha * x0) / now.sigma
        x = after.alpha * x0 + after.sigma * eps
    return x


@pytest.mark.parametrize("scale", [1.0, 3.0])
@pytest.mark.parametrize("weight", [0.5, -0.5, 1.0])
def test_latents_are_those_of_the_formula(scale: float, weight: float) -> None:
    x, levels, left = ours(replace(ASKED, prompt=BOTH.replace("0.5", str(weight)), guidance=scale))
    with torch.no_grad():
        wanted = by_hand(x, levels, {"a red hat": 1.0, "green hair|brown hair": weight}, scale)
        other = by_hand(x, levels, {"a red hat": 1.0, "green hair|brown hair": weight + 0.01}, scale)
    assert (left - wanted).abs().max() < 1e-9 * wanted.abs().max()
    assert (left - other).abs().max() > 1e-6


def test_prompts_are_told_apart_and_elsewhere_and_is_a_word() -> None:
    assert shares("a AND b :0.5 AND (c:1.2) AND d:-1.", "a1111") == (
        *(Share("a"), Share("b", 0.5), Share("(c:1.2)"), Share("d", -1.0)),
    )
    assert shares("a :0.5", "a1111") == (Share("a :0.5"),), "one prompt has no weight of its own"
    assert shares("a and b ANDY", "a1111") == (Share("a and b ANDY"),)
    for name in ("none", "comfyui", "compel"):
        assert shares("a AND b:2", name) == (Share("a AND b:2"),)
        small = Request("a red hat AND a crown", seed=3, steps=2, emphasis=name)
        assert torch.equal(drawn(small).latents, drawn(replace(small, prompt="a red hat and a crown")).latents)
    assert spoken("a [b|c] AND (d)", "a1111", 2) == ["a b", "a c", "d"]


def test_shares_of_one_prompt_are_that_prompt() -> None:
    alone = drawn(replace(ASKED, prompt="a red hat")).latents
    for prompt in ("a red hat:0.25 AND a red hat:0.75", "a red hat AND a crown:0", "a red hat:3 AND a red hat:-2"):
        assert (drawn(replace(ASKED, prompt=prompt)).latents - alone).abs().max() < 1e-3
    assert (drawn(replace(ASKED, prompt="a red hat AND a red hat")).latents - alone).abs().max() > 0.1


@pytest.mark.parametrize(
    "change",
    [
        {"sampler": "euler_cfg_pp"},
        {"interval": (0.0, 5.0)},
        {"rescale": 0.5},
        {"rules": (Rule("apg"),)},
        {"rules": (Rule("threshold"),)},
        {"guidance": (3.0, 1.0, 2.0, 1.0)},
        {"image": picture(), "strength": 0.6},
        {"image": picture(), "mask": mask()},
        {"hires": Hires(1.5)},
        {"prompt": BOTH + " AND " + "red " * 80},
        {"guidance": 1.0},
    ],
    ids=lambda change: " ".join(change),
)
def test_it_goes_with_everything_that_follows_one_prompt(change: dict[str, object]) -> None:
    asked = replace(ASKED, **change)  # type: ignore[arg-type]
    first = drawn(asked)
    assert first.latents.isfinite().all()
    assert not torch.equal(first.latents, drawn(replace(ASKED, prompt="a red hat")).latents)
    recipe = Recipe.from_json(first.recipe.json())
    again = load_for(recipe, str(pipe().folder)).draw(request_of(recipe, asked.image, asked.mask))[0]
    assert compare(first.image, again.image).equal


def test_company_changes_no_bit() -> None:
    several = [replace(ASKED, prompt=prompt, rows=3) for prompt in (BOTH, "a red hat", "a AND b AND c AND d")]
    together = pipe().draw_many(several)
    for each, one in zip(several, together, strict=True):
        assert torch.equal(drawn(each).latents, one.latents)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"rules": (Rule("pag"),)}, RequestError, "the rule pag goes beside one prompt"),
        ({"negative": "a AND b"}, PromptError, "AND composes what is to be drawn"),
        ({"prompt": "a AND b:101"}, PromptError, "100"),
        ({"prompt": " AND ".join("a" * 17)}, PromptError, "17 prompts are joined by AND; 16 are the most"),
        ({"prompt": "a:0.5 AND b:0.5", "guidance": 1.0}, RequestError, "a negative prompt does nothing at guidance 1"),
        ({"prompt": "a AND [b:c:-1]"}, PromptError, "cannot change at -1"),
    ],
)
def test_what_cannot_be_is_refused_before_the_first_step(
    change: dict[str, object], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        pipe().settle(replace(ASKED, **change))  # type: ignore[arg-type]


def test_networks_that_are_not_asked_twice_or_draw_on_refuse_it() -> None:
    distilled = replace(pipe(), model=replace(pipe().model, tell=lambda cond, scale: cond))
    with pytest.raises(RequestError, match="guidance was distilled"):
        distilled.settle(replace(ASKED, negative=""))
    with pytest.raises(RequestError, match="another draws on"):
        load(str(tiny_cascade()), device="cpu", threads=1).settle(Request(BOTH, emphasis="a1111"))


def test_a_constant_answer_stays_and_weights_must_be_numbers() -> None:
    rule, level, x = Together(CFG(4.0), (0.3, 2.0)), Level(0.8, 0.6, 500.0), torch.ones(1, 4, 2, 2)
    assert rule.branches(level) == (*names(2), "uncond") == ("cond", "cond 2", "uncond")
    assert torch.equal(rule.combine(x, level, dict.fromkeys(rule.branches(level), x)).x0, x)
    for wrong in ((), (float("nan"), 1.0)):
        with pytest.raises(RequestError, match="finite numbers"):
            Together(CFG(4.0), wrong)


def test_explain_shows_each_prompt(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", BOTH, "--emphasis", "a1111", "--steps", "4"]) == 0
    said = capsys.readouterr().out
    assert "prompt 1, weight 1, every step: 'a red hat'" in said
    assert "prompt 2, weight 0.5, steps 1, 3: 'green hair'" in said
    assert main(["explain", BOTH, "--emphasis", "a1111", "--steps", "4", "--json"]) == 0
    stages = json.loads(capsys.readouterr().out)["stages"]
    assert [(each["prompt"], each["weight"]) for each in stages] == [(1, 1.0), (2, 0.5), (2, 0.5)]
    assert main(["explain", "a red hat", "--json"]) == 0
    assert "weight" not in json.loads(capsys.readouterr().out)["stages"][0]
