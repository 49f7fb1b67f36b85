"""Charts show what they are given, where it belongs."""

from __future__ import annotations

import math

import numpy as np

from safelight.evaluate.chart import COLOURS, Axis, Line, chart, stacked


def _dots(page: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """Rows and columns of all pixels of a colour, below the legend."""
    return np.argwhere((page[40:] == colour).all(-1))


def test_more_is_higher_and_later_is_further_right() -> None:
    page = np.asarray(chart([Line("up", [(1, 1), (2, 5)])], Axis("x"), Axis("y")))
    spots = _dots(page, COLOURS[0])
    left, right = spots[spots[:, 1].argmin()], spots[spots[:, 1].argmax()]
    assert left[0] > right[0]


def test_equal_factors_are_equal_distances_on_a_logarithmic_axis() -> None:
    lines = [Line("", [(x, 1)]) for x in (1, 10, 100)]
    page = np.asarray(chart(lines, Axis("x", True), Axis("y")))
    columns = [_dots(page, colour)[:, 1].mean() for colour in COLOURS[:3]]
    assert math.isclose(columns[1] - columns[0], columns[2] - columns[1], abs_tol=1.0)


def test_what_an_axis_cannot_show_is_left_out() -> None:
    points = [(0.0, 1.0), (1.0, math.inf), (1.0, math.nan), (2.0, 0.0)]
    empty = chart([Line("none", points)], Axis("x", True), Axis("y", True))
    assert not len(_dots(np.asarray(empty), COLOURS[0]))


def test_marks_are_round_numbers_within_the_axis() -> None:
    assert Axis("y", True).marks(-3.2, 0.1) == [1e-3, 1e-2, 1e-1, 1.0]
    assert Axis("y", True).marks(0.1, 0.9) == [2.0, 5.0]
    assert Axis("y").marks(0.0, 21.0) == [0.0, 5.0, 10.0, 15.0, 20.0]


def test_pages_are_laid_beneath_each_other() -> None:
    one = chart([], Axis("x"), Axis("y"), (200, 120))
    assert stacked([one, one]).size == (200, 240)
