"""Grids over the rows k of the training table, 0 (cleanest) to T - 1 (noisiest).

    leading       multiples of T // n, plus an offset                      DDIM, SD 1.x
    ddim_uniform  the same with offset 1                                   A1111 "DDIM", ComfyUI "ddim_uniform"
    trailing      T - 1 downwards in strides of T / n, in whole rows       2305.08891 table 2
    even          the same, fractions kept: sigma = 1 - i / n on a flow    FLUX, SD3
    linspace      T - 1 to 0 in n even parts, both ends visited            Euler; A1111 "Uniform", ComfyUI "normal"
    sgm_uniform   T - 1 to 0 in n + 1, the last left out                   Stability; DPM-Solver's "linspace"
    simple        every (T / n)-th row of the table, from the top          ComfyUI
    beta          quantiles of a beta distribution, in whole rows          ComfyUI, A1111
    lcm           every (m / n)-th of the m rows that were distilled       2310.04378

"leading" and "linspace" name two grids each in diffusers: DDIM and Euler lay n points, DPM-Solver lays n + 1 and leaves
the cleanest out. That is ``spare`` here: with it the last step to the clean end is as long as the others.
"""

from __future__ import annotations

from collections.abc import Sequence

from safelight.core.path import CLEAN, Level, Path
from safelight.core.samplers.row import Names
from safelight.core.schedules.quantile import quantile
from safelight.core.schedules.row import Schedule
from safelight.errors import RequestError


def check(n: int, most: int) -> None:
    """Refuse a number of steps that a grid cannot have."""
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
    check(n, steps - spare)
    stride = steps // (n + spare)
    top = (n - 1 + spare) * stride
    offset = min(offset, steps - 1 - top)
    return [float(i * stride + offset) for i in range(n - 1 + spare, spare - 1, -1)]


def trailing_positions(steps: int, n: int) -> list[float]:
    """n whole positions from T - 1 downwards, strides of T / n rounded half to even."""
    check(n, steps)
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
    check(n, steps - spare)
    gaps = n - 1 + spare
    stride = (steps - 1) / gaps if gaps else 0.0
    positions = [float(steps - 1), *((gaps - i) * stride for i in range(1, n))]
    return [float(round(k)) for k in positions] if rounded else positions


def visit(path: Path, positions: Sequence[float], final: Level = CLEAN) -> list[Level]:
    """The levels at these positions of the training table, then the final one."""
    return [*(path.trained(k) for k in positions), final]


def leading(path: Path, n: int, offset: float = 0.0) -> list[Level]:
    """Multiples of T // n plus an offset: the noisiest level is far from the path's end where n is small."""
    return visit(path, leading_positions(path.steps, n, int(offset)))


def trailing(path: Path, n: int) -> list[Level]:
    """From the noisiest level down in strides of T / n."""
    return visit(path, trailing_positions(path.steps, n))


def even(path: Path, n: int) -> list[Level]:
    """``trailing`` without rounding, for networks that know levels between rows."""
    check(n, path.steps)
    return visit(path, [path.steps - i * path.steps / n - 1 for i in range(n)])


def linspace(path: Path, n: int, rounded: float = 0.0) -> list[Level]:
    """Even in the training table from its noisiest to its cleanest row; rounded=1 visits whole rows only."""
    return visit(path, linspace_positions(path.steps, n, bool(rounded)))


def sgm_uniform(path: Path, n: int) -> list[Level]:
    """Even in the training table, without its cleanest row: the last step is as long as the others."""
    return visit(path, linspace_positions(path.steps, n, spare=n < path.steps))


def simple(path: Path, n: int) -> list[Level]:
    """Every (T / n)-th row from the noisiest, rounded upwards."""
    check(n, path.steps)
    return visit(path, [float(path.steps - 1 - i * path.steps // n) for i in range(n)])


def apart(positions: Sequence[float]) -> list[float]:
    """Whole positions, falling, moved as little as needed for no two to be one; the lowest stays 0 or above."""
    done: list[float] = []
    for k in positions:
        done.append(min(k, done[-1] - 1) if done else k)
    n = len(done)
    return [max(k, float(n - 1 - i)) for i, k in enumerate(done)]


def beta(path: Path, n: int, a: float = 0.6, b: float = 0.6) -> list[Level]:
    """Rows at the quantiles 1 - i / n of a beta distribution: short steps at both ends where a and b are below 1.

    Where other programs land twice on a row they leave steps out; here the next free row is visited.

    Args:
        a: below 1 crowds the clean end; b: below 1 crowds the noisy end; 1 and 1 are even.
    """
    check(n, path.steps)
    return visit(path, apart([float(round(quantile(1.0 - i / n, a, b) * (path.steps - 1))) for i in range(n)]))


def lcm(path: Path, n: int, original: float = 50.0) -> list[Level]:
    """The rows on which a consistency model was distilled, every (original / n)-th from the noisiest.

    Args:
        n: 1 to original.
        original: how many steps its teacher took, evenly over the table; 50 for published models.
    """
    check(n, min(int(original), path.steps))
    stride = path.steps // int(original)
    return visit(path, [float((int(original) - i * int(original) // n) * stride - 1) for i in range(n)])


def ddim_uniform(path: Path, n: int) -> list[Level]:
    """``leading`` with offset 1, in exactly n steps.

    Other programs walk the table in strides of T // n until it ends, which gives another number of steps than was
    asked for wherever that stride does not fit n times.
    """
    return leading(path, n, 1.0)


ROWS = (
    Schedule(
        "beta", beta, "Lee et al. 2407.12173", {"a": 0.6, "b": 0.6}, Names(("Beta",), ("beta",), sd_cpp=("beta",))
    ),
    Schedule("ddim_uniform", ddim_uniform, "Song et al. 2010.02502", {}, Names(("DDIM",), ("ddim_uniform",))),
    Schedule("even", even, "Esser et al. 2403.03206"),
    Schedule("lcm", lcm, "Luo et al. 2310.04378", {"original": 50.0}, Names(sd_cpp=("lcm",))),
    Schedule(
        "leading",
        leading,
        "Song et al. 2010.02502",
        {"offset": 0.0},
        Names(diffusers=("timestep_spacing=leading",)),
    ),
    Schedule(
        "linspace",
        linspace,
        "Crowson, k-diffusion",
        {"rounded": 0.0},
        Names(
            ("Uniform", "Normal"), ("normal",), ("timestep_spacing=linspace",), ("get_sigmas",), ("discrete", "normal")
        ),
    ),
    Schedule(
        "sgm_uniform",
        sgm_uniform,
        "Stability AI, generative-models",
        {},
        Names(("SGM Uniform", "SGMUniform"), ("sgm_uniform",), sd_cpp=("sgm_uniform",)),
    ),
    Schedule("simple", simple, "k-diffusion's table", {}, Names(("Simple",), ("simple",), sd_cpp=("simple",))),
    Schedule("trailing", trailing, "Lin et al. 2305.08891", {}, Names(diffusers=("timestep_spacing=trailing",))),
)
"""The rows of this family."""
