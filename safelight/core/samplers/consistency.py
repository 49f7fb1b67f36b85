"""Samplers for networks that leap: every answer is a whole way down, and new noise leads back up to the next level.

For networks distilled to say where the curve through x ends. Asked of any other network they are no solvers: more steps
come no closer to anything. With an exact network every level has exactly the law of the data with its noise.

Sources: consistency models, Song et al. 2303.01469, algorithm 1; LCM, Luo et al. 2310.04378, algorithm 2, and its
c_skip, c_out in section 4.1; TCD, Zheng et al. 2402.19159, algorithm 4 (strategic stochastic sampling).
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from safelight.core.path import CLEAN
from safelight.core.samplers.row import Names, Sampler
from safelight.core.steps import move, renoise
from safelight.errors import RequestError, UnknownNameError

if TYPE_CHECKING:
    from torch import Tensor

    from safelight.core.path import Level, Path
    from safelight.core.run import Noise, Run

LANDINGS = ("clean", "trained")


def consistency(
    x: Tensor,
    levels: Sequence[Level],
    noise: Noise,
    *,
    path: Path,
    boundary: float = 0.0,
    landing: str = "clean",
    s_noise: float = 1.0,
) -> Run:
    """One evaluation per step: believe the answer wholly, then put noise back on it.

    Args:
        x: state [1, ...] at levels[0].
        boundary: 0 takes the answer as it is. Above, it is mixed with x so that nothing changes at the cleanest row
            of the training table; the larger, the sooner the answer stands alone (diffusers' timestep_scaling, 10).
        landing: what the answer is: "clean" data (LCM), or data as noisy as the path's cleanest "trained" level
            (consistency models), so that less noise is missing.
        s_noise: factor of the added noise; 1 is the theory.

    Raises:
        UnknownNameError: no such landing.
    """
    if landing not in LANDINGS:
        raise UnknownNameError("landing", landing, LANDINGS)
    low = CLEAN if landing == "clean" else path.ends[1]
    for s, t in pairwise(levels):
        x0 = (yield x, s).x0
        if boundary:
            skip = 0.25 / ((boundary * trained_row(path, s)) ** 2 + 0.25)
            x0 = skip * x + math.sqrt(1.0 - skip) * x0
        x = renoise(low.alpha * x0, low, t, s_noise * noise(s, t)) if t.sigma else t.alpha * x0
    return x


def trajectory(
    x: Tensor, levels: Sequence[Level], noise: Noise, *, path: Path, eta: float = 0.3, s_noise: float = 1.0
) -> Run:
    """TCD, one evaluation per step: down to row (1 - eta) k of the training table, where k is the next level's, and up.

    Args:
        x: state [1, ...] at levels[0].
        eta: the paper's gamma. 0 goes straight to the next level, which is DDIM; 1 always down to the cleanest row.
        s_noise: factor of the added noise; 1 is the theory.

    Raises:
        RequestError: eta is outside 0..1.
    """
    if not 0.0 <= eta <= 1.0:
        raise RequestError(f"option eta of tcd lies between 0 and 1, not {eta:g}")
    for s, t in pairwise(levels):
        x0 = (yield x, s).x0
        low = landed(path, t, eta)
        x = move(x, x0, s, low)
        if low.lam > t.lam:
            x = renoise(x, low, t, s_noise * noise(s, t))
    return x


def landed(path: Path, t: Level, eta: float) -> Level:
    """The level at row (1 - eta) k, rounded down to a whole row as diffusers does, never noisier than t."""
    if not eta or t.sigma == 0.0:
        return t
    low = path.trained(math.floor((1.0 - eta) * trained_row(path, t) + 1e-6))
    return low if low.lam > t.lam else t


def trained_row(path: Path, level: Level) -> int:
    """The cleanest row of the path's training table that is as noisy as a level, 0 to steps - 1."""
    row = bisect_left(range(path.steps), -level.lam - 1e-9, key=lambda k: -path.trained(k).lam)
    return min(row, path.steps - 1)


ROWS = (
    Sampler(
        name="consistency",
        function=consistency,
        order=0,
        rule_order=0,
        paper="Song et al. 2303.01469",
        options={"boundary": 0.0, "landing": "trained", "s_noise": 1.0},
        stochastic=True,
        names=Names(diffusers=("CMStochasticIterativeScheduler",)),
    ),
    Sampler(
        name="lcm",
        function=consistency,
        order=0,
        rule_order=0,
        paper="Luo et al. 2310.04378",
        options={"boundary": 0.0, "landing": "clean", "s_noise": 1.0},
        stochastic=True,
        names=Names(comfyui=("lcm",), sd_cpp=("lcm",)),
    ),
    Sampler(
        name="lcm_boundary",
        function=consistency,
        order=0,
        rule_order=0,
        paper="Luo et al. 2310.04378",
        options={"boundary": 10.0, "landing": "clean", "s_noise": 1.0},
        stochastic=True,
        names=Names(diffusers=("LCMScheduler",)),
    ),
    Sampler(
        name="tcd",
        function=trajectory,
        order=1,
        rule_order=1,
        paper="Zheng et al. 2402.19159",
        options={"eta": 0.3, "s_noise": 1.0},
        stochastic=True,
        names=Names(diffusers=("TCDScheduler",)),
    ),
)
"""The rows of this family; an order of 0 says that they are no solvers."""
