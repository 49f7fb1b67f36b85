"""Rules of guidance in whole pictures: same bits among strangers, the same again from a recipe, or a refusal."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

from safelight.core.samplers.table import SAMPLERS
from safelight.errors import ImageError, RequestError, SafelightError, UnknownNameError
from safelight.generate import image as task
from safelight.generate.guiding import RULES, Rule, read
from safelight.generate.pipe import Pipe
from safelight.generate.recipe import Recipe
from safelight.generate.reproduce import redraw, request_of
from safelight.generate.request import Request
from tests.generate.scenes import PROMPT, mask, picture, pipe


@cache
def own(kind: str = "sd1") -> Pipe:
    """A tiny pipe with a weaker model of another kind of prediction."""
    return replace(pipe(kind), weak=pipe("sd2"))


def requests(rows: int = 0) -> list[Request]:
    """One of every rule, and some of several."""
    rules = [(Rule(name),) for name in RULES]
    rules += [(Rule("pag"), Rule("seg", {"blur": 1.0}), Rule("slg", {"scale": 1}), Rule("apg"), Rule("sag"))]
    rules += [(Rule("pag", {"layers": "down_blocks.0+mid"}), Rule("autoguidance"), Rule("threshold", {"limit": 9}))]
    every = [Request(PROMPT, steps=2, seed=place, rules=each, rows=rows) for place, each in enumerate(rules)]
    every += [
        Request(PROMPT, steps=2, seed=30, guidance=1.0, rules=(Rule("sag"),), rows=rows),
        Request(PROMPT, steps=2, seed=31, guidance=(7, 3), rows=rows),
        Request(PROMPT, steps=2, seed=32, interval=(0.1, 5), rows=rows),
        Request(PROMPT, steps=2, seed=33, size=(32, 48), rules=(Rule("seg", {"blur": 0.7}), Rule("sag")), rows=rows),
        Request(PROMPT, steps=2, seed=34, rows=rows),
    ]
    return every


@pytest.mark.parametrize("rows", [0, 4])
def test_every_rule_has_the_same_bits_alone_and_among_strangers(rows: int) -> None:
    together = own().draw_many(requests(rows)[::-1])[::-1]
    for request, drawn in zip(requests(rows), together, strict=True):
        (alone,) = own().draw(request)
        assert torch.equal(alone.latents, drawn.latents), request
        assert alone.recipe == drawn.recipe
    assert len({drawn.image.tobytes() for drawn in together}) == len(together)


def test_every_rule_is_drawn_again_from_its_recipe() -> None:
    for request in requests():
        (drawn,) = own().draw(request)
        recipe = Recipe.from_json(drawn.recipe.json())
        assert recipe.rules == drawn.recipe.rules and recipe.interval == drawn.recipe.interval
        again = redraw(recipe, own())
        assert torch.equal(again.latents, drawn.latents)
        assert again.recipe == drawn.recipe
        assert (recipe.weak is None) == all(rule.name != "autoguidance" for rule in request.rules)
        assert isinstance(recipe.parameters(), str)


@pytest.mark.parametrize("name", RULES)
def test_every_option_of_a_rule_changes_the_picture(name: str) -> None:
    other: dict[str, float | str] = {
        **dict.fromkeys(("low", "limit", "high", "steps"), 2.0),
        **dict.fromkeys(("eta", "momentum", "blur", "percentile"), 0.4),
        **dict.fromkeys(("threshold", "scale"), 1.5),
        "layers": "up_blocks",
    }
    first = Request(PROMPT, steps=4, rules=(Rule(name),))
    (plain,) = own().draw(first)
    for option in RULES[name].options:
        (changed,) = own().draw(replace(first, rules=(Rule(name, {option: other[option]}),)))
        assert not torch.equal(plain.latents, changed.latents), option


@pytest.mark.parametrize("name", ["ddim", "heun", "dpmpp_2m_sde", "euler_cfg_pp"])
def test_rules_draw_with_samplers_of_every_kind(name: str) -> None:
    guidance = 0.4 if SAMPLERS[name].uncond else 3.0
    for request in (
        Request(PROMPT, steps=3, guidance=guidance, rules=(Rule("apg"), Rule("pag")), sampler=name),
        Request(PROMPT, steps=3, guidance=1.0, rules=(Rule("slg"), Rule("autoguidance")), sampler=name),
        Request(PROMPT, steps=3, guidance=(2, 1, 3), rules=(Rule("cfg-zero"), Rule("sag")), sampler=name),
    ):
        (drawn,) = own().draw(request)
        assert drawn.latents.isfinite().all()


def test_an_interval_and_guidance_that_counts_by_steps_are_refused_together() -> None:
    with pytest.raises(RequestError, match="leave the interval out"):
        own().settle(Request(PROMPT, guidance=0.4, interval=(0.1, 9), sampler="euler_cfg_pp"))


def asked(request: Request, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Rows of every network call."""
    widths: list[int] = []
    network = own().model.network
    forward = network.forward

    def watched(x: Tensor, *told: object, **more: object) -> Tensor:
        widths.append(len(x))
        return forward(x, *told, **more)

    with monkeypatch.context() as patch:
        patch.setattr(network, "forward", watched)
        own().draw(request)
    return widths


