"""The loop: what a step computes, and that a run that was killed goes on as if it never was."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from safelight.errors import CheckpointError, TrainingError
from safelight.train import checkpoint, loop
from safelight.train.ema import Average
from safelight.train.loop import Trainer, groups
from tests.train.killed import kill_while_training
from tests.train.toy import FIT, Fitting, weights


def _equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_a_run_killed_at_a_random_moment_and_resumed_gives_the_same_weights(tmp_path: Path) -> None:
    kill_while_training("tests.train.toy", str(tmp_path / "killed"), checkpoints=tmp_path / "killed")
    survived = checkpoint.latest(tmp_path / "killed")
    assert survived is not None
    steps = survived.step + 7
    assert _equal(weights(tmp_path / "killed", steps), weights(tmp_path / "whole", steps, save_every=1000))
    assert not list((tmp_path / "killed").glob(".*")), "what the killed writer left is cleaned up"


def test_resuming_keeps_optimiser_and_average_to_the_last_bit(tmp_path: Path) -> None:
    weights(tmp_path / "a", 6)
    halves, whole = weights(tmp_path / "a", 12), weights(tmp_path / "b", 12)
    assert {"model", "average", "optimiser"} == {name.split(".")[0] for name in whole}
    assert _equal(halves, whole)


def test_resuming_with_other_settings_is_refused_and_names_them(tmp_path: Path) -> None:
    weights(tmp_path, 2)
    with pytest.raises(CheckpointError, match=r"other settings \(lr, seed\).*--from"):
        weights(tmp_path, 4, lr=0.5, seed=3)


def test_settings_of_the_task_are_held_too_but_not_those_that_an_older_checkpoint_leaves_out(tmp_path: Path) -> None:
    fit = replace(FIT, steps=2)
    list(Trainer(Fitting(), fit, tmp_path, {"task.shape": (1, 2)}).run())
    assert Trainer(Fitting(), fit, tmp_path, {"task.shape": (1, 2), "task.new": 1}).step == 2
    with pytest.raises(CheckpointError, match=r"task\.shape"):
        Trainer(Fitting(), fit, tmp_path, {"task.shape": (1, 3)})


def test_how_long_and_how_often_may_change_when_a_run_is_resumed(tmp_path: Path) -> None:
    weights(tmp_path, 2)
    assert weights(tmp_path, 4, save_every=3, log_every=7, sample_every=5, decay="cosine", hold=0.9)


def test_resuming_another_network_is_refused(tmp_path: Path) -> None:
    weights(tmp_path, 2)
    with pytest.raises(CheckpointError, match="another network"):
        Trainer(Fitting(width=17), FIT, tmp_path)


def test_frozen_parameters_are_kept_and_resumed(tmp_path: Path) -> None:
    def trainer() -> Trainer:
        task = Fitting()
        task.module[0].requires_grad_(False)
        return Trainer(task, replace(FIT, steps=3), tmp_path)

    before = Fitting().module[0].weight
    first = trainer()
    list(first.run())
    again = trainer()
    assert again.step == 3
    assert _equal(first.tensors(), again.tensors())
    assert torch.equal(again.task.module[0].weight, before)
    assert torch.equal(again.average.shadow["0.weight"], before)


def test_accumulated_parts_give_the_gradient_of_the_whole_batch() -> None:
    task, found = Fitting(), []
    for parts in (1, 4):
        task.module.zero_grad()
        size = 8 // parts
        for i in range(parts):
            (task.loss(3, slice(i * size, (i + 1) * size)) / parts).backward()
        found.append([p.grad.clone() for p in task.module.parameters() if p.grad is not None])
    for whole, summed in zip(*found, strict=True):
        torch.testing.assert_close(summed, whole, rtol=1e-5, atol=1e-7)


def test_accumulation_changes_a_run_by_rounding_only(tmp_path: Path) -> None:
    whole, parts = weights(tmp_path / "a", 5), weights(tmp_path / "b", 5, accumulate=4)
    for name in whole:
        torch.testing.assert_close(parts[name], whole[name], rtol=1e-3, atol=1e-5)


class _Broken(Fitting):
    def loss(self, step: int, part: slice) -> Tensor:
        return super().loss(step, part) * (float("nan") if step == 3 else 1.0)


def test_a_loss_that_is_no_number_stops_the_run_before_it_reaches_the_weights(tmp_path: Path) -> None:
    trainer = Trainer(_Broken(), FIT, tmp_path)
    with pytest.raises(TrainingError, match=r"step 4.*lower lr"):
        list(trainer.run())
    assert trainer.step == 3
    assert all(p.isfinite().all() for p in trainer.task.module.parameters())


def test_clipping_bounds_what_a_step_may_change_and_is_reported_before(tmp_path: Path) -> None:
    free = next(Trainer(Fitting(), replace(FIT, clip=0.0), tmp_path / "a").run())
    tight = Trainer(Fitting(), replace(FIT, clip=1e-3), tmp_path / "b")
    assert next(tight.run()).norm == free.norm > 1e-3
    moment = torch.stack([s["exp_avg"].norm() for s in tight.optimiser.state.values()]).norm()
    assert float(moment) == pytest.approx(0.1 * 1e-3, rel=1e-3)  # (1 - beta1) of the clipped gradient


def test_only_matrices_are_decayed() -> None:
    decayed, kept = groups(Fitting().module, 0.1)
    assert {p.ndim for p in decayed["params"]} == {2} and decayed["weight_decay"] == 0.1
    assert {p.ndim for p in kept["params"]} == {1} and kept["weight_decay"] == 0.0


def test_the_average_warms_up_and_then_follows_its_decay() -> None:
    module = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        module.weight.fill_(0.0)
        average = Average(module, 0.99)
        module.weight.fill_(1.0)
    expected = 0.0
    for step in range(2000):
        decay = min(0.99, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay)
        average.update(module, step)
        if step == 0:
            assert average.shadow["weight"].item() == pytest.approx(0.9)  # the first step counts nearly alone
    assert average.shadow["weight"].item() == pytest.approx(expected, abs=1e-5)
    assert (1 + 890) / (10 + 890) == 0.99, "the decay is reached after 890 steps"
    average.copy_to(module)
    assert torch.equal(module.weight.detach(), average.shadow["weight"])


def test_without_averaging_the_average_is_the_present() -> None:
    module = Fitting().module
    average = Average(module, 0.0)
    with torch.no_grad():
        module[0].weight.mul_(2.0)
    average.update(module, 100)
    assert torch.equal(average.shadow["0.weight"], module[0].weight.detach())


def test_a_bfloat16_run_keeps_float32_weights(tmp_path: Path) -> None:
    tensors = weights(tmp_path, 3, precision="bf16")
    assert {t.dtype for t in tensors.values()} == {torch.float32}
    assert not _equal(tensors, weights(tmp_path / "fp32", 3))


@pytest.mark.parametrize(("able", "same"), [(True, "bf16"), (False, "fp32")])
def test_what_is_faster_is_chosen_where_the_precision_is_left_open(
    able: bool, same: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "computes_bfloat16", lambda device: able)
    chosen = weights(tmp_path / "auto", 3, precision="auto")
    assert _equal(chosen, weights(tmp_path / same, 3, precision=same))
