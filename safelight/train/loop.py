"""The training loop as a generator: the caller decides between two steps whether to log, draw, save or stop.

A step is a function of the weights before it and of (seed, step), so a run that was killed and resumed gives the same
weights as one that was not (on a CPU with the same number of threads; accelerators add in an order of their own).
Source of the optimiser: Loshchilov & Hutter 2019, "Decoupled Weight Decay Regularization" (1711.05101, algorithm 2).
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from safelight.errors import CheckpointError, DeviceError, TrainingError
from safelight.runtime.device import computes_bfloat16
from safelight.train import checkpoint
from safelight.train.ema import Average
from safelight.train.settings import Fit

FREE = ("steps", "save_every", "log_every", "sample_every", "decay", "hold")
"""Settings that may change when a run is resumed: they say when to stop, look and slow down, not what a step does."""
MOMENTS = ("step", "exp_avg", "exp_avg_sq")
"""What AdamW remembers of a parameter."""


class Task(Protocol):
    """Something that can be learned."""

    @property
    def module(self) -> nn.Module:
        """The weights that are trained."""
        ...

    def loss(self, step: int, part: slice) -> Tensor:
        """The mean loss over this part of the batch of ``step``; every random choice is a function of (seed, step).

        The parts of a batch are equally long, and the mean of their losses is the loss of the whole.
        """
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
        facts: settings beside those of ``fit`` that a resumption must share, such as the task's own; JSON.

    Raises:
        CheckpointError: the checkpoint there is of other settings or another network.
        DeviceError: the device of the module cannot compute in the precision asked for.
    """

    def __init__(self, task: Task, fit: Fit, folder: Path, facts: Mapping[str, Any] | None = None) -> None:
        self.task, self.fit, self.folder = task, fit, folder
        own = {name: value for name, value in asdict(fit).items() if name not in FREE}
        self.facts: dict[str, Any] = json.loads(json.dumps({**own, **(facts or {})}))  # as they are read back
        self.precision = precision(task.module, fit.precision)
        self.average = Average(task.module, fit.ema)
        self.optimiser = torch.optim.AdamW(groups(task.module, fit.weight_decay), fit.lr, (0.9, fit.beta2), fused=True)
        self.step = 0
        self.saved = -1
        newest = checkpoint.latest(folder)
        if newest is not None:
            self.restore(newest)

    def run(self) -> Iterator[Report]:
        """Steps until ``fit.steps``; stop early by closing, and call `save` when you do.

        Raises:
            TrainingError: the loss or its gradient is infinite or not a number; the weights are as before the step.
            FileError: a checkpoint cannot be written.
        """
        self.task.module.train()
        while self.step < self.fit.steps:
            yield self.advance()  # before the checkpoint: killed in between, a log knows too much, never too little
            if self.step % self.fit.save_every == 0 or self.step == self.fit.steps:
                self.save()

    def advance(self) -> Report:
        """One optimiser step."""
        begun, module, fit = time.perf_counter(), self.task.module, self.fit
        rate = fit.rate(self.step)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        size = fit.batch // fit.accumulate
        total = 0.0
        for part in range(fit.accumulate):
            with self.precision, attention(module):
                loss = self.task.loss(self.step, slice(part * size, (part + 1) * size)) / fit.accumulate
            loss.backward()
            total += loss.item()
        norm = nn.utils.clip_grad_norm_(module.parameters(), fit.clip or float("inf")).item()
        if not (math.isfinite(total) and math.isfinite(norm)):
            raise TrainingError(
                f"step {self.step + 1}: the loss is {total:g}, its gradient {norm:g} long; the checkpoints in "
                f"{self.folder} are whole: start from an earlier average with a lower lr, or with precision fp32"
            )
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self.average.update(module, self.step)
        self.step += 1
        return Report(self.step, total, rate, norm, time.perf_counter() - begun)

    def save(self) -> None:
        """Write a checkpoint of the present step, unless that is done; FileError where it cannot be written."""
        if self.saved != self.step:
            checkpoint.write(self.folder, self.step, self.tensors(), self.facts)
            self.saved = self.step

    def tensors(self) -> dict[str, Tensor]:
        """All that a resumption needs, by name: ``model.*``, ``average.*``, ``optimiser.<what>.*``."""
        named = dict(self.task.module.named_parameters())
        tensors = {f"model.{name}": parameter.detach() for name, parameter in named.items()}
        tensors |= {f"average.{name}": value for name, value in self.average.shadow.items()}
        for name, parameter in named.items():
            for key, value in self.optimiser.state.get(parameter, {}).items():
                tensors[f"optimiser.{key}.{name}"] = value
        return tensors

    @torch.no_grad()
    def restore(self, found: checkpoint.Checkpoint) -> None:
        """Take up a checkpoint. What it does not say of its settings is not held against it.

        Raises:
            CheckpointError: it is of other settings, which are named, or of another network.
        """
        changed = [name for name, value in self.facts.items() if found.facts.get(name, value) != value]
        if changed:
            raise CheckpointError(
                f"{self.folder}: the run there has other settings ({', '.join(changed)}); "
                "give them again, or start from its weights in a new folder with --from"
            )
        named, tensors = dict(self.task.module.named_parameters()), found.tensors
        shapes = {f"{part}.{name}": p.shape for part in ("model", "average") for name, p in named.items()}
        if shapes != {key: t.shape for key, t in tensors.items() if not key.startswith("optimiser.")}:
            raise CheckpointError(f"{self.folder}: the run there trains another network; use a new folder")
        for name, parameter in named.items():
            parameter.copy_(tensors[f"model.{name}"])
            self.average.shadow[name].copy_(tensors[f"average.{name}"])
            if f"optimiser.step.{name}" in tensors:  # else it is not trained
                self.optimiser.state[parameter] = {
                    key: tensors[f"optimiser.{key}.{name}"].to(parameter.device, copy=True) for key in MOMENTS
                }
        self.step = self.saved = found.step


def groups(module: nn.Module, decay: float) -> list[dict[str, Any]]:
    """Matrices and filters shrink by weight decay; gains, biases and embeddings of single vectors do not."""
    trained = [p for p in module.parameters() if p.requires_grad]
    return [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]


def precision(module: nn.Module, name: str) -> AbstractContextManager[Any]:
    """What a forward pass on the module's own device runs under: autocast for ``bf16``, nothing for ``fp32``, for
    ``auto`` what is faster there.

    Raises:
        DeviceError: the device does not know bfloat16.
    """
    device = next(module.parameters()).device
    if name == "fp32" or (name == "auto" and not computes_bfloat16(device)):
        return nullcontext()
    if device.type == "cuda" and not torch.cuda.is_bf16_supported():
        raise DeviceError(f"{device} does not compute in bfloat16; train with precision fp32")
    return torch.autocast(device.type, torch.bfloat16)


def attention(module: nn.Module) -> AbstractContextManager[Any]:
    """The kind of attention that learns fastest: on a CPU plain products, whose gradients are products again."""
    on_cpu = next(module.parameters()).device.type == "cpu"
    return sdpa_kernel(SDPBackend.MATH) if on_cpu else nullcontext()
