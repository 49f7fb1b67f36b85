"""Which rows a step sees is a function of (seed, step) alone."""

from __future__ import annotations

import pytest
import torch

from safelight.train.order import first_weights, generator, rows

ROWS = [45, 96, 82, 3, 95, 80, 5, 32]
NOISE = [0.661425, -0.077221, 0.711896]


@pytest.mark.parametrize(("batch", "count"), [(4, 12), (5, 12), (7, 3), (1, 1), (12, 12)])
def test_every_pass_is_a_permutation(batch: int, count: int) -> None:
    seen = [row for step in range(3 * count) for row in rows(5, step, batch, count)]
    for turn in range(len(seen) // count):
        assert sorted(seen[turn * count : (turn + 1) * count]) == list(range(count))


def test_a_batch_may_reach_over_the_end_of_a_pass() -> None:
    over = rows(0, 2, 5, 12)  # places 10 to 14
    one = [row for step in range(12) for row in rows(0, step, 1, 12)]
    two = [row for step in range(12, 24) for row in rows(0, step, 1, 12)]
    assert over == one[10:] + two[:3]
    assert one != two, "every pass is shuffled anew"


def test_the_order_is_the_same_in_every_process_and_on_every_day() -> None:
    torch.manual_seed(123)  # the global generator plays no part
    assert rows(0, 0, 8, 100) == ROWS
    assert rows(1, 0, 8, 100) != ROWS
    assert torch.randn(3, generator=generator(0, 7, "noise")).tolist() == pytest.approx(NOISE, abs=1e-6)
    assert torch.equal(torch.rand(4), torch.rand(4, generator=torch.Generator().manual_seed(123)))


def test_purposes_do_not_share_their_noise() -> None:
    drawn = {tuple(torch.rand(2, generator=generator(0, step, p)).tolist()) for step in (0, 1) for p in ("a", "b")}
    assert len(drawn) == 4


def test_first_weights_are_those_of_their_seed_and_the_global_generator_is_left_alone() -> None:
    torch.manual_seed(7)
    wanted = torch.nn.Linear(5, 3).weight
    torch.manual_seed(123)
    after = torch.rand(4)
    torch.manual_seed(123)
    with first_weights(7):
        built = torch.nn.Linear(5, 3).weight
    assert torch.equal(built, wanted)
    assert torch.equal(torch.rand(4), after)
