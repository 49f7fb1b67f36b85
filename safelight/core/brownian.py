"""One path of noise per picture: however a run is cut into steps, its noise is read off the same curve.

A reverse step at rate 1 from s to t adds sigma_t (X(lam_t) - e^-h X(lam_s)), h = lam_t - lam_s, where X is the
stationary Ornstein-Uhlenbeck process, X(lam) = e^-lam W(e^(2 lam)) with W a Brownian motion over the signal-to-noise
ratio. So neighbouring steps compose exactly to the step over both, overlapping steps share what they overlap in (the
mid point of DPM++ SDE needs that for its order), and the same seed tends to one picture as the steps grow. A sampler
that renews noise at another rate reads the same W; its steps compose up to O(h), and still tend to one picture.

X is known at the leaves of a binary tree over lam. A node is a function of its place and its parents alone (Levy's
construction), so nothing depends on the order of questions. Shapes: [1, *shape].
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from safelight.core.noise import Fresh, draw, key

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from safelight.core.path import Level

REACH = 16.0
"""Finite lam is taken to lie within +- REACH: sigma / alpha from 9e6 down to 1e-7."""
DEPTH = 19
GRAIN = 2.0 * REACH / 2**DEPTH
"""Distance of neighbouring leaves in lam; levels are moved to the nearest."""


class Brownian:
    """The noise of one picture as increments of one path: a ``Noise`` for steps to cleaner levels.

    A step to a noisier level, or one shorter than a leaf of the tree, gets fresh noise of its own: what is forgotten on
    the way up is no part of the path that leads down.

    Args:
        seed: the picture's own seed.
        shape: of the state, without the leading 1.
        view: which view or frame of the request this is.
        device: where the noise is put after it was made on the CPU.
    """

    def __init__(self, seed: int, shape: tuple[int, ...], view: int = 0, device: str | torch.device = "cpu") -> None:
        self.seed, self.shape, self.view, self.device = seed, shape, view, device
        self._fresh = Fresh(seed, shape, view, device)
        # Nodes on the way to the last two leaves; neighbours share most of theirs. Replaced as a whole, never changed.
        self._known: dict[int, Tensor] = {}

    def __call__(self, s: Level, t: Level) -> Tensor:
        """Unit normal [1, *shape] for the step from s to t."""
        start, end = s.lam, t.lam
        if math.isinf(end):
            # Clean: independent of everything that was before; or up to pure noise.
            return self._draw("clean").to(self.device) if end > start else self._fresh(s, t)
        known: dict[int, Tensor] = {}
        high = _leaf(end)
        if math.isinf(start):
            # From pure noise nothing is left of what was before; a step upwards from clean is not on the path.
            z = self._at(high, known) if start < end else self._fresh(s, t)
        elif (low := _leaf(start)) < high:
            h = (high - low) * GRAIN
            before, after = self._at(low, known), self._at(high, known)
            z = (after - math.exp(-h) * before) / math.sqrt(-math.expm1(-2.0 * h))
        else:
            z = self._fresh(s, t)
        if known:
            self._known = known
        return z.to(self.device)

    def _draw(self, place: int | str) -> Tensor:
        return draw(key(self.seed, self.view, "path", place), self.shape)

    def _at(self, leaf: int, known: dict[int, Tensor]) -> Tensor:
        """X at a leaf; notes the nodes on the way there in ``known``."""
        # Between the two ends e^-32 is left, which is nothing in float32.
        low, high = 0, 2**DEPTH
        a, b = (self._node(place, known) for place in (low, high))
        while leaf not in (low, high):
            middle = (low + high) // 2
            half = (middle - low) * GRAIN
            m = self._node(middle, known, (a, b), half)
            if leaf < middle:
                high, b = middle, m
            else:
                low, a = middle, m
        return a if leaf == low else b

    def _node(
        self, place: int, known: dict[int, Tensor], parents: tuple[Tensor, Tensor] | None = None, half: float = 0.0
    ) -> Tensor:
        """X at a node; between parents at the distance ``half`` it has mean (a + b) / (2 cosh) and variance tanh."""
        x = self._known.get(place, known.get(place))
        if x is None:
            x = self._draw(place)
            if parents is not None:
                a, b = parents
                x = (0.5 / math.cosh(half)) * (a + b) + math.sqrt(math.tanh(half)) * x
        known[place] = x
        return x


def _leaf(lam: float) -> int:
    return min(max(round((lam + REACH) / GRAIN), 0), 2**DEPTH)
