"""Who is it? The nearest of many true people, by what the checker sees and by colours inside the outline.

Axis legend: N people drawn, C candidates, V views, H W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from safelight.errors import RequestError
from safelight.evaluate.views.attributes import Seen
from safelight.figurines.matte import matte


def alike(found: Sequence[Seen], said: Sequence[Seen]) -> np.ndarray:
    """Share, 0 to 1, of what each candidate's views show that is seen in the drawn ones: [N, C].

    Args:
        found: what was read, for N people and V views. said: what the views of C candidates show.
    """
    likeness = np.zeros((len(found), len(said)))
    for n, views in enumerate(found):
        for c, candidate in enumerate(said):
            hits = [view[name] == value for view, shown in zip(views, candidate, strict=True)
                    for name, value in shown.items()]  # fmt: skip
            likeness[n, c] = np.mean(hits) if hits else 0.0
    return likeness


def distances(drawn: np.ndarray, pictures: np.ndarray, mattes: np.ndarray) -> np.ndarray:
    """Root mean square difference of colours, 0 to 1, over the pixels that either figure covers: [N, C].

    Args:
        drawn: uint8 [N, V, H, W, 3]; outlines are found by `figurines.matte`.
        pictures, mattes: of the candidates, uint8 [C, V, H, W, 3] and [C, V, H, W].

    Raises:
        RequestError: other shapes.
    """
    if drawn.shape[1:] != pictures.shape[1:] or mattes.shape != pictures.shape[:-1]:
        raise RequestError(f"views {list(drawn.shape)} cannot be compared with people {list(pictures.shape)}")
    out = np.empty((len(drawn), len(pictures)))
    true = pictures.astype(np.float32) / 255
    for n, views in enumerate(drawn):
        covered = np.stack([matte(view) for view in views]).astype(np.float32)
        weight = np.maximum(covered, mattes)
        square = ((views.astype(np.float32) / 255 - true) ** 2).mean(-1)
        out[n] = np.sqrt((weight * square).sum((1, 2, 3)) / np.maximum(weight.sum((1, 2, 3)), 1.0))
    return out


def retrieved(distance: np.ndarray) -> float:
    """Share, 0 to 1, of the N people whose own candidate, the one of the same number, is the nearest of C.

    Equally near candidates share the hit: a picture that is equally far from all scores 1 / C, which is chance.

    Args:
        distance: [N, C], C >= N.

    Raises:
        RequestError: fewer candidates than people.
    """
    if distance.ndim != 2 or distance.shape[0] > distance.shape[1]:
        raise RequestError(f"every person needs a candidate of the same number, not {list(distance.shape)}")
    nearest = np.isclose(distance, distance.min(1, keepdims=True), rtol=0, atol=1e-9)
    own = nearest[np.arange(len(distance)), np.arange(len(distance))]
    return float((own / nearest.sum(1)).mean())
