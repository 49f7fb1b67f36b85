"""One step of a method that looks once, twice or thrice: the pieces of which the single-step samplers are made.

Each is a generator that asks as a sampler does and returns the state at t. A step looks ahead only where it has an
inside: from pure noise and to the clean end it is of order 1.

Sources: DPM-Solver++(2S) Lu et al. 2211.01095, algorithm 1 with r = 1/2; DPM2 is k-diffusion's, the midpoint rule in
log clock; DPM-Solver-2 and -3 Lu et al. 2206.00927, algorithms 1 and 2. The last average eps against e^-lam; with x_m =
move(x, x0, s, m), eps_m - eps_s = e^lam_m (x0_s - x0_m) up to a scale that is the same at all m, so that here too only
x0 is mixed.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from safelight.core.steps import move, weights

if TYPE_CHECKING:
    from torch import Tensor

    from safelight.core.path import Level, Path
    from safelight.core.run import Denoised, Run

    Embedded = Generator[tuple[Tensor, Level], Denoised, tuple[Tensor, Tensor]]


def finite(s: Level, t: Level) -> bool:
    """Whether a step has a middle in lam: it does not start at pure noise and does not end clean."""
    return math.isfinite(t.lam - s.lam)


def stages(count: int, levels: Sequence[Level], path: Path) -> int:
    """Evaluations of a method with ``count`` looks in every step of finite length in lam, and one in the others."""
    return sum(count if finite(s, t) else 1 for s, t in pairwise(levels))


def inside(path: Path, s: Level, t: Level) -> bool:
    """Whether a step has a middle in log clock; on a flow path even a step from pure noise has one."""
    return t.sigma > 0.0 and math.isfinite(path.clock(s))


def midpoint_stages(levels: Sequence[Level], path: Path) -> int:
    """Evaluations of ``midpoint_step`` and of Heun's method: two in every step with an inside, one in the others."""
    return sum(2 if inside(path, s, t) else 1 for s, t in pairwise(levels))


def euler_step(x: Tensor, s: Level, t: Level, path: Path) -> Run:
    """One look: ``move``."""
    return move(x, (yield x, s).x0, s, t)


def midpoint_step(x: Tensor, s: Level, t: Level, path: Path) -> Run:
    """Two looks: the slope seen in the middle of the step, in log clock, counts for all of it (DPM2)."""
    x0 = (yield x, s).x0
    if inside(path, s, t):
        middle = path.at_clock(math.sqrt(path.clock(s) * path.clock(t)))
        look = (yield move(x, x0, s, middle), middle).x0
        x0 = x0 + path.clock(s) / path.clock(middle) * (look - x0)
    return move(x, x0, s, t)


def two_stage(x: Tensor, s: Level, t: Level, path: Path) -> Run:
    """Two looks: what is seen in the middle of the step, in lam, counts for all of it (DPM-Solver++ 2S)."""
    x0 = (yield x, s).x0
    if finite(s, t):
        middle = path.at((s.lam + t.lam) / 2)
        x0 = (yield move(x, x0, s, middle), middle).x0
    return move(x, x0, s, t)


def eps_step(x: Tensor, x0: Tensor, s: Level, t: Level, path: Path, order: int) -> Embedded:
    """DPM-Solver of order 1 to 3 from a first look x0 that was already taken, over a step of finite length.

    Returns:
        The state at t by the method of the next lower order that needs no look more, and by the method itself.
    """
    first = move(x, x0, s, t)
    if order == 1:
        return first, first
    h = t.lam - s.lam
    part = 1 / order
    near = path.at(s.lam + part * h)
    change = math.exp(part * h) * ((yield move(x, x0, s, near), near).x0 - x0)
    second = move(x, x0 + 1 / (2 * part) * change, s, t)
    if order == 2:
        return first, second
    far = path.at(s.lam + 2 / 3 * h)
    mixed = x0 + weights((s.lam, near.lam), s.lam, far.lam, -1.0)[1] * change
    look = (yield move(x, mixed, s, far), far).x0
    change = math.exp(2 / 3 * h) * (look - mixed) + (mixed - x0)
    return second, move(x, x0 + weights((s.lam, far.lam), s.lam, t.lam, -1.0)[1] * change, s, t)
