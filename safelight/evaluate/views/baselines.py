"""What views are worth nothing, or worth everything: the rows beside which a model's row is read.

Axis legend: N people, V views, H W pixels; views are uint8 [N, V, H, W, 3].
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import numpy as np

from safelight.core.camera import Camera
from safelight.errors import RequestError
from safelight.evaluate.views.truth import Truth, people
from safelight.figurines.render import render

AVERAGED: Final = 200
"""Training people whose mean is the mean view."""
GREY: Final = 128


def ceiling(truths: Sequence[Truth]) -> np.ndarray:
    """The truth itself."""
    return np.stack([true.pictures for true in truths])


def copied(truths: Sequence[Truth]) -> np.ndarray:
    """The given portrait in every view."""
    return np.stack([np.repeat(true.reference[None], len(true.pictures), 0) for true in truths])


def constant(truths: Sequence[Truth]) -> np.ndarray:
    """Nothing but grey: all views agree, and no metric of consistency may say that this is good."""
    return np.full_like(ceiling(truths), GREY)


def another(truths: Sequence[Truth]) -> np.ndarray:
    """All views of the next person: consistent, and of somebody else."""
    return np.roll(ceiling(truths), -1, 0)


def mixed(truths: Sequence[Truth]) -> np.ndarray:
    """Every view of another person: right cameras, no consistency. View v of person i is that of person i + 1 + v."""
    true = ceiling(truths)
    count, views = true.shape[:2]
    if count < 3:
        raise RequestError("people to be shuffled are at least three")
    return np.stack([[true[(i + 1 + v % (count - 1)) % count, v] for v in range(views)] for i in range(count)])


def mean(views: Camera, count: int = AVERAGED) -> np.ndarray:
    """The mean view of training people from every camera: uint8 [V, H, W, 3]."""
    total = np.zeros((*views.shape, *views.size, 3))
    for person in people(count, "train"):
        for view in range(views.shape[0]):
            picture = render(person, views[view], buffers=("rgb",), samples=1).rgb
            assert picture is not None
            total[view] += picture
    return np.rint(total / count).astype(np.uint8)


def rows(truths: Sequence[Truth], averaged: np.ndarray) -> Mapping[str, np.ndarray]:
    """All of them by name: views uint8 [N, V, H, W, 3].

    Args:
        averaged: what `mean` gave for the same cameras.

    Raises:
        RequestError: fewer than three people.
    """
    made: dict[str, Callable[[Sequence[Truth]], np.ndarray]] = {
        "ground truth": ceiling,
        "copy of the reference": copied,
        "another person": another,
        "a person a view": mixed,
        "constant grey": constant,
    }
    found = {name: make(truths) for name, make in made.items()}
    found["mean view"] = np.repeat(averaged[None], len(truths), 0)
    return found
