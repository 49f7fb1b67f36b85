"""What a network is told has scales of its own: told one after the other, each is led on by what it adds."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from safelight.core.guidance import CFG
from safelight.core.path import vp_scaled_linear
from safelight.errors import RequestError, UnknownNameError
from safelight.multiview.network import Conditions
from safelight.multiview.presets import preset, varied
from safelight.multiview.scales import in_turn

LEVEL = vp_scaled_linear().level(500)
Z = 4


def told(shown: int = Z) -> Conditions:
    g = torch.Generator().manual_seed(0)
    shapes = {"context": (1, 5, 8), "cameras": (1, 3, 16), "hidden": (1, 7, 12), "reference": (1, Z, 2, 2)}
    shapes |= {"shown": (1, shown, 3, 2, 2), "beside_reference": (1, shown, 2, 2)}
    return Conditions(**{name: torch.randn(shape, generator=g) for name, shape in shapes.items()})


def differ(one: Conditions, other: Conditions) -> set[str]:
    given = {name: value for name, value in vars(one).items() if value is not None}
    return {name for name, value in given.items() if not torch.equal(value, getattr(other, name))}


def test_each_branch_is_told_one_thing_more_and_the_last_is_told_all() -> None:
    all_of_it, negative = told(), torch.zeros(1, 5, 8)
    rule, conds = in_turn(preset("gaf"), all_of_it, negative, {"portrait": 2.0, "text": 3.0, "normals": 5.0})
    assert set(rule.branches(LEVEL)) == set(conds) == {"uncond", "cond", "cond and text", "cond and normals"}
    beside = {"shown", "beside_reference"}
    assert differ(conds["uncond"], all_of_it) == {"hidden", "reference", "context"} | beside
    assert differ(conds["cond"], all_of_it) == {"context"} | beside
    assert differ(conds["cond and text"], all_of_it) == beside
    assert not differ(conds["cond and normals"], all_of_it)
    assert not any(torch.any(getattr(conds["uncond"], name)) for name in ("hidden", "reference", *beside))
    assert torch.equal(conds["cond"].context, negative)


def test_the_answer_is_that_of_the_equation() -> None:
    scales: dict[str, Any] = {"portrait": 2.0, "text": (3.0, 1.0, 0.0), "normals": 5.0}
    rule, conds = in_turn(preset("gaf"), told(), torch.zeros(1, 5, 8), scales)
    g = torch.Generator().manual_seed(1)
    said = {name: torch.randn(1, Z, 3, 2, 2, generator=g) for name in conds}
    nothing, one, two, three = (said[name] for name in ("uncond", "cond", "cond and text", "cond and normals"))
    each = torch.tensor(scales["text"])[:, None, None]
    wanted = nothing + 2.0 * (one - nothing) + each * (two - one) + 5.0 * (three - two)
    torch.testing.assert_close(rule.combine(one, LEVEL, said).x0, wanted)
    equal, _ = in_turn(preset("gaf"), told(), torch.zeros(1, 5, 8), dict.fromkeys(scales, 4.0))
    plain = CFG(4.0).combine(one, LEVEL, {"cond": three, "uncond": nothing}).x0
    torch.testing.assert_close(equal.combine(one, LEVEL, said).x0, plain)


def test_what_is_not_led_by_is_told_on_all_sides() -> None:
    _, conds = in_turn(preset("gaf"), told(), torch.zeros(1, 5, 8), {"normals": 5.0})
    assert differ(conds["uncond"], conds["cond"]) == {"shown", "beside_reference"}


def test_maps_of_cameras_stay_where_normals_are_hidden() -> None:
    mapped, all_of_it = varied(preset("figurines-views-normals"), {"camera": "plucker"}, "a test"), told(6 + Z)
    bare = mapped.without(all_of_it, all_of_it.context, ["normals"])
    for name in ("shown", "beside_reference"):
        before, after = getattr(all_of_it, name), getattr(bare, name)
        assert torch.equal(before[:, :6], after[:, :6]) and not torch.any(after[:, 6:]) and torch.any(before[:, 6:])


def test_scales_that_cannot_be_are_refused() -> None:
    for name, scales, kind, said in (
        ("mvdream", {"normals": 1.0}, RequestError, "reads no normals"),
        ("figurines-views", {"text": 1.0}, RequestError, "reads no text"),
        ("gaf", {"portrai": 1.0}, UnknownNameError, "portrait"),
        ("gaf", {}, RequestError, "portrait, text, normals"),
        ("zero123", {"portrait": 1.0}, RequestError, "from its `tell`"),
    ):
        with pytest.raises(kind, match=said):
            in_turn(preset(name), told(), torch.zeros(1, 5, 8), scales)
