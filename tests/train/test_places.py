"""Small parts weigh more by place, and the weights leave the best answer where it was."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from safelight.core.path import vp_scaled_linear
from safelight.figurines.shapes import LABELS
from safelight.train.figurines.places import PixelWeights, part_areas, picture_weights, place_weights
from safelight.train.objective import Objective, error


def test_the_face_weighs_more_than_the_wall_and_the_mean_is_one() -> None:
    weights = place_weights(16, 2, 0.75, seed=1)
    assert weights.shape == (16, 16)
    assert weights.mean().item() == pytest.approx(1.0, abs=1e-5)
    assert weights[9, 7:9].min() > 10 * weights[0, 0]


def test_without_detail_all_places_weigh_the_same() -> None:
    torch.testing.assert_close(place_weights(4, 4, 0.0, seed=1), torch.ones(4, 4))


def test_a_small_part_of_a_picture_weighs_more_where_it_is() -> None:
    labels = np.zeros((2, 4, 4), np.uint8)
    labels[0, 0, 0] = 1  # a sixteenth of one picture; the rest is 31/32 of both
    weights = picture_weights(labels, 2, 1.0)
    wall, mark = 32 / 31, 16.0
    corner = torch.full((2, 2, 2), wall)
    corner[0, 0, 0] = (mark + 3 * wall) / 4
    torch.testing.assert_close(weights, corner / corner.mean())
    assert weights.mean().item() == pytest.approx(1.0)


def test_weights_of_pixels_are_looked_up_and_their_mean_is_one() -> None:
    labels = np.random.default_rng(0).integers(0, 3, (5, 4, 4), np.uint8)
    weights = PixelWeights(labels, 0.75)
    torch.testing.assert_close(weights.of([3, 1]), picture_weights(labels, 1, 0.75)[[3, 1]])
    assert weights.of(range(5)).mean().item() == pytest.approx(1.0)


def test_areas_are_means_over_those_who_show_the_part() -> None:
    labels = np.zeros((2, 2, 2), np.uint8)
    labels[0, 0, 0] = 1
    areas = part_areas(labels)
    assert areas[0] == pytest.approx((3 / 4 + 1) / 2)
    assert areas[1] == pytest.approx(1 / 4)
    assert (areas[2:] == 1).all()
    assert len(areas) == len(LABELS)


def test_a_place_counts_as_often_as_its_weight_says() -> None:
    x0, eps, output = torch.randn(3, 2, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    levels = [vp_scaled_linear().level(300)] * 2
    rule, places = Objective("uniform", 0.0), torch.tensor([[2.0, 0.0], [1.0, 1.0]])
    weighted = error("eps", rule, output, x0, eps, levels, places)
    squares = (output - eps).square() * places
    torch.testing.assert_close(weighted, squares.mean())
