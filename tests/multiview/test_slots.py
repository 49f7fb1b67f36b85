"""Views are parted into groups by chance, anew at every level, and each is answered as in its group."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from safelight.errors import RequestError
from safelight.multiview.network import Conditions
from safelight.multiview.slots import groups, parted

LABELS = [999.0, 799.5, 600.0, 400.25, 200.0]


@pytest.mark.parametrize(("views", "slots"), [(5, 2), (5, 4), (8, 3), (64, 4), (3, 1), (4, 4), (1, 1)])
def test_groups_hold_every_view_once_and_are_as_few_and_as_equal_as_can_be(views: int, slots: int) -> None:
    for label in LABELS:
        made = groups(7, label, views, slots)
        sizes = [len(group) for group in made]
        assert sorted(view for group in made for view in group) == list(range(views))
        assert len(made) == -(-views // slots) and max(sizes) <= slots and max(sizes) - min(sizes) <= 1
        assert all(group == sorted(group) for group in made)


def test_groups_follow_from_the_seed_and_the_level_alone() -> None:
    def course(seed: int, shift: float = 0.0) -> list[list[list[int]]]:
        return [groups(seed, label + shift, 8, 3) for label in LABELS]

    first = course(0)
    assert course(0) == first == course(0, shift=1e-9)
    assert course(1) != first
    assert all(first[place] != other for place in range(5) for other in first[place + 1 :])


def test_every_view_meets_every_other_in_the_long_run() -> None:
    met = {(a, b) for label in range(60) for group in groups(0, label, 8, 3) for a in group for b in group}
    assert len(met) == 64


def test_each_view_is_answered_as_in_its_group() -> None:
    x = torch.randn(2, 1, 5, 1, 1)
    told = Conditions(torch.zeros(2, 1, 1), cameras=x[:, 0, :, 0], shown=x.clone(), reference=torch.zeros(2, 1, 1, 1))

    def total(x: Tensor, t: Tensor, told: Conditions) -> Tensor:
        assert told.cameras is not None and told.shown is not None and len(told.context) == 2
        assert torch.equal(told.cameras, x[:, 0, :, 0]) and torch.equal(told.shown, x), "told of other views"
        return x + 100 * x.sum(2, keepdim=True)

    t = torch.full((2,), LABELS[1])
    found = parted(total, 3, 2)(x, t, told)
    for group in groups(3, LABELS[1], 5, 2):
        torch.testing.assert_close(found[:, :, group], x[:, :, group] + 100 * x[:, :, group].sum(2, keepdim=True))
    assert torch.equal(parted(total, 3, 5)(x, t, told), total(x, t, told))


def test_rows_of_several_levels_are_refused() -> None:
    told = Conditions(torch.zeros(2, 1, 1))
    with pytest.raises(RequestError, match="one set after the other"):
        parted(lambda x, t, told: x, 0, 1)(torch.zeros(2, 1, 3, 1, 1), torch.tensor([1.0, 2.0]), told)