def test_an_interval_asks_nothing_more_where_it_is_off(monkeypatch: pytest.MonkeyPatch) -> None:
    first = Request(PROMPT, steps=4, rows=1)
    noise = [level.sigma / level.alpha for level in own().settle(first).levels[:-1]]
    assert len(asked(first, monkeypatch)) == 8
    assert len(asked(replace(first, interval=(noise[2], noise[1])), monkeypatch)) == 5
    off = Rule("pag", {"low": noise[1]})
    assert len(asked(replace(first, rules=(off,)), monkeypatch)) == 8 + 1
    assert len(asked(replace(first, guidance=(3, 1, 1, 3)), monkeypatch)) == 6


def test_perturbed_rows_share_the_call_of_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    assert asked(Request(PROMPT, steps=2, rules=(Rule("pag"), Rule("slg"))), monkeypatch) == [4, 4]
    assert asked(Request(PROMPT, steps=2, rules=(Rule("sag"),)), monkeypatch) == [1] * 8
    assert asked(Request(PROMPT, steps=2, rules=(Rule("autoguidance"),)), monkeypatch) == [1] * 4, "and two of the weak"


def test_autoguidance_leads_away_from_what_the_weaker_model_sees() -> None:
    request = Request(PROMPT, steps=1, guidance=1.0, rules=(Rule("autoguidance", {"scale": 2.5}),))
    (drawn,) = own().draw(request)
    plain = Request(PROMPT, steps=1, guidance=1.0)
    strong, weak = (each.draw(plain)[0].latents for each in (pipe(), pipe("sd2")))
    torch.testing.assert_close(drawn.latents, weak + 2.5 * (strong - weak), rtol=1e-4, atol=1e-4)


def test_rules_work_over_pictures_and_holes_and_with_networks_that_see_them() -> None:
    rules = (Rule("pag"), Rule("sag"), Rule("apg"))
    for kind in ("sd1", "inpaint"):
        whole = Request(PROMPT, steps=4, image=picture(), mask=mask(), strength=0.8)
        (plain,) = pipe(kind).draw(whole)
        (drawn,) = pipe(kind).draw(replace(whole, rules=rules))
        assert not torch.equal(plain.latents, drawn.latents)
    (over,) = pipe().draw(Request(PROMPT, steps=4, image=picture(), strength=0.5, guidance=(9, 8, 7, 6)))
    (same,) = pipe().draw(Request(PROMPT, steps=4, image=picture(), strength=0.5, guidance=(1, 1, 7, 6)))
    assert torch.equal(over.latents, same.latents), "a scale belongs to its noise, not to the first step that is run"


