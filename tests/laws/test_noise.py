"""Laws of noise: what a seed means."""

from __future__ import annotations

import pytest
import torch

from safelight.core.noise import Fresh, draw, key, start_noise
from safelight.core.path import Level, vp_scaled_linear
from safelight.errors import RequestError

PATH = vp_scaled_linear()
SHAPE = (4, 8, 8)
S, T = PATH.level(900), PATH.level(700)


@pytest.mark.parametrize("seed", [0, 1, 42, 2**32 + 5, 2**63 - 1, 2**64 - 1, -1])
def test_start_noise_is_what_diffusers_draws_on_a_cpu(seed: int) -> None:
    wanted = torch.randn((1, *SHAPE), generator=torch.Generator("cpu").manual_seed(seed))
    assert torch.equal(start_noise(seed, SHAPE), wanted)


def test_the_first_numbers_of_seed_zero_are_known() -> None:
    # Written down, so that another torch that draws otherwise is noticed.
    wanted = torch.tensor([1.5409960746765137, -0.293428897857666, -2.1787893772125244, 0.5684312582015991])
    assert torch.equal(start_noise(0, (4,))[0], wanted)


def test_keys_are_the_same_on_every_machine() -> None:
    assert key(0) == 7547993948943478978
    assert key(42, 3, "step", -1234567, "inf") == 2718937226314968063
    assert key(1, 23) != key(12, 3)
    assert key("1") != key(1)
    assert all(0 <= key(i) < 2**63 for i in range(100))


def test_asking_twice_gives_the_same_noise_and_leaves_the_global_generator_alone() -> None:
    state = torch.get_rng_state()
    noise = Fresh(3, SHAPE)
    assert torch.equal(noise(S, T), noise(S, T))
    assert torch.equal(noise(S, T), Fresh(3, SHAPE)(S, T))
    assert torch.equal(torch.get_rng_state(), state)


def test_seed_view_and_levels_each_change_the_noise() -> None:
    draws = [
        start_noise(3, SHAPE),
        start_noise(4, SHAPE),
        start_noise(3, SHAPE, view=1),
        start_noise(3, SHAPE, view=2),
        Fresh(3, SHAPE)(S, T),
        Fresh(4, SHAPE)(S, T),
        Fresh(3, SHAPE, view=1)(S, T),
        Fresh(3, SHAPE)(S, PATH.level(699)),
        Fresh(3, SHAPE)(PATH.level(901), T),
        Fresh(3, SHAPE)(Level(0.0, 1.0, 999.0), T),
    ]
    table = torch.stack([each.flatten() for each in draws])
    correlation = torch.corrcoef(table) - torch.eye(len(draws))
    assert correlation.abs().max() < 0.25, "two draws of 256 numbers share more than chance"


def test_the_last_bit_of_a_level_does_not_change_the_noise() -> None:
    nudged = T._replace(alpha=T.alpha * (1 + 2e-16), sigma=T.sigma * (1 - 2e-16))
    assert torch.equal(Fresh(3, SHAPE)(S, T), Fresh(3, SHAPE)(S, nudged))


def test_noise_is_unit_normal() -> None:
    many = torch.cat([Fresh(seed, (4096,))(S, T).flatten() for seed in range(16)])
    assert abs(many.mean()) < 0.02
    assert abs(many.std() - 1) < 0.02
    assert abs((many**4).mean() - 3) < 0.15


def test_a_seed_that_fits_no_generator_is_refused() -> None:
    for seed in (2**64, -(2**63) - 1):
        with pytest.raises(RequestError, match="64 bits"):
            draw(seed, SHAPE)


def test_noise_is_put_on_the_device_asked_for() -> None:
    assert Fresh(3, SHAPE, device="meta")(S, T).device.type == "meta"
