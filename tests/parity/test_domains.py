"""Networks of two domains equal the stock U-Net with a second self-attention put in by hand, whole predictions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import pytest
import torch
from torch import Tensor

from safelight.multiview import guess, network, second
from safelight.multiview.layouts import FrontAndSelf, layout
from safelight.multiview.network import ViewNetwork
from safelight.nn.transformer import TransformerBlock
from tests.parity.domains import B, H, V, W, asked, ours, reference, tiny
from tests.parity.networks import BARS, difference

BAR = BARS[torch.float64]
NAMES = ("wonder3d", "era3d", "era3d-ortho", "facelift")
BOTH = ("wonder3d", "era3d-ortho")
Patch = pytest.MonkeyPatch


@cache
def wanted(name: str) -> Tensor:
    return reference(name)(*asked(tiny(name)))


def error(name: str, change: Callable[[ViewNetwork], object] = lambda net: None) -> float:
    net = ours(reference(name))
    change(net)
    with torch.no_grad():
        return difference(net(*asked(tiny(name))), wanted(name))


@pytest.mark.parametrize("name", NAMES)
def test_a_prediction_equals_the_stock_networks(name: str) -> None:
    assert wanted(name).shape == (B, 4, len(tiny(name).domains) * V, H, W)
    assert error(name) <= BAR


@pytest.mark.parametrize("name", NAMES)
def test_what_guidance_leads_away_from_equals_the_stock_networks(name: str) -> None:
    """The picture is forgotten, as a token or beside the time, and beside the latents; labels and texts stay."""
    x, t, cond = asked(tiny(name))
    assert cond.shown is not None
    literal = replace(cond, shown=torch.zeros_like(cond.shown))
    if cond.embedding is None:
        literal = replace(literal, context=torch.zeros_like(cond.context))
    else:
        literal = replace(literal, embedding=torch.zeros_like(cond.embedding))
    with torch.no_grad():
        got = ours(reference(name))(x, t, tiny(name).led_away(cond))
    assert difference(got, reference(name)(x, t, literal)) <= BAR
    assert difference(got, wanted(name)) > 1e3 * BAR


@pytest.mark.parametrize(("name", "views"), [("wonder3d", 6), ("era3d", 2)])
def test_any_number_of_views_equals_the_stock_networks(name: str, views: int) -> None:
    with torch.no_grad():
        got = ours(reference(name))(*asked(tiny(name), views))
    assert difference(got, reference(name)(*asked(tiny(name), views))) <= BAR


# Mistakes


def test_the_last_view_in_the_place_of_the_front() -> None:
    assert error("facelift", lambda net: setattr(net, "layout", FrontAndSelf(-1))) > 1e3 * BAR
    assert error("facelift", lambda net: setattr(net, "layout", layout("dense"))) > 1e3 * BAR


@pytest.mark.parametrize("name", BOTH)
def test_no_second_self_attention(name: str) -> None:
    assert error(name, lambda net: setattr(net, "second", None)) > 1e3 * BAR


@pytest.mark.parametrize("name", BOTH)
def test_the_two_layouts_in_each_others_place(name: str) -> None:
    def swap(net: ViewNetwork) -> None:
        assert net.second is not None
        net.layout, net.second = net.second.layout, replace(net.second, layout=net.layout)

    assert error(name, swap) > 1e3 * BAR


@pytest.mark.parametrize("name", BOTH)
def test_views_and_domains_in_each_others_place(name: str, monkeypatch: Patch) -> None:
    right = network.Views
    monkeypatch.setattr(network, "Views", lambda n, h, w, domains: right(domains, h, w, n))
    assert error(name) > 1e3 * BAR


@pytest.mark.parametrize("name", BOTH)
def test_dense_over_domains_too(name: str) -> None:
    assert error(name, lambda net: setattr(net, "domains", 1)) > 1e3 * BAR


@pytest.mark.parametrize("name", BOTH)
def test_the_second_behind_the_text(name: str, monkeypatch: Patch) -> None:
    """All of a block but its end, then the second: another order of the same parts."""

    def late(self: TransformerBlock, x: Tensor, context: Tensor, ports: object) -> Tensor:
        assert isinstance(ports, network.Ports) and ports.override is not None and ports.between is not None
        x = x + ports.override(self.attn1.name, self.attn1, self.norm1(x))
        x = x + self.attn2(self.norm2(x), context)
        x = ports.between(self.name, x)
        return x + self.ff(self.norm3(x))

    monkeypatch.setattr(TransformerBlock, "forward", late)
    assert error(name) > 1e3 * BAR


@pytest.mark.parametrize("name", BOTH)
def test_the_second_without_its_norm(name: str) -> None:
    def bare(net: ViewNetwork) -> None:
        assert net.second is not None
        for block in second._blocks(net.unet).values():
            setattr(block, f"norm_{net.second.name}", torch.nn.Identity())

    assert error(name, bare) > 1e3 * BAR


def test_a_layout_that_reads_one_view_alone() -> None:
    assert error("wonder3d", lambda net: setattr(net, "layout", layout("self"))) > 1e3 * BAR


def test_no_guess_and_a_guess_of_every_view_alone(monkeypatch: Patch) -> None:
    assert error("era3d", lambda net: setattr(net, "guesses", False)) > 1e3 * BAR
    right = network.ascent
    monkeypatch.setattr(network, "ascent", lambda unet, views: right(unet, replace(views, n=1)))
    assert error("era3d") > 1e3 * BAR


def test_the_focal_length_guessed_before_the_elevation(monkeypatch: Patch) -> None:
    monkeypatch.setattr(guess, "GUESSES", guess.GUESSES[::-1])
    net = ours(reference("era3d"))
    with torch.no_grad():
        assert difference(net(*asked(tiny("era3d"))), wanted("era3d")) > 1e3 * BAR


def test_the_texts_of_views_in_each_others_place() -> None:
    x, t, cond = asked(tiny("era3d"))
    with torch.no_grad():
        got = ours(reference("era3d"))(x, t, replace(cond, context=cond.context.roll(1, 1)))
    assert difference(got, wanted("era3d")) > 1e3 * BAR
