"""Views drawn in smaller sets: each keeps its camera, its normals and its noise; only what it reads differs."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from safelight.core.path import vp_scaled_linear
from safelight.core.schedules.positions import trailing
from safelight.errors import RequestError
from safelight.evaluate.views.drawn import FEW, Settings, drawn, request, sets
from safelight.evaluate.views.truth import PLACES, Truth, cameras, people, truth
from safelight.families.sd.model import UNet, UNetConfig
from safelight.families.sd.parts import load_kl
from safelight.generate.views import ViewRequest, draw
from safelight.multiview.layouts import DENSE, FrontAndSelf
from safelight.multiview.model import ViewModel
from safelight.multiview.network import ViewNetwork
from safelight.multiview.presets import preset, varied
from safelight.train.views.plan import read
from tests.evaluate.views.front import quiet
from tests.models import EDGE, SD2, randomise, tiny

TOLD: dict[str, Any] = {"class_embed_type": "projection", "projection_class_embeddings_input_dim": 16}
BLIND = FrontAndSelf(front=-1)
"""Each view reads itself and the portrait behind the views, none another."""


@pytest.fixture(scope="module")
def model() -> ViewModel:
    """Of random weights, shown coarse normals."""
    unet = UNet(UNetConfig.from_dict({**SD2, **TOLD, "in_channels": 8}))
    randomise(unet, seed=0)
    vae, path = load_kl(tiny("sd2") / "vae"), vp_scaled_linear()
    return ViewModel(
        name="tiny",
        folder=Path(),
        preset=varied(preset("figurines-views-normals"), {"size": EDGE}, "a test"),
        network=ViewNetwork(unet, DENSE, slot=True).eval(),
        vae=vae,
        latent=vae.config.latent(),
        path=path,
        prediction="v",
        levels=partial(trailing, path),
        sampler="ddim",
        options={},
    )


@pytest.fixture(scope="module")
def known() -> Truth:
    return truth(people(1)[0], cameras(PLACES[:3], EDGE))


def test_sets_hold_every_view_once_and_are_spread() -> None:
    assert sets(8, None) == [range(8)] == sets(8, 9)
    assert [list(views) for views in sets(8, 4)] == [[0, 2, 4, 6], [1, 3, 5, 7]]
    for count in range(1, 9):
        for most in range(1, 9):
            found = sets(count, most)
            assert sorted(view for views in found for view in views) == list(range(count))
            assert all(1 <= len(views) <= most for views in found)
    assert max(read(None, []).views.counts) == FEW


def test_views_that_do_not_read_each_other_are_the_same_in_any_set(
    model: ViewModel, known: Truth, monkeypatch: pytest.MonkeyPatch
) -> None:
    def differences() -> list[int]:
        first, *others = (
            drawn(model, [known], Settings(steps=2, seed=3, sampler="Euler a", at_once=most), quiet).astype(int)
            for most in (None, 1, 2)
        )
        assert first.shape == (1, 3, EDGE, EDGE, 3)
        return [int(np.abs(each - first).max()) for each in others]

    assert min(differences()) > 8, "what is read must matter here"
    monkeypatch.setattr(model.network, "layout", BLIND)
    assert max(differences()) <= 1


def test_each_view_has_noise_of_its_own_number(model: ViewModel, known: Truth) -> None:
    plain = request(model, known, [2])
    seen = []
    for numbers in ([2], [0], ()):
        *_, last = draw(model, ViewRequest(plain.portrait, plain.cameras, steps=1, numbers=numbers))
        seen.append(last.pictures())
    assert np.array_equal(seen[1], seen[2]) and not np.array_equal(seen[0], seen[1])
    with pytest.raises(RequestError, match="2 numbers were given for 1 views"):
        next(draw(model, ViewRequest(plain.portrait, plain.cameras, numbers=[0, 1])))


def test_progress_is_told_a_person_each(model: ViewModel, known: Truth) -> None:
    told: list[tuple[str, int, int]] = []
    drawn(model, [known, known], Settings(steps=1, at_once=2), lambda *now: told.append(now))
    assert told == [("drawn, 2 at a time", 1, 2), ("drawn, 2 at a time", 2, 2)]
