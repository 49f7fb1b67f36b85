"""A volume fitted to true views is the person; fitted to views that contradict each other, it is not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from safelight.core.camera import Camera
from safelight.errors import RequestError
from safelight.evaluate.views.likeness import psnr
from safelight.evaluate.views.trial import outlines, rebuilt, volumes
from safelight.evaluate.views.truth import PLACES, Truth, cameras, people, truth
from safelight.evaluate.views.volume import HALF, Fit, Volume, fit, hull
from safelight.multiview.bundle import Bundle

QUICK = Fit(cells=(12, 24), steps=(40, 50), rays=512, samples=32)


@pytest.fixture(scope="module")
def small() -> Truth:
    return truth(people(2)[1], cameras(PLACES, 32))


def test_true_views_give_the_person_from_places_between(small: Truth) -> None:
    held = cameras([(45.0, 10.0), (270.0, 10.0)], 32)
    whole, inside = rebuilt(small.pictures, small, held, QUICK)
    assert whole > 17
    assert inside > 15
    turned = np.roll(small.pictures, 2, axis=0)
    worse, _ = rebuilt(turned, small, held, QUICK)
    assert worse < whole - 3


def test_drawn_and_true_views_of_a_person_are_fitted_alike(small: Truth) -> None:
    how = Fit(cells=(8, 8), steps=(3, 3), rays=64, samples=8)
    held, told = cameras([(45.0, 10.0)], 32), []
    turned = np.roll(small.pictures, 2, axis=0)
    mine, theirs = volumes(np.stack([turned, small.pictures]), [small, small], held, lambda *now: told.append(now), how)
    assert mine == [rebuilt(turned, small, held, how), theirs[1]]
    assert theirs == [rebuilt(small.pictures, small, held, how)] * 2 and mine[0] != theirs[0]
    assert told == [("volumes fitted", done, 4) for done in (1, 2, 3, 4)]


def test_the_same_bundle_gives_the_same_volume(small: Truth) -> None:
    how = Fit(cells=(8, 8), steps=(3, 3), rays=64, samples=8)
    one, other = (fit(Bundle(small.cameras, small.pictures), how) for _ in range(2))
    assert torch.equal(one.cells, other.cells)
    assert not torch.equal(one.cells, fit(Bundle(small.cameras, small.pictures), replace(how, seed=1)).cells)


def test_the_hull_holds_the_figure_and_little_else(small: Truth) -> None:
    cells = hull(small.cameras, torch.from_numpy(small.mattes), 24)
    full = (cells[0, 0] > 0).float().mean().item()
    assert 0.1 < full < 0.6
    rows, columns = np.nonzero(np.isfinite(small.depth[0]))
    pixels = torch.from_numpy(np.stack([columns, rows], 1) + 0.5).float()
    points = small.cameras[0].unproject(pixels, torch.from_numpy(small.depth[0][rows, columns] + 0.05))
    place = (points - torch.tensor([0.0, 0.0, -0.04])) / HALF
    near = place.abs().amax(-1) < 1
    found = torch.nn.functional.grid_sample(cells[:, :1], place[None, None, None, near], align_corners=False)
    assert (found[0, 0, 0, 0] > -4.9).float().mean() > 0.97


def test_an_empty_volume_shows_the_background_and_a_full_one_does_not() -> None:
    views = Camera.orbit([0.0, 90.0], distance=8.0, fov=24.0, size=8)
    ground = torch.tensor([0.2, 0.4, 0.6])
    cells = torch.zeros(1, 4, 4, 4, 4)
    cells[0, 0] = -50
    assert (Volume(cells, ground, 16).draw(views) == [51, 102, 153]).all()
    cells[0, 0], cells[0, 1:] = 50, torch.tensor([50.0, -50.0, 50.0])[:, None, None, None]
    assert (Volume(cells, ground, 16).draw(views)[:, 4, 4] == [255, 0, 255]).all()


def test_orthographic_views_can_be_fitted_too(small: Truth) -> None:
    flat = truth(small.person, small.cameras.orthographic(3.4))
    volume = fit(Bundle(flat.cameras, flat.pictures, outlines(flat.pictures).astype(np.float32)), QUICK)
    assert psnr(volume.draw(flat.cameras), flat.pictures).mean() > 17


def test_a_bundle_without_pictures_is_refused(small: Truth) -> None:
    with pytest.raises(RequestError, match="this bundle has none"):
        fit(Bundle(small.cameras))


def test_the_hull_of_a_ball_lies_where_the_ball_is() -> None:
    views, center = cameras(PLACES, 32), torch.tensor([0.7, -0.4, 0.3])
    pixels = views.project(center[None])[0]
    v, u = torch.meshgrid(torch.arange(32) + 0.5, torch.arange(32) + 0.5, indexing="ij")
    mattes = (torch.stack([u, v], -1) - pixels[:, :, None]).norm(dim=-1) < 3
    full = hull(views, mattes.float(), 24)[0, 0] > 0
    z, y, x = ((where.float().mean() + 0.5) / 24 * 2 * HALF - HALF for where in full.nonzero(as_tuple=True))
    assert torch.allclose(torch.stack([x, y, z - 0.04]), center, atol=0.1)
