"""The mark on one cheek: is it there, and on the person's right side? It is what makes a mirrored view wrong.

What is measured at a place is its contrast: how far the colours in it differ from the skin around it, along the
difference that the true mark makes: 1 = as in truth, 0 = no mark. The place on the other cheek is that of a person who
is the same but for the mark's side. Both are known exactly, from the labels of true renders.

Axis legend: V views, H W pixels.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final, NamedTuple

import numpy as np

from safelight.evaluate.views.truth import Truth, fitting
from safelight.figurines.render import render
from safelight.figurines.shapes import LABELS

SHOWN: Final = 0.5
"""Contrast from which on a mark is shown."""
LEAST: Final = 1 / 820
"""Share of a picture's pixels from which on a mark counts as visible in truth: 5 pixels at 64 x 64."""
_MARK, _SKIN = LABELS.index("mark"), LABELS.index("skin")


class Place(NamedTuple):
    """One cheek in one view: where a mark is or would be, [H, W] bool, the skin around it, [H, W] bool, and the
    difference of colours between the two, [3], in steps of 255."""

    inside: np.ndarray
    around: np.ndarray
    difference: np.ndarray

    def contrast(self, picture: np.ndarray) -> float:
        """How much of a mark a picture uint8 [H, W, 3] has there: 0 = none, 1 = as much as in truth."""
        found = picture[self.inside].mean(0, dtype=np.float64) - picture[self.around].mean(0, dtype=np.float64)
        return float(found @ self.difference / (self.difference @ self.difference))


class Marks(NamedTuple):
    """Counts of views; those of several people are added with `added`.

    Attributes:
        visible: the mark is seen in truth.
        shown: and a mark is drawn, on either cheek.
        right: and the drawn one is on the true side, or stands out more there than on the other.
        bare: in truth the mark is hidden and the other cheek is seen.
        astray: and there a mark is drawn.
    """

    visible: int = 0
    shown: int = 0
    right: int = 0
    bare: int = 0
    astray: int = 0

    def added(self, other: Marks) -> Marks:
        """The sums."""
        return Marks(*(a + b for a, b in zip(self, other, strict=True)))

    @property
    def shares(self) -> tuple[float, float, float]:
        """Shown of visible, right of shown, astray of bare; 0 where there is nothing to share."""
        pairs = ((self.shown, self.visible), (self.right, self.shown), (self.astray, self.bare))
        shown, right, astray = (part / whole if whole else 0.0 for part, whole in pairs)
        return shown, right, astray


def places(true: Truth) -> list[tuple[Place | None, Place | None]]:
    """For every view, the cheek with the mark and the other; None where it is not seen, or too small."""
    mirrored = replace(true.person, mark_side="right" if true.person.mark_side == "left" else "left")
    found = []
    for view in range(true.cameras.shape[0]):
        other = render(mirrored, true.cameras[view], buffers=("rgb", "labels"))
        assert other.rgb is not None and other.labels is not None
        mine = _place(true.pictures[view], true.labels[view])
        found.append((mine, _place(other.rgb, other.labels)))
    return found


def marks(drawn: np.ndarray, true: Truth, known: list[tuple[Place | None, Place | None]] | None = None) -> Marks:
    """Count a person's views.

    Args:
        drawn: uint8 [V, H, W, 3] as drawn for the truth's cameras.
        known: what `places` found, if several drawings are held against one truth.

    Raises:
        RequestError: other shapes.
    """
    fitting(drawn, true)
    counted = Marks()
    for picture, (mine, other) in zip(drawn, known or places(true), strict=True):
        here = mine.contrast(picture) if mine else 0.0
        there = other.contrast(picture) if other else 0.0
        if mine:
            shown = max(here, there) >= SHOWN
            counted = counted.added(Marks(visible=1, shown=int(shown), right=int(shown and here > there)))
        elif other:
            counted = counted.added(Marks(bare=1, astray=int(there >= SHOWN)))
    return counted


def _place(picture: np.ndarray, labels: np.ndarray) -> Place | None:
    inside = labels == _MARK
    scale = max(1, round(len(labels) / 64))
    around = _grown(inside, 4 * scale) & ~_grown(inside, scale) & (labels == _SKIN)
    if inside.sum() < LEAST * inside.size or around.sum() < 3 * scale:
        return None
    difference = picture[inside].mean(0, dtype=np.float64) - picture[around].mean(0, dtype=np.float64)
    return Place(inside, around, difference)


def _grown(mask: np.ndarray, steps: int) -> np.ndarray:
    """The mask [H, W] and all within so many pixels of it, along rows, columns and diagonals."""
    for _ in range(steps):
        padded = np.pad(mask, 1)
        tall = padded[:-2] | padded[1:-1] | padded[2:]
        mask = tall[:, :-2] | tall[:, 1:-1] | tall[:, 2:]
    return mask
