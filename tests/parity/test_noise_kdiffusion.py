"""k-diffusion draws once a step, in order, where we do: so a generator's draws fall on the same steps."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from safelight.core.path import EDM, Level
from safelight.core.run import Denoised
from safelight.core.samplers.table import SAMPLERS
from safelight.core.sources import source
from tests.parity.kdiffusion import sampling

SIGMAS = [14.0, 6.0, 2.5, 1.0, 0.3, 0.05, 0.0]
SEED, SHAPE = 9, (4, 8, 8)
PAIRS = {
    "euler_ancestral": "sample_euler_ancestral",
    "dpm_2_ancestral": "sample_dpm_2_ancestral",
    "dpmpp_2s_ancestral": "sample_dpmpp_2s_ancestral",
}


def picture(x: Tensor, sigma: float) -> Tensor:
    """A smooth, curved denoiser."""
    return torch.tanh(x / math.sqrt(1 + sigma**2)) * (0.5 + 0.5 / (1 + sigma))


@pytest.mark.parametrize("name", PAIRS)
def test_one_global_generator_from_the_start_on_gives_the_draws_of_ours(name: str) -> None:
    start, noise = source("a1111", SEED, SHAPE)
    run = SAMPLERS[name].bind(EDM())(start * SIGMAS[0], [Level(1.0, sigma) for sigma in SIGMAS], noise)
    try:
        x, level = next(run)
        while True:
            x, level = run.send(Denoised(picture(x, level.sigma)))
    except StopIteration as end:
        ours: Tensor = end.value
    with torch.random.fork_rng():
        torch.manual_seed(SEED)
        theirs = getattr(sampling(), PAIRS[name])(
            lambda x, sigma: picture(x, float(sigma[0])),
            torch.randn(1, *SHAPE) * SIGMAS[0],
            torch.tensor(SIGMAS),
            disable=True,
        )
    assert (ours - theirs).abs().max() < 1e-4
