"""MV-Adapter at stock U-Nets equals the reference on tiny random weights: text, image and geometry, both bases."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from safelight.families.sd.model import UNet
from safelight.multiview.layouts import Views
from safelight.multiview.mv_adapter import across
from safelight.multiview.mv_adapter.use import Reference, Strength
from safelight.multiview.mv_adapter.use import look as look_at
from safelight.nn.attention import Attention
from tests.parity import mv_adapters
from tests.parity.mv_adapters import BASES, KINDS, Case, case
from tests.parity.networks import BARS, difference

UNLIKE = Strength(0.7, 1.3, 0.6)
Patch = pytest.MonkeyPatch


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("base", BASES)
def test_views_equal_the_reference(base: str, kind: str) -> None:
    here = case(base, kind)
    asked = here.asked()
    assert difference(here.drawn(asked, UNLIKE), here.reference(asked, UNLIKE)) <= BARS[torch.float64]


@pytest.mark.parametrize("base", BASES)
def test_the_unwanted_half_of_a_call_sees_features_that_are_zero(base: str) -> None:
    """As the released pipelines guide: the same maps in both halves, zeros for the reference, not a blank picture."""
    here = case(base, "i2mv")
    asked = here.asked(1)
    both = {name: torch.cat([x, x]) if torch.is_tensor(x) and name != "latents" else x for name, x in asked.items()}
    assert difference(here.drawn(both, free=True), here.reference(both, free=True)) <= BARS[torch.float64]


def test_one_view_and_five_equal_the_reference_in_float32_too() -> None:
    here = case("sd21", "i2mv", torch.float32)
    for count in (1, 5):
        asked = here.asked(count=count)
        assert difference(here.drawn(asked), here.reference(asked)) <= BARS[torch.float32]


# Mistakes


def swapped(here: Case, first: str, second: str) -> None:
    """Two projections change places in every layer of ours."""
    for name in here.adapter.layers:
        beside = here.adapter.beside(name)
        a, b = getattr(beside, first), getattr(beside, second)
        setattr(beside, first, b)
        setattr(beside, second, a)


def apart(layer: Attention, views: Views, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return across.rows(layer, replace(views, n=1), q, k, v)


def other_axis(layer: Attention, views: Views, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return across.read(layer, across.LAYOUTS["columns"].make(), views, q, k, v)


def noisy(adapter: Any, unet: UNet, latents: Tensor, context: Tensor, added: Any = None) -> Reference:
    def later(x: Tensor, t: Tensor, *told: Any, **more: Any) -> Tensor:
        return unet(x, t + 1.0, *told, **more)

    return look_at(adapter, later, latents, context, added)  # type: ignore[arg-type]


def wordless(adapter: Any, unet: UNet, latents: Tensor, context: Tensor, added: Any = None) -> Reference:
    return look_at(adapter, unet, latents, torch.zeros_like(context), added)


MISTAKES: dict[str, tuple[str, Callable[[Patch, Case], object]]] = {
    "views are independent": ("t2mv", lambda patch, _: patch.setitem(across.ACROSS, "rows", apart)),
    "columns for rows": ("t2mv", lambda patch, _: patch.setitem(across.ACROSS, "rows", other_axis)),
    "queries and keys are swapped": ("t2mv", lambda _, here: swapped(here, "to_q_mv", "to_k_mv")),
    "keys and values of the reference are swapped": ("i2mv", lambda _, here: swapped(here, "to_k_ref", "to_v_ref")),
    "the reference is projected for the views": ("i2mv", lambda _, here: swapped(here, "to_k_ref", "to_k_mv")),
    "the reference is told t = 1": ("i2mv", lambda patch, _: patch.setattr(mv_adapters, "look", noisy)),
    "the reference is told no words": ("i2mv", lambda patch, _: patch.setattr(mv_adapters, "look", wordless)),
    "the front is not mirrored": ("tg2mv", lambda patch, _: patch.setattr(across, "_mirrored", lambda x, views: x)),
    "left is over the top": ("tg2mv", lambda patch, _: patch.setattr(across, "OVER", (0, 3, 4, 5))),
    "above and below are swapped": ("tg2mv", lambda patch, _: patch.setattr(across, "OVER", (0, 2, 5, 4))),
    "faces read rows alone": ("tg2mv", lambda patch, _: patch.setitem(across.ACROSS, "faces", across.rows)),
    "a map is a level too late": ("t2mv", lambda patch, here: patch.setattr(here.adapter, "adapter", Later(here))),
}


class Later(torch.nn.Module):
    def __init__(self, here: Case) -> None:
        super().__init__()
        self.trunk = here.adapter.adapter

    def forward(self, x: Tensor) -> list[Tensor]:
        made = self.trunk(x)
        return [torch.zeros_like(made[0]), *made[1:]]


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_turn_the_comparison_red(mistake: str, monkeypatch: Patch) -> None:
    kind, make = MISTAKES[mistake]
    here = Case("sd21", kind)
    make(monkeypatch, here)
    asked = here.asked(1)
    assert difference(here.drawn(asked), here.reference(asked)) > 1e4 * BARS[torch.float64]
