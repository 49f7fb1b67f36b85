"""Pixel measures with answers known from their formulas."""

from __future__ import annotations

import math

import numpy as np
import pytest

from safelight.errors import RequestError
from safelight.evaluate.views.likeness import MOST, overlap, psnr, ssim

RNG = np.random.default_rng(3)
VIEWS = RNG.integers(0, 246, (2, 20, 24, 3), dtype=np.uint8)


def test_psnr_of_a_known_difference() -> None:
    assert np.allclose(psnr(VIEWS + np.uint8(10), VIEWS), 20 * math.log10(255 / 10))
    assert psnr(VIEWS, VIEWS).tolist() == [MOST, MOST]
    black, white = np.zeros_like(VIEWS), np.full_like(VIEWS, 255)
    assert psnr(black, white).tolist() == [0.0, 0.0]


def test_psnr_inside_an_outline_does_not_see_what_is_outside() -> None:
    weight = np.zeros(VIEWS.shape[:3])
    weight[:, 5:9, 5:9] = 1
    other = VIEWS.copy()
    other[:, :5] = 255 - other[:, :5]
    assert psnr(other, VIEWS, weight).tolist() == [MOST, MOST]
    other[:, 5:9, 5:9] += np.uint8(5)
    assert np.allclose(psnr(other, VIEWS, weight), 20 * math.log10(255 / 5))
    half = weight / 2
    assert np.allclose(psnr(other, VIEWS, half), psnr(other, VIEWS, weight)), "weights are shares"


def test_ssim_of_one_window_is_the_formula() -> None:
    x, y = (RNG.integers(0, 256, (1, 11, 11, 3), dtype=np.uint8) for _ in range(2))
    bell = np.exp(-0.5 * ((np.arange(11) - 5) / 1.5) ** 2)
    weight = np.outer(bell, bell)[..., None] / np.outer(bell, bell).sum()
    a, b = x[0].astype(float), y[0].astype(float)
    ma, mb = (weight * a).sum((0, 1)), (weight * b).sum((0, 1))
    va, vb = (weight * (a - ma) ** 2).sum((0, 1)), (weight * (b - mb) ** 2).sum((0, 1))
    vab = (weight * (a - ma) * (b - mb)).sum((0, 1))
    c1, c2 = 2.55**2, 7.65**2
    wanted = (2 * ma * mb + c1) * (2 * vab + c2) / ((ma**2 + mb**2 + c1) * (va + vb + c2))
    assert np.allclose(ssim(x, y), wanted.mean())
    assert np.allclose(ssim(VIEWS, VIEWS), 1)


def test_overlap_of_shifted_squares() -> None:
    mask = np.zeros((1, 10, 10))
    mask[:, 2:6, 2:6] = 1
    assert overlap(mask, mask).tolist() == [1]
    assert overlap(np.roll(mask, 2, 2), mask).tolist() == [8 / 24]
    assert overlap(np.roll(mask, 4, 2), mask).tolist() == [0]
    assert overlap(0 * mask, 0 * mask).tolist() == [1]
    assert overlap(0 * mask, mask).tolist() == [0]


def test_what_cannot_be_compared_is_refused() -> None:
    for one, other in ((VIEWS[:1], VIEWS), (VIEWS.astype(float), VIEWS), (VIEWS[0], VIEWS[0])):
        for measure in (psnr, ssim):
            with pytest.raises(RequestError, match="views to compare"):
                measure(one, other)
    with pytest.raises(RequestError, match="weight"):
        psnr(VIEWS, VIEWS, np.zeros(VIEWS.shape[:3]))
    with pytest.raises(RequestError, match="11 pixels"):
        ssim(VIEWS[:, :8], VIEWS[:, :8])
    with pytest.raises(RequestError, match="mattes"):
        overlap(np.zeros((1, 2, 2)), np.zeros((2, 2, 2)))
