"""DDIM inversion: from a picture up to the noise that DDIM would have made it from.

A schedule is run upwards, so this is no row of the table of samplers but a solver of its own: its levels come cleanest
first. DDIM's step from t down to s needs what the network sees at t; on the way up that is not known yet, so the
network is shown the state at s and told the label of t. The two differ by O(h), so the way back down misses the
picture by O(h).

Source: DDIM 2010.02502, section 4.3 and eq. 14; Dhariwal & Nichol 2105.05233, appendix F; diffusers'
DDIMInverseScheduler.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from safelight.core.samplers.row import Sampler
from safelight.errors import RequestError

if TYPE_CHECKING:
    from torch import Tensor

    from safelight.core.path import Level, Path
    from safelight.core.run import Noise, Run


def inversion(x: Tensor, levels: Sequence[Level], noise: Noise, *, path: Path) -> Run:
    """One evaluation per step; draws no noise.

    Args:
        x: state [1, ...] at levels[0], which may be clean.
        levels: cleanest first, none cleaner than the one before.

    Raises:
        RequestError: the levels fall.
    """
    if any(s.lam < t.lam for s, t in pairwise(levels)):
        raise RequestError("an inversion goes from clean to noise; reverse the schedule")
    for s, t in pairwise(levels):
        # At a clean level x0 = x says nothing of the noise; there the question is asked as if x were at t.
        asked = s._replace(t=t.t) if s.sigma else t
        x0 = (yield x, asked).x0
        eps = (x - asked.alpha * x0) / asked.sigma
        clean = (x - s.sigma * eps) / s.alpha
        x = t.alpha * clean + t.sigma * eps
    return x


INVERSION = Sampler(
    name="inversion", function=inversion, order=1, rule_order=1, paper="Song et al. 2010.02502, section 4.3"
)
"""What a ``Job`` takes, bound to a path, whose levels come cleanest first: ``levels[::-1]`` of a schedule.

Guidance above 1 bends the way up and down differently, so invert with ``Unguided`` or ``CFG(1.0)`` to come back.
"""
