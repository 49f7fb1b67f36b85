"""MVDream, ImageDream and the design of GAF equal the stock U-Net with attention processors, whole predictions.

The reference was shown equal to the public code of MVDream and ImageDream elsewhere; that code is not run here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import pytest
import torch
from torch import Tensor

from safelight.adapters.ip_adapter import projection
from safelight.multiview import network
from safelight.multiview.layouts import DENSE, layout
from safelight.multiview.network import Conditions, ViewNetwork
from tests.parity.networks import BARS, difference, random
from tests.parity.views import LENGTH, TEXT, B, Reference, asked, ours, tiny

BAR = BARS[torch.float64]
NAMES = ("mvdream", "mvdream-1.5", "imagedream", "imagedream-local", "gaf")
Patch = pytest.MonkeyPatch


@cache
def reference(name: str) -> Reference:
    return Reference(tiny(name))


@cache
def wanted(name: str) -> Tensor:
    return reference(name)(*asked(tiny(name)))


def error(name: str, change: Callable[[ViewNetwork], None] = lambda net: None) -> float:
    net = ours(reference(name))
    change(net)
    with torch.no_grad():
        return difference(net(*asked(tiny(name))), wanted(name))


@pytest.mark.parametrize("name", NAMES)
def test_a_prediction_equals_the_stock_networks(name: str) -> None:
    assert error(name) <= BAR


@pytest.mark.parametrize("name", NAMES)
def test_what_guidance_leads_away_from_equals_the_stock_networks(name: str) -> None:
    """Zeros of the image encoder's states go through the resampler, which does not answer zeros; cameras stay."""
    told = tiny(name)
    x, t, cond = asked(told)
    negative = random(B, LENGTH, TEXT, seed=77)
    zeros = {
        key: torch.zeros_like(value) for key in ("hidden", "reference") if (value := getattr(cond, key)) is not None
    }
    literal = replace(cond, context=negative, **zeros)
    with torch.no_grad():
        got = ours(reference(name))(x, t, told.led_away(cond, negative))
    assert difference(got, reference(name)(x, t, literal)) <= BAR
    assert difference(got, wanted(name)) > 1e3 * BAR


@pytest.mark.parametrize("views", [1, 2, 8])
def test_any_number_of_views_equals_the_stock_networks(views: int) -> None:
    told = tiny("imagedream")
    with torch.no_grad():
        got = ours(reference("imagedream"))(*asked(told, views))
    assert difference(got, reference("imagedream")(*asked(told, views))) <= BAR


# Mistakes


def test_views_on_their_own() -> None:
    assert error("mvdream", lambda net: setattr(net, "layout", layout("self"))) > 1e3 * BAR


def test_the_picture_forgotten() -> None:
    assert error("imagedream", lambda net: setattr(net, "picture_scale", 0.0)) > 1e3 * BAR


def test_the_reference_before_the_views(monkeypatch: Patch) -> None:
    """Dense attention does not mind; cameras and what is thrown away do."""
    right = ViewNetwork._pictures
    monkeypatch.setattr(ViewNetwork, "_pictures", lambda self, x, told: right(self, x, told).roll(1, 2))
    assert error("imagedream") > 1e3 * BAR


def test_the_references_camera_that_of_the_last_view(monkeypatch: Patch) -> None:
    right = ViewNetwork._added

    def wrong(self: ViewNetwork, told: Conditions, slots: int) -> object:
        assert told.cameras is not None
        return right(self, replace(told, cameras=torch.cat([told.cameras, told.cameras[:, -1:]], 1)), slots)

    monkeypatch.setattr(ViewNetwork, "_added", wrong)
    assert error("imagedream") > 1e3 * BAR


def test_the_views_of_two_rows_interleaved(monkeypatch: Patch) -> None:
    right = network.override
    turned = replace(DENSE, apart="bd", together="vhw")
    object.__setattr__(turned, "q", lambda x, views: DENSE.q(x[torch.arange(len(x)).view(2, -1).T.flatten()], views))
    monkeypatch.setattr(network, "override", lambda laid, *rest: right(turned, *rest))
    assert error("mvdream") > 1e3 * BAR


def test_cameras_transposed() -> None:
    """Column after column instead of row after row."""
    net, (x, t, cond) = ours(reference("mvdream")), asked(tiny("mvdream"))
    assert cond.cameras is not None
    turned = cond.cameras.unflatten(-1, (4, 4)).mT.flatten(-2)
    with torch.no_grad():
        assert difference(net(x, t, replace(cond, cameras=turned)), wanted("mvdream")) > 1e3 * BAR


def test_the_resamplers_heads_as_wide_as_its_tokens(monkeypatch: Patch) -> None:
    right = projection.Perceive.forward

    def wrong(self: projection.Perceive, picture: Tensor, queries: Tensor) -> Tensor:
        self.heads = 1
        return right(self, picture, queries)

    monkeypatch.setattr(projection.Perceive, "forward", wrong)
    assert error("imagedream") > 1e3 * BAR


def test_normals_before_the_latents(monkeypatch: Patch) -> None:
    right = ViewNetwork._pictures
    monkeypatch.setattr(ViewNetwork, "_pictures", lambda self, x, told: right(self, x, told).roll(4, 1))
    assert error("gaf") > 1e3 * BAR
