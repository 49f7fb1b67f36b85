"""What a request uses of adapters: it touches its own rows, its own steps and its own side of the guidance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from safelight.adapters.use import WHOLE, Aids, Call, Place, Span
from safelight.core.path import Level
from safelight.errors import RequestError
from safelight.families.family import Model
from safelight.generate.recipe import Recipe
from safelight.generate.request import Request
from safelight.nn.ports import Ports
from tests.generate.scenes import PROMPT, mask, picture, pipe, requests


@dataclass(frozen=True, eq=False)
class Push:
    """Adds a constant to the middle of the network."""

    amount: float
    span: Span
    levels: Sequence[Level]

    def on(self, level: Level) -> bool:
        return self.span.holds(self.levels, level)

    def ports(self, call: Call, rows: Tensor, inner: Ports) -> Ports:
        own = torch.where(rows, self.amount, 0.0).reshape(-1, 1, 1, 1).to(call.x.dtype)
        return replace(inner, mid_residual=own if inner.mid_residual is None else inner.mid_residual + own)


@dataclass(frozen=True)
class PushUse:
    """The use of a `Push`; counts nothing, draws nothing."""

    amount: float = 0.0
    away: float = 0.0
    span: Span = WHOLE
    seeded: bool = False

    def check(self, model: Model, size: tuple[int, int]) -> None:
        self.span.check("a push")

    def ready(self, place: Place) -> Aids:
        sides = (Push(each, self.span, place.levels) if each else None for each in (self.amount, self.away))
        return Aids(*sides)

    def told(self) -> Mapping[str, Any]:
        return {"kind": "push", "name": "push", "files": {}, "amount": self.amount, "away": self.away}


def drawn(**fields: Any) -> Tensor:
    (found,) = pipe().draw(Request(PROMPT, **{"seed": 3, "steps": 4, **fields}))
    return found.latents


def test_an_adapter_changes_the_picture_on_either_side_of_the_guidance_and_twice_is_more() -> None:
    plain, cond, away, both = (
        drawn(adapters=uses) for uses in ((), (PushUse(0.5),), (PushUse(away=0.5),), (PushUse(0.5), PushUse(0.5)))
    )
    found = [plain, cond, away, both]
    assert len({each.numpy().tobytes() for each in found}) == len(found)
    assert torch.equal(drawn(adapters=(PushUse(),)), plain)
    assert torch.equal(both, drawn(adapters=(PushUse(1.0),)))


def test_a_span_of_the_steps_counts_as_others_count() -> None:
    levels = [Level(0.0, 1.0, 999.0 - k) if not k else Level(k / 4, 1 - k / 4, 999.0 - k) for k in range(4)]
    levels.append(Level(1.0, 0.0, 0.0))
    inside = [Span(0.25, 0.75).holds(levels, level) for level in levels[:-1]]
    assert inside == [not (i / 4 < 0.25 or (i + 1) / 4 > 0.75) for i in range(4)] == [False, True, True, False]
    first = drawn(adapters=(PushUse(0.5, span=Span(0.0, 0.5)),))
    last = drawn(adapters=(PushUse(0.5, span=Span(0.5, 1.0)),))
    assert not torch.equal(first, last) and not torch.equal(first, drawn(adapters=(PushUse(0.5),)))
    with pytest.raises(RequestError, match="later one"):
        drawn(adapters=(PushUse(0.5, span=Span(0.7, 0.2)),))


def test_strangers_with_other_adapters_change_nothing() -> None:
    asked = [replace(each, adapters=(PushUse(0.1 * k),)) if k % 2 else each for k, each in enumerate(requests())]
    wanted = [pipe().draw(each)[0].latents for each in asked]
    for found, alone in zip(pipe().draw_many(asked[::-1]), wanted[::-1]):
        assert torch.equal(found.latents, alone)


@pytest.mark.parametrize("rule", ["pag", "seg", "slg", "sag"])
def test_adapters_reach_the_branches_of_rules(rule: str) -> None:
    from safelight.generate.guiding import Rule

    plain, pushed = (drawn(rules=(Rule(rule),), adapters=uses) for uses in ((), (PushUse(0.5),)))
    assert not torch.equal(plain, pushed)


def test_every_task_takes_adapters_and_the_recipe_names_them() -> None:
    from safelight.generate.hires import Hires

    tasks: list[dict[str, Any]] = [
        {"image": picture(), "strength": 0.8},
        {"image": picture(), "mask": mask()},
        {"hires": Hires(2.0)},
        {"image": picture(), "invert": "a person"},
    ]
    for fields in tasks:
        assert not torch.equal(drawn(**fields), drawn(**fields, adapters=(PushUse(0.5),))), fields
    (found,) = pipe().draw(Request(PROMPT, adapters=(PushUse(0.5),)))
    assert found.recipe.adapters == [dict(PushUse(0.5).told())]
    assert Recipe.from_json(found.recipe.json()) == found.recipe
