"""Layouts of views on our U-Net equal attention processors on the stock U-Net of diffusers, whole predictions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

from safelight.multiview import layouts
from safelight.multiview.layouts import LAYOUTS, Epipolar, Grouping, Views, layout
from safelight.nn.ports import Ports
from tests.multiview.reading import REACH, masked, matrix, ring
from tests.parity.networks import BARS, SD2, difference, random, unets

BAR = BARS[torch.float64]
N, H, W = 3, 6, 4
"""Views of each domain, and a grid that is no square: 6 x 4, and 3 x 2 in the middle block."""
Patch = pytest.MonkeyPatch


class Processor:
    """What the stock network does instead of each self-attention: all views at once, masked pixel by pixel."""

    def __init__(self, name: str, domains: int) -> None:
        cameras = ring(N, (H, W)) if name == "epipolar" else None
        self.who = {h * w: matrix(name, N, h, w, domains, cameras) for h, w in ((H, W), (H // 2, W // 2))}
        self.slots = N * domains

    def __call__(self, attn: Any, hidden_states: Tensor, encoder_hidden_states: Any = None, **_: Any) -> Tensor:
        q, k, v = attn.to_q(hidden_states), attn.to_k(hidden_states), attn.to_v(hidden_states)
        who = self.who[hidden_states.shape[1]]
        return attn.to_out[0](masked(q, k, v, self.slots, attn.heads, who))


def inputs(domains: int) -> tuple[Tensor, Tensor, Tensor]:
    rows = 2 * N * domains
    return random(rows, 4, H, W, seed=1), torch.linspace(3.0, 900.0, rows), random(rows, 5, 32, seed=2)


@cache
def wanted(name: str, domains: int) -> Tensor:
    _, theirs = unets(SD2)
    for path, module in theirs.named_modules():
        if path.endswith("attn1"):
            module.set_processor(Processor(name, domains))
    with torch.no_grad():
        return theirs(*inputs(domains)).sample


def error(name: str, domains: int = 2, size: tuple[int, int] = (H, W)) -> float:
    ours, _ = unets(SD2)
    found = layout(name, ring(N, (H, W)))
    found = replace(found, reach=REACH) if isinstance(found, Epipolar) else found
    views = Views(N, *size, domains)
    with torch.no_grad():
        got = ours(*inputs(domains), ports=Ports(override=layouts.override(found, views, chunk=7)))
        return difference(got, wanted(name, domains))


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_layout_on_our_network_equals_a_processor_on_the_stock_network(name: str) -> None:
    assert error(name) <= BAR


@pytest.mark.parametrize("name", sorted(set(LAYOUTS) - {"self"}))
def test_views_on_their_own_are_another_prediction(name: str) -> None:
    """The comparison has teeth: plain self-attention is far from every layout."""
    ours, _ = unets(SD2)
    with torch.no_grad():
        assert difference(ours(*inputs(2)), wanted(name, 2)) > 1e3 * BAR


def turned(monkeypatch: Patch) -> None:
    """The two sides of the grid taken for each other on the way there."""
    right = Grouping.q
    other = lambda self, x, views: right(self, x, replace(views, h=views.w, w=views.h))  # noqa: E731
    monkeypatch.setattr(Grouping, "q", other)
    monkeypatch.setattr(Grouping, "kv", other)


def views_before_domains(monkeypatch: Patch) -> None:
    for method in ("q", "back"):
        right = getattr(Grouping, method)
        other = lambda self, x, views, right=right: right(self, x, replace(views, n=views.domains, domains=views.n))  # noqa: E731
        monkeypatch.setattr(Grouping, method, other)
    monkeypatch.setattr(Grouping, "kv", Grouping.q)


def not_back(monkeypatch: Patch) -> None:
    """What was read left in the order of the groups."""
    monkeypatch.setattr(Grouping, "back", lambda self, y, views: y.reshape(-1, views.h * views.w, y.shape[-1]))


def other_reach(monkeypatch: Patch) -> None:
    right = Epipolar.mask
    monkeypatch.setattr(Epipolar, "mask", lambda self, *rest: right(replace(self, reach=2 * self.reach), *rest))


def corners(monkeypatch: Patch) -> None:
    """Pixels that have their centres at whole numbers."""
    right = Epipolar.mask

    def wrong(self: Epipolar, *rest: Any) -> Any:
        cameras = replace(self.cameras, principal=self.cameras.principal + 0.5)
        return right(replace(self, cameras=cameras), *rest)

    monkeypatch.setattr(Epipolar, "mask", wrong)


@pytest.mark.parametrize(
    ("name", "mutate"),
    [
        ("rows", turned),
        ("columns", turned),
        ("rows", not_back),
        ("same-pixel", not_back),
        ("dense", views_before_domains),
        ("temporal", views_before_domains),
        ("joint-domain", views_before_domains),
        ("epipolar", other_reach),
        ("epipolar", corners),
    ],
)
def test_mistakes_turn_the_comparison_red(monkeypatch: Patch, name: str, mutate: Callable[[Patch], None]) -> None:
    mutate(monkeypatch)
    assert error(name) > 1e3 * BAR
