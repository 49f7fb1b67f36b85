"""What samplers cost beside the network: their own arithmetic for an answer, and one call of the U-Net, in one run.

Axes: [1, Z, h, w] the state of a picture; [2, Z, h, w] what the network is shown for it under guidance. Samplers are
answered at once, with a prediction and noise that stand ready; so what is timed is only what they do between two
questions. Where noise is read from one path, drawing it is timed for itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

from safelight.evaluate.timing import Pairs, Run

if TYPE_CHECKING:
    from torch import Tensor

    from safelight.core.path import Level
    from safelight.core.run import Noise

SHOWN = ("euler", "dpmpp_2m", "unipc", "dpmpp_2m_sde", "adams4", "sa_solver")
"""Rows that are told one by one, of all that are measured: the simplest, the most used, and what remembers most."""
NOISY = "dpmpp_2m_sde"
"""The row whose noise is measured for itself."""
STEPS, REPEATS, SEED = 20, 3, 1


class Costs(NamedTuple):
    """What was found.

    Attributes:
        pairs: seconds of the slowest sampler for one answer, and of one U-Net step, by turns.
        shares: every sampler's seconds over the step's. noise: the same for drawing the noise of one step.
    """

    pairs: Pairs
    shares: dict[str, float]
    noise: float


def costs(shape: Mapping[str, Any], edge: int, runs: int) -> Costs:
    """All samplers and the U-Net by turns; the first round fills caches and does not count.

    Args:
        shape: what the configuration changes in the released U-Net's defaults. edge: of the latents. runs: rounds.
    """
    import torch

    from safelight.core.brownian import Brownian
    from safelight.core.samplers.table import SAMPLERS

    x = torch.randn(1, 4, edge, edge, generator=torch.Generator().manual_seed(SEED))
    step = network_step(shape, x)
    subjects = {name: solving(name, x, lambda s, t: x) for name in SAMPLERS}
    rounds: list[tuple[dict[str, float], float, float]] = []
    with torch.no_grad():
        for _ in range(1 + runs):
            each = {name: median(work() for _ in range(REPEATS)) for name, work in subjects.items()}
            # A path remembers what was drawn from it, so every run gets its own.
            noise = median(drawing(NOISY, x, Brownian(seed, (4, edge, edge)))() for seed in range(REPEATS))
            rounds.append((each, noise, step()))
    rounds = rounds[1:]
    per_step = median(seconds for _, _, seconds in rounds)
    shares = {name: median(each[name] for each, _, _ in rounds) / per_step for name in SAMPLERS}
    worst = max(shares, key=lambda name: shares[name])
    pairs = Pairs(tuple(Run(each[worst]) for each, _, _ in rounds), tuple(Run(seconds) for _, _, seconds in rounds))
    return Costs(pairs, shares, median(noise for _, noise, _ in rounds) / per_step)


def network_step(shape: Mapping[str, Any], x: Tensor) -> Callable[[], float]:
    """Seconds of one call of our U-Net with random weights, for the two branches of guidance."""
    import torch

    from safelight.families.sd.model import UNet, UNetConfig

    with torch.device("meta"):
        network = UNet(UNetConfig.from_dict(dict(shape)))
    network.to_empty(device="cpu")
    network.eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(SEED)
    for weight in network.parameters():
        weight.uniform_(-0.02, 0.02, generator=generator)
    rows = x.expand(2, -1, -1, -1)
    context = torch.randn(2, 77, network.config.cross_attention_dim, generator=generator)
    t = torch.full((2,), 500.0)

    def run() -> float:
        begin = time.perf_counter()
        network(rows, t, context)
        return time.perf_counter() - begin

    return run


def _levels() -> tuple[Any, list[Level]]:
    from safelight.core.path import vp_scaled_linear
    from safelight.core.schedule import karras

    path = vp_scaled_linear()
    return path, karras(path, STEPS)


def solving(name: str, x: Tensor, noise: Noise) -> Callable[[], float]:
    """Seconds per evaluation of a whole run, from its start to its end.

    Args:
        name: row of SAMPLERS. x: the state at its start, and what it is told every time. noise: ready, like x.
    """
    from safelight.core.run import Denoised
    from safelight.core.samplers.table import SAMPLERS

    path, levels = _levels()
    solver, answer = SAMPLERS[name].bind(path), Denoised(x, x)

    def run() -> float:
        asked, begin = 0, time.perf_counter()
        solving = solver(x, levels, noise)
        try:
            next(solving)
            while True:
                asked += 1
                solving.send(answer)
        except StopIteration:
            return (time.perf_counter() - begin) / asked

    return run


def drawing(name: str, x: Tensor, noise: Noise) -> Callable[[], float]:
    """Seconds per evaluation that drawing its noise takes alone."""
    wanted: list[tuple[Level, Level]] = []

    def note(s: Level, t: Level) -> Tensor:
        wanted.append((s, t))
        return x

    solving(name, x, note)()

    def run() -> float:
        begin = time.perf_counter()
        for s, t in wanted:
            noise(s, t)
        return (time.perf_counter() - begin) / len(wanted)

    return run
