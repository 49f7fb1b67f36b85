"""Views are parted into groups by chance, anew at every level, and each is answered as in its group."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from safelight.core.guidance import Unguided
from safelight.core.path import vp_scaled_linear, zero_terminal_snr
from safelight.core.sample import sample
from safelight.core.samplers.table import find
from safelight.core.schedule import trailing
from safelight.errors import RequestError
from safelight.multiview.answer import Predict, evaluator
from safelight.multiview.network import Conditions
from safelight.multiview.sets import Apart, run
from safelight.multiview.slots import groups, parted

PATH = zero_terminal_snr(vp_scaled_linear())
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


@torch.no_grad()
def spread(predict: Predict) -> float:
    """How far apart views are that a network draws in 20 steps, beside how large they are."""
    noise, views = Apart(0, (1, 16, 16), range(8)), trailing(PATH, 20)
    told = {"cond": Conditions(torch.zeros(1, 1, 1))}
    answers = evaluator(predict, "x0", torch.zeros(1))
    *_, last = sample(answers, run(noise, views, find("ddim").bind(PATH), told, Unguided()))
    return float(last.x.std(2).mean() / last.x.std())


def same_for_all(x: Tensor, t: Tensor, told: Conditions) -> Tensor:
    """What is best to say of views that all show one thing, each value of which is unit normal, from those given."""
    level = PATH.level(float(t[0]))
    mean = level.alpha * x.sum(2, keepdim=True) / (x.shape[2] * level.alpha**2 + level.sigma**2)
    return mean.expand_as(x)


def test_views_that_meet_others_at_every_step_come_to_agree_and_those_in_groups_that_stay_do_not() -> None:
    def stays(x: Tensor, t: Tensor, told: Conditions) -> Tensor:
        return torch.cat([same_for_all(part, t, told) for part in x.split(4, 2)], 2)

    assert spread(same_for_all) < 1e-3 and spread(stays) > 0.5
    for seed in range(3):
        assert spread(parted(same_for_all, seed, 4)) < 0.4 * spread(stays)
        assert spread(parted(same_for_all, seed, 2)) > 2 * spread(parted(same_for_all, seed, 4)), "fewer take longer"


def test_rows_of_several_levels_are_refused() -> None:
    told = Conditions(torch.zeros(2, 1, 1))
    with pytest.raises(RequestError, match="one set after the other"):
        parted(lambda x, t, told: x, 0, 1)(torch.zeros(2, 1, 3, 1, 1), torch.tensor([1.0, 2.0]), told)
