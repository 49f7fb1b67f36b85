"""The training loop as a generator: the caller decides when to log, draw, save or stop, by what it does between steps."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from safelight.errors import CheckpointError
from safelight.train import checkpoint
from safelight.train.ema import Average
from safelight.train.settings import Fit

FREE = ("steps", "save_every", "log_every", "sample_every", "decay", "hold")  # may change when a run is resumed


class Task(Protocol):
    """Something that can be learned."""

    @property
    def module(self) -> nn.Module:
        """The weights that are trained."""
        ...

    def loss(self, step: int, rows: slice) -> Tensor:
        """The mean loss over these rows of the batch of ``step``; every random choice is a function of (seed, step)."""
        ...


class Report(NamedTuple):
    """What one step did: ``step`` counts from 1, ``norm`` is the gradient's before clipping, times are in seconds."""

    step: int
    loss: float
    rate: float
    norm: float
    seconds: float


class Trainer:
    """A task, its optimiser, its average and the step it has reached.

    Args:
        folder: where checkpoints are kept; the newest one there is resumed.
    Raises:
        CheckpointError: the checkpoint there is of other settings or another network.
    """

    def __init__(self, task: Task, fit: Fit, folder: Path) -> None:
        self.task, self.fit, self.folder = task, fit, folder
        self.average = Average(task.module, fit.ema)
        self.optimiser = torch.optim.AdamW(groups(task.module, fit.weight_decay), fit.lr, (0.9, fit.beta2), fused=True)
        self.step = 0
        newest = checkpoint.latest(folder)
        if newest:
            self.restore(*newest)

    def run(self) -> Iterator[Report]:
        """Steps until ``fit.steps``; stop early by closing, and call `save` when you do."""
        self.task.module.train()
        while self.step < self.fit.steps:
            report = self.advance()
            if self.step % self.fit.save_every == 0 or self.step == self.fit.steps:
                self.save()
            yield report

    def advance(self) -> Report:
        """One optimiser step."""
        begun, module, fit = time.perf_counter(), self.task.module, self.fit
        rate = fit.rate(self.step)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        size = fit.batch // fit.accumulate
        total = 0.0
        for part in range(fit.accumulate):
            with precision(module, fit.precision):
                loss = self.task.loss(self.step, slice(part * size, (part + 1) * size)) / fit.accumulate
            loss.backward()
            total += loss.item()
        norm = nn.utils.clip_grad_norm_(module.parameters(), fit.clip or float("inf")).item()
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self.average.update(module, self.step)
        self.step += 1
        return Report(self.step, total, rate, norm, time.perf_counter() - begun)

    def facts(self) -> dict[str, Any]:
        """What must not change between a run and its resumption."""
        return {name: value for name, value in asdict(self.fit).items() if name not in FREE}

    def save(self) -> Path:
        """Write a checkpoint of the present step."""
        tensors: dict[str, Tensor] = {f"model.{n}": p.detach() for n, p in self.task.module.named_parameters()}
        tensors |= {f"average.{name}": value for name, value in self.average.shadow.items()}
        for name, parameter in self.task.module.named_parameters():
            for key, value in self.optimiser.state.get(parameter, {}).items():
                tensors[f"optimiser.{key}.{name}"] = value
        return checkpoint.write(self.folder, self.step, tensors, self.facts())

    @torch.no_grad()
    def restore(self, step: int, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Take up a checkpoint."""
        changed = [name for name, value in self.facts().items() if facts.get(name) != value]
        if changed:
            raise CheckpointError(
                f"{self.folder}: the run there has other settings ({', '.join(changed)}); "
                "give them again, or start from its weights in a new folder with --from"
            )
        named = dict(self.task.module.named_parameters())
        if {f"model.{name}" for name in named} != {key for key in tensors if key.startswith("model.")}:
            raise CheckpointError(f"{self.folder}: the run there trains another network")
        for name, parameter in named.items():
            parameter.copy_(tensors[f"model.{name}"])
            self.average.shadow[name].copy_(tensors[f"average.{name}"])
            self.optimiser.state[parameter] = {
                key: tensors[f"optimiser.{key}.{name}"].clone() for key in ("step", "exp_avg", "exp_avg_sq")
            }
        self.step = step


def groups(module: nn.Module, decay: float) -> list[dict[str, Any]]:
    """Matrices and filters shrink by weight decay; gains, biases and embeddings of single vectors do not."""
    trained = [p for p in module.parameters() if p.requires_grad]
    return [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]


def precision(module: nn.Module, name: str) -> AbstractContextManager[Any]:
    """Autocast for a forward pass on the module's own device."""
    device = next(module.parameters()).device.type
    return torch.autocast(device, torch.bfloat16) if name == "bf16" else nullcontext()
