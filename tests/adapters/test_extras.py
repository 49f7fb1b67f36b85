"""Adapters without weights in whole pictures: every task, every kind of sampler, any company, and their recipes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from safelight.adapters.freeu import FreeU
from safelight.adapters.reference import Reference
from safelight.adapters.regions import Region, Regions
from safelight.adapters.style import Style
from safelight.adapters.use import Use
from safelight.core.samplers.table import SAMPLERS
from safelight.errors import RequestError
from safelight.generate.guiding import Rule
from safelight.generate.hires import Hires
from safelight.generate.pipe import load
from safelight.generate.recipe import Recipe
from safelight.generate.request import Request
from tests.cascade import tiny_cascade
from tests.generate.scenes import PROMPT, mask, picture, pipe
from tests.models import tiny

USES: dict[str, Use] = {
    "freeu": FreeU(1.4, 1.6, 0.9, 0.2),
    "reference": Reference(picture(seed=1), spread=True),
    "style": Style(picture(seed=2)),
    "regions": Regions((Region(mask(), "a red hat"),), 0.2),
}
ALL = tuple(USES.values())


def drawn(kind: str = "sd1", **fields: Any) -> Tensor:
    (found,) = pipe(kind).draw(Request(**{"prompt": PROMPT, "seed": 3, "steps": 2, **fields}))
    assert found.latents.isfinite().all()
    return found.latents


@pytest.mark.parametrize("name", USES)
def test_every_task_takes_it(name: str) -> None:
    tasks: list[tuple[str, dict[str, Any]]] = [
        ("sd1", {"image": picture(), "strength": 0.8}),
        ("sd2", {"image": picture(), "mask": mask()}),
        ("inpaint", {"image": picture(), "mask": mask(), "size": (48, 32)}),
        ("sdxl", {"guidance": 1.0, "hires": Hires(1.5)}),
    ]
    for kind, fields in tasks:
        assert not torch.equal(drawn(kind, **fields), drawn(kind, **fields, adapters=[USES[name]])), fields


@pytest.mark.parametrize("sampler", ["ddim", "heun", "dpmpp_2m_sde", "euler_cfg_pp"])
def test_samplers_of_every_kind_draw_with_all_of_them_guided_or_not(sampler: str) -> None:
    for guidance in (1.0, 3.0):
        guided = {"guidance": 0.4 if SAMPLERS[sampler].uncond and guidance > 1 else guidance, "sampler": sampler}
        assert not torch.equal(drawn(**guided, adapters=ALL), drawn(**guided))


def test_strangers_change_nothing_whatever_the_width() -> None:
    sets = [(), *((use,) for use in ALL), ALL]
    for rows in (0, 5):
        asked = [Request(PROMPT, seed=4, steps=2, rows=rows, adapters=each) for each in sets]
        asked.append(replace(asked[1], guidance=1.0))
        wanted = [pipe().draw(each)[0].latents for each in asked]
        for found, alone in zip(pipe().draw_many(asked[::-1]), wanted[::-1], strict=True):
            assert torch.equal(found.latents, alone)
    assert len({each.numpy().tobytes() for each in wanted}) == len(wanted)


def test_a_series_has_the_pictures_that_its_seeds_have_alone() -> None:
    asked = Request(PROMPT, seed=8, steps=2, adapters=ALL)
    for found, one in zip(pipe().draw(asked, 3), asked.series(3), strict=True):
        assert torch.equal(found.latents, pipe().draw(one)[0].latents)


@pytest.mark.parametrize("rule", ["pag", "seg", "slg", "sag"])
def test_rules_of_guidance_lead_on(rule: str) -> None:
    """What is made worse on purpose is made worse of the picture with its adapters."""
    for uses in (ALL[1:2], ALL):
        plain, led = (drawn(adapters=uses, rules=rules) for rules in ((), (Rule(rule),)))
        assert not torch.equal(plain, led)


def test_the_order_matters_nowhere_but_between_those_that_share_a_layer() -> None:
    pairs = [("freeu", "regions"), ("freeu", "style"), ("reference", "regions"), ("regions", "style")]
    for first, second in pairs:
        there, back = (drawn(adapters=[USES[name] for name in order]) for order in ((first, second), (second, first)))
        assert torch.equal(there, back), (first, second)


def test_a_reference_keeps_to_its_picture_and_its_seed() -> None:
    plain = drawn(adapters=[Reference(picture(seed=1))])
    others = [{"adapters": [Reference(picture(seed=2))]}, {"adapters": [Reference(picture(seed=1), 0.6)]}]
    for fields in (*others, {"adapters": [Style(picture(seed=1))]}):
        assert not torch.equal(drawn(**fields), plain)
    assert torch.equal(drawn(adapters=[Reference(picture(seed=1))]), plain)


def test_recipes_name_what_was_given() -> None:
    (found,) = pipe().draw(Request(PROMPT, steps=1, adapters=ALL))
    assert found.recipe.adapters == [dict(use.told()) for use in ALL]
    assert Recipe.from_json(found.recipe.json()) == found.recipe
    assert [each["kind"] for each in found.recipe.adapters] == list(USES)
    assert FreeU(1, 1, 1, 0.5) == FreeU(1, 1, 1, 0.5) != FreeU(1, 1, 1, 0.6)
    assert Reference(picture(seed=1), spread=True) == USES["reference"] != Reference(picture(seed=3), spread=True)


@pytest.mark.parametrize("name", USES)
def test_networks_without_ports_refuse(name: str) -> None:
    bare = load(str(tiny_cascade()), device="cpu", threads=1)
    with pytest.raises(RequestError, match="no ports for adapters"):
        bare.settle(Request(PROMPT, adapters=[USES[name]]))


@pytest.mark.slow
@pytest.mark.parametrize("name", USES)
def test_compiled_networks_draw_the_same(name: str) -> None:
    own = load(str(tiny()), device="cpu", threads=1)
    own.model.network.compile()
    request = Request(PROMPT, seed=3, steps=2, adapters=[USES[name]])
    torch.testing.assert_close(own.draw(request)[0].latents, pipe().draw(request)[0].latents, rtol=1e-3, atol=1e-3)
