"""Explicit exponential Runge-Kutta methods on x0 in lam: look ahead once or twice, then take the whole step at once.

With u = lam and rate eta (0: the ODE; 1: the SDE of DDPM) the solution over a step is an average of x0 against
e^((1 + eta) u); a method says at which middle levels the network is asked and how the answers are mixed. All are chart
free, and of order 1 where a step starts at pure noise or ends clean, for an infinite step has no middle.

Sources: DPM-Solver++(2S) Lu et al. 2211.01095, algorithm 1 with r = 1/2; its stochastic form is k-diffusion's
``sample_dpmpp_sde``; SEEDS-2 and SEEDS-3 Gonzalez et al. 2305.14267, here on x0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING

from safelight.core.samplers.ancestral import descend
from safelight.core.samplers.row import Names, Sampler
from safelight.core.samplers.stages import finite, stages, two_stage
from safelight.core.steps import blend, move, ratio

if TYPE_CHECKING:
    from torch import Tensor

    from safelight.core.path import Level, Path
    from safelight.core.run import Noise, Run

PARTS = {2: (1 / 2,), 3: (1 / 3, 2 / 3)}
"""Where SEEDS looks within a step of lam, by order."""


def dpmpp_2s(x: Tensor, levels: Sequence[Level], noise: Noise, *, path: Path) -> Run:
    """Two evaluations per step, without noise.

    Args:
        x: state [1, ...] at levels[0].
    """
    for s, t in pairwise(levels):
        x = yield from two_stage(x, s, t, path)
    return x


def dpmpp_sde(
    x: Tensor,
    levels: Sequence[Level],
    noise: Noise,
    *,
    path: Path,
    eta: float = 1.0,
    s_noise: float = 1.0,
    r: float = 0.5,
) -> Run:
    """Two evaluations per step; to the middle and to the end of the step by ``descend``.

    It asks noise(s, middle) and noise(s, t), which overlap: of order 2 in law only where both are read off one path
    (``noise="path"`` in its row), of order 1 where they are drawn independently.

    Args:
        x: state [1, ...] at levels[0].
        eta: 0 (no noise) upwards; 1 is the SDE that DDPM discretises.
        s_noise: factor of the added noise; 1 is the theory.
        r: where the second look is, as a part of the step in lam, above 0 to 1 (its end).
    """
    for s, t in pairwise(levels):
        x0 = (yield x, s).x0
        if finite(s, t):
            middle = path.at(s.lam + r * (t.lam - s.lam))
            look = (yield descend(x, x0, s, middle, eta, noise, s_noise), middle).x0
            x0 = x0 + 1.0 / (2.0 * r) * (look - x0)
        x = descend(x, x0, s, t, eta, noise, s_noise)
    return x


def seeds(
    x: Tensor,
    levels: Sequence[Level],
    noise: Noise,
    *,
    path: Path,
    order: int,
    eta: float = 1.0,
    s_noise: float = 1.0,
) -> Run:
    """``order`` evaluations per step, between which the noise of the step is put together from that of its parts.

    It asks noise(a, b) for every part of a step between two looks, so these never overlap and may be drawn afresh.

    Args:
        x: state [1, ...] at levels[0].
        order: 2 or 3, of the method without noise; with noise the law converges at order 2.
        eta: rate of the reverse SDE; 0 is the ODE, 1 the SDE of the paper.
        s_noise: factor of the added noise; 1 is the theory.
    """
    for s, t in pairwise(levels):
        parts = PARTS[order] if finite(s, t) else ()
        stops = [s, *(path.at(s.lam + part * (t.lam - s.lam)) for part in parts), t]
        x0 = mixed = (yield x, s).x0
        drawn: list[Tensor] = []
        for i, stop in enumerate(stops[1:], 1):
            if eta and stop.sigma:
                drawn.append(s_noise * noise(stops[i - 1], stop))
            y = move(x, mixed, s, stop, eta, joined(stops[: i + 1], drawn, eta) if drawn else None)
            if stop is not t:
                look, after = (yield y, stop).x0, stops[i + 1]
                mixed = look if order == 2 else blend([(s.lam, x0), (stop.lam, look)], s.lam, after.lam, 1.0 + eta)
        x = y
    return x


def joined(stops: Sequence[Level], drawn: Sequence[Tensor], eta: float) -> Tensor:
    """Unit normal of the whole way from the unit normals of its parts, as ``move`` with this eta adds them up.

    Args:
        stops: where the parts meet, one more than there are parts.
    """
    if len(drawn) == 1:
        return drawn[0]
    end, whole = stops[-1], 1.0 - ratio(stops[0], stops[-1]) ** (2.0 * eta)
    shares = (ratio(b, end) ** (2.0 * eta) * (1.0 - ratio(a, b) ** (2.0 * eta)) for a, b in pairwise(stops))
    first, *rest = (math.sqrt(share / whole) * z for share, z in zip(shares, drawn))
    return sum(rest, first)


ROWS = (
    Sampler(
        name="dpmpp_2s",
        function=dpmpp_2s,
        order=2,
        rule_order=2,
        paper="Lu et al. 2211.01095",
        evaluations=partial(stages, 2),
    ),
    Sampler(
        name="dpmpp_sde",
        function=dpmpp_sde,
        order=2,
        rule_order=2,
        paper="Crowson, k-diffusion; Lu et al. 2211.01095",
        options={"eta": 1.0, "s_noise": 1.0, "r": 0.5},
        stochastic=True,
        evaluations=partial(stages, 2),
        noise="path",
        names=Names(
            a1111=("DPM++ SDE", "k_dpmpp_sde"),
            comfyui=("dpmpp_sde", "dpmpp_sde_gpu"),
            diffusers=("DPMSolverSDEScheduler",),
            k_diffusion=("sample_dpmpp_sde",),
        ),
    ),
    Sampler(
        name="seeds_2",
        function=partial(seeds, order=2),
        order=2,
        rule_order=2,
        paper="Gonzalez et al. 2305.14267",
        options={"eta": 1.0, "s_noise": 1.0},
        stochastic=True,
        evaluations=partial(stages, 2),
        names=Names(comfyui=("seeds_2",)),
    ),
    Sampler(
        name="seeds_3",
        function=partial(seeds, order=3),
        order=2,
        rule_order=3,
        paper="Gonzalez et al. 2305.14267",
        options={"eta": 1.0, "s_noise": 1.0},
        stochastic=True,
        evaluations=partial(stages, 3),
        names=Names(comfyui=("seeds_3",)),
    ),
)
"""The rows of this family."""