def test_a_distilled_network_is_told_the_scale_and_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    settled = pipe("lcm").settle(Request(PROMPT, guidance=4.0))
    assert (settled.branches, settled.rows) == (1, 1)
    two = [pipe("lcm").draw(Request(PROMPT, steps=2, guidance=scale))[0] for scale in (1.0, 4.0)]
    assert not torch.equal(two[0].latents, two[1].latents)
    assert pipe("lcm").draw(Request(PROMPT, steps=2, rules=(Rule("pag"),)))[0].latents.isfinite().all()


UNFIT: list[tuple[str, dict[str, Any], str]] = [
    ("sd1", {"guidance": (1, 2, 3)}, "3 scales of guidance for 4 steps"),
    ("sd1", {"guidance": 1, "interval": (0, 1)}, "an interval of guidance does nothing at guidance 1"),
    ("sd1", {"guidance": (1, 1, 1, 1), "rescale": 0.5}, "rescale does nothing at guidance 1"),
    ("sd1", {"interval": (200, 300)}, "from noise 200 to 300 meets no level"),
    ("sd1", {"rules": (Rule("pag", {"low": 200}),)}, "the rule pag from noise 200 to inf meets no level"),
    ("sd1", {"rules": (Rule("autoguidance"),)}, "give one"),
    (
        "sd1",
        {"rules": (Rule("pag", {"layers": "mid+middle"}),)},
        "unknown layer for pag 'middle'; the nearest known: mid",
    ),
    (
        "sd1",
        {"rules": (Rule("slg", {"layers": "mid_block.attentions.0.transformer_blocks.0.attn1"}),)},
        "nearest known",
    ),
    ("sd1", {"rules": (Rule("cfg-zero", {"steps": 1.5}),)}, "a whole number below the 4 steps"),
    ("lcm", {"guidance": (1, 2, 3, 4)}, "a scale for each step does nothing here: guidance was distilled"),
    ("lcm", {"negative": "green"}, "a negative prompt does nothing here"),
    ("lcm", {"rescale": 0.5}, "rescale does nothing here"),
    ("lcm", {"interval": (0, 1)}, "an interval of guidance does nothing here"),
    ("lcm", {"rules": (Rule("apg"),)}, "the rule apg does nothing here"),
    ("lcm", {"sampler": "euler_cfg_pp"}, "without CFG"),
]


@pytest.mark.parametrize(("kind", "change", "words"), UNFIT)
def test_what_would_do_nothing_or_cannot_be_done_is_refused(kind: str, change: dict[str, Any], words: str) -> None:
    with pytest.raises(RequestError, match=words):
        pipe(kind).settle(Request(PROMPT, **{"steps": 4, **change}))


def test_a_model_without_ports_and_a_weaker_one_of_other_latents_are_refused() -> None:
    bare = replace(pipe(), model=replace(pipe().model, ported=None))
    for name in ("pag", "seg", "slg", "sag"):
        with pytest.raises(RequestError, match=f"offers no port for {name}"):
            bare.settle(Request(PROMPT, rules=(Rule(name),)))
    auto = Request(PROMPT, rules=(Rule("autoguidance"),))
    for kind, words in (("inpaint", "other inputs"), ("lcm", "other inputs")):
        with pytest.raises(RequestError, match=words):
            replace(pipe(), weak=pipe(kind)).settle(auto)
    wide = replace(pipe().model, latent=replace(pipe().model.latent, scale=0.1))
    with pytest.raises(RequestError, match="other latents"):
        replace(pipe(), weak=replace(pipe(), model=wide)).settle(auto)


