"""Schedules: which levels to visit. A schedule is a plain list of n + 1 levels, noisiest first; print, slice, edit it.

Grids over positions k of the training table (0 = cleanest, T - 1 = noisiest):

    leading      multiples of T // n, plus an offset                      DDIM, SD 1.x
    trailing     T - 1 downwards in strides of T / n                      2305.08891 table 2
    linspace     T - 1 to 0 in n even parts, both ends visited            Euler; A1111 "Uniform", ComfyUI "normal"
    sgm_uniform  T - 1 to 0 in n + 1, the last left out                   Stability; DPM-Solver's "linspace"
    simple       every (T / n)-th row of the table, from the top          ComfyUI

and over the path's clock (sigma / alpha, or sigma for flow): karras (2206.00364 eq. 5) and exponential.

"leading" and "linspace" name two grids each in diffusers: DDIM and Euler lay n points, DPM-Solver lays n + 1 and leaves
the cleanest out. That is ``spare`` here: with it the last step to the clean end is as long as the others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from safelight.core.path import CLEAN, Level, Path
from safelight.errors import RequestError, UnknownNameError

Schedule = Callable[[Path, int], list[Level]]
"""(path, n) -> n + 1 levels, noisiest first, the last one clean."""


def _check(n: int, most: int) -> None:
    if not 1 <= n <= most:
        raise RequestError(f"steps must lie between 1 and {most}, not {n}")


def leading_positions(steps: int, n: int, offset: int = 0, spare: bool = False) -> list[float]:
    """n whole positions: multiples of the stride plus an offset, which shrinks where the top would leave the table.

    Args:
        steps: length T of the training table.
        n: 1 to T (T - 1 with spare).
        offset: diffusers' steps_offset.
        spare: lay n + 1 points and leave the cleanest out (DPM-Solver's meaning).
    """
    _check(n, steps - spare)
    stride = steps // (n + spare)
    top = (n - 1 + spare) * stride
    offset = min(offset, steps - 1 - top)
    return [float(i * stride + offset) for i in range(n - 1 + spare, spare - 1, -1)]


def trailing_positions(steps: int, n: int) -> list[float]:
    """n whole positions from T - 1 downwards, strides of T / n rounded half to even."""
    _check(n, steps)
    stride = steps - (steps - steps / n)  # with the rounding of numpy.arange, on which diffusers' halves depend
    return [float(round(steps - i * stride) - 1) for i in range(n)]


def linspace_positions(steps: int, n: int, rounded: bool = False, spare: bool = False) -> list[float]:
    """n positions from T - 1 to 0, both visited; with one step only T - 1.

    Args:
        steps: length T of the training table.
        n: 1 to T (T - 1 with spare).
        rounded: to whole rows, half to even, for networks that know only those.
        spare: lay n + 1 points and leave 0 out (DPM-Solver's meaning).
    """
    _check(n, steps - spare)
    gaps = n - 1 + spare
    stride = (steps - 1) / gaps if gaps else 0.0
    positions = [float(steps - 1), *((gaps - i) * stride for i in range(1, n))]
    return [float(round(k)) for k in positions] if rounded else positions


def visit(path: Path, positions: Sequence[float], final: Level = CLEAN) -> list[Level]:
    """The levels at these positions of the training table, then the final one."""
    return [*(path.trained(k) for k in positions), final]


def leading(path: Path, n: int) -> list[Level]:
    """Multiples of T // n: the noisiest level is far from the path's end where n is small."""
    return visit(path, leading_positions(path.steps, n))


def trailing(path: Path, n: int) -> list[Level]:
    """From the noisiest level down in strides of T / n."""
    return visit(path, trailing_positions(path.steps, n))


def linspace(path: Path, n: int) -> list[Level]:
    """Even in the training table from its noisiest to its cleanest row; rows between rows are interpolated."""
    return visit(path, linspace_positions(path.steps, n))


def sgm_uniform(path: Path, n: int) -> list[Level]:
    """Even in the training table, without its cleanest row: the last step is as long as the others."""
    return visit(path, linspace_positions(path.steps, n, spare=n < path.steps))


def simple(path: Path, n: int) -> list[Level]:
    """Every (T / n)-th row from the noisiest, rounded upwards."""
    _check(n, path.steps)
    return visit(path, [float(path.steps - 1 - i * path.steps // n) for i in range(n)])


def karras(
    path: Path, n: int, rho: float = 7.0, clock_min: float | None = None, clock_max: float | None = None
) -> list[Level]:
    """Even in clock^(1/rho): short steps near the clean end (2206.00364, eq. 5).

    Args:
        n: 1 to 10000.
        rho: 7 is the paper's; larger shortens the last steps; 1 is even in the clock.
        clock_min, clock_max: where to end before clean and where to start; by default the path's ends. A path that
            starts at pure noise with an infinite clock keeps that first level, and the grid begins one row below it.
    """
    return _on_clock(path, n, clock_min, clock_max, lambda c: c ** (1.0 / rho), lambda u: u**rho)


def exponential(path: Path, n: int, clock_min: float | None = None, clock_max: float | None = None) -> list[Level]:
    """Even in log(clock); arguments as in ``karras``."""
    return _on_clock(path, n, clock_min, clock_max, math.log, math.exp)


def _on_clock(
    path: Path,
    n: int,
    low: float | None,
    high: float | None,
    bend: Callable[[float], float],
    unbend: Callable[[float], float],
) -> list[Level]:
    _check(n, 10_000)
    noisiest, cleanest = path.ends
    low = path.clock(cleanest) if low is None else low
    high = path.clock(noisiest) if high is None else high
    infinite = math.isinf(high)
    if infinite:
        high = path.clock(path.trained(path.steps - 2))
    top, bottom = bend(high), bend(low)
    levels = [path.at_clock(unbend(top + (bottom - top) * i / (n - 1) if n > 1 else top)) for i in range(n)]
    if infinite:
        levels[0] = noisiest
    return [*levels, CLEAN]


def start(levels: Sequence[Level], strength: float) -> list[Level]:
    """The part of a schedule that image-to-image runs: its last int(n strength) steps, as in diffusers.

    Args:
        levels: n + 1 of them.
        strength: 0 leaves the picture as it is, 1 forgets it.

    Raises:
        RequestError: strength is outside 0..1, or no step is left to run.
    """
    n = len(levels) - 1
    if not 0.0 <= strength <= 1.0:
        raise RequestError(f"strength lies between 0 and 1, not {strength}")
    kept = min(int(n * strength), n)
    if kept < 1:
        raise RequestError(f"strength {strength} of {n} steps leaves no step to run; raise the strength or the steps")
    return list(levels[n - kept :])


SCHEDULES: dict[str, Schedule] = {
    "exponential": exponential,
    "karras": karras,
    "leading": leading,
    "linspace": linspace,
    "sgm_uniform": sgm_uniform,
    "simple": simple,
    "trailing": trailing,
}

ALIASES: dict[str, str] = {
    "discrete": "linspace",  # stable-diffusion.cpp
    "get_sigmas_exponential": "exponential",
    "get_sigmas_karras": "karras",
    "normal": "linspace",  # ComfyUI
    "sgm": "sgm_uniform",
    "uniform": "linspace",  # A1111
}


def find(name: str) -> str:
    """The row of SCHEDULES that a name of A1111, ComfyUI, diffusers or stable-diffusion.cpp stands for.

    Raises:
        UnknownNameError: no such schedule.
    """
    plain = name.strip().lower().replace(" ", "_").replace("-", "_")
    plain = ALIASES.get(plain, plain)
    if plain not in SCHEDULES:
        raise UnknownNameError("schedule", name, [*SCHEDULES, *ALIASES])
    return plain