BAD: list[tuple[str, dict[str, Any], str]] = [
    ("pga", {}, "unknown rule of guidance 'pga'; the nearest known: "),
    ("pag", {"blur": 1}, "unknown option of pag 'blur'"),
    ("pag", {"scale": 0}, "pag at scale 0 does nothing"),
    ("autoguidance", {"scale": 1}, "autoguidance at scale 1 does nothing"),
    ("pag", {"scale": "much"}, "option scale of pag must lie between -100 and 100, not 'much'"),
    ("apg", {"eta": math.nan}, "option eta of apg"),
    ("seg", {"low": 2, "high": 1}, "low of seg is not below its high"),
    ("seg", {"blur": 0.1}, "option blur of seg must lie between 0.2 and inf"),
    ("threshold", {"percentile": 0}, "percentile of threshold must lie between 0.01 and 1"),
]


@pytest.mark.parametrize(("name", "options", "words"), BAD)
def test_a_rule_that_cannot_be_is_refused(name: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(SafelightError, match=words) as caught:
        Rule(name, options)
    assert isinstance(caught.value, RequestError | UnknownNameError)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"guidance": ()}, "none was given"),
        ({"guidance": (1.0, math.nan)}, "finite number, not nan"),
        ({"interval": (2, 1)}, "a lower noise, 0 or more, to a higher, not 2 to 1"),
        ({"interval": (-1, 1)}, "not -1 to 1"),
        ({"interval": (0, math.nan)}, "not 0 to nan"),
        ({"rules": (Rule("pag"), Rule("pag"))}, "given twice"),
        ({"rules": (Rule("apg"), Rule("cfg-zero"))}, "both stand in place of plain guidance"),
    ],
)
def test_guidance_that_cannot_be_is_refused(change: dict[str, Any], words: str) -> None:
    with pytest.raises(RequestError, match=words):
        Request(PROMPT, **change)


def test_a_rule_is_read_as_the_command_writes_it() -> None:
    assert read("PAG: scale=2 , layers=mid+down_blocks.1") == Rule("pag", {"scale": 2, "layers": "mid+down_blocks.1"})
    assert read("seg").options == {**RULES["seg"].options}
    for text in ("pag:", "pag:scale", "pag:=2", "pag:scale="):
        with pytest.raises(RequestError, match="NAME or NAME:OPTION=VALUE"):
            read(text)


def test_one_scale_in_a_list_is_a_scale_and_equal_requests_are_equal() -> None:
    assert Request(PROMPT, guidance=[4]) == Request(PROMPT, guidance=4.0)
    assert Request(PROMPT, guidance=[4, 3], rules=[Rule("pag")]) == Request(
        PROMPT, guidance=(4.0, 3.0), rules=(Rule("pag"),)
    )


def test_a_recipe_with_a_damaged_rule_is_an_error_of_the_picture() -> None:
    told = pipe().recipe(pipe().settle(Request(PROMPT, rules=(Rule("pag"),))))
    for rules in ([{"name": "pag"}], [{"name": 3, "options": {}}], [{"name": "pag", "options": {"scale": None}}], {}):
        with pytest.raises(ImageError, match="rules cannot be"):
            Recipe.from_json(replace(told, rules=rules).json())  # type: ignore[arg-type]
    with pytest.raises(ImageError, match="unknown rule"):
        request_of(replace(told, rules=[{"name": "tomorrow", "options": {}}]))


def test_perturbed_rows_leave_the_rows_beside_them_alone() -> None:
    settled = own().settle(Request(PROMPT, rules=(Rule("pag"), Rule("seg"), Rule("slg"))))
    conds = task.read(own().model, settled).conds
    answer, level = task.evaluator(own().model), settled.levels[0]
    x = torch.randn(4, 4, 8, 8, generator=torch.Generator().manual_seed(3))
    names = ("cond", "perturbed", "smoothed", "skipped")
    mixed = answer(x, [level] * 4, [conds[name] for name in names])
    for row, name in enumerate(names):
        same = answer(x, [level] * 4, [conds[name]] * 4)
        assert torch.equal(mixed[row], same[row])
        assert torch.equal(answer(x, [level] * 4, [conds["cond"]] * 4)[row], same[row]) == (name == "cond")
