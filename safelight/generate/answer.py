"""The driver's questions, answered by networks: plain, perturbed, blurred where they look, or by a weaker network.

Axes: W rows of a call, [W, Z, h, w] latents. Every network call has exactly W rows, whatever they are asked, so the
bits of a row depend on W alone (docs/learn/seeds.md).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from safelight.adapters.use import Aid, Call
from safelight.core.path import Level
from safelight.core.prediction import denoised_rows
from safelight.families.family import Model
from safelight.nn import perturb
from safelight.nn.perturb import Perturbation, Watch
from safelight.nn.ports import Ports

Evaluate = Callable[[Tensor, Sequence[Level], Sequence[Any]], Tensor]


@dataclass(frozen=True)
class Asked:
    """A condition, and what the network does otherwise for this branch.

    Attributes:
        cond: the family's record.
        perturbation: what is made worse inside the network.
        watch: name of a self-attention layer: the answer is then that about an x whose prediction was blurred where
            this layer looks (SAG), which takes two network calls.
        weak: whether the weaker network answers.
        aids: what adapters add.
    """

    cond: Any
    perturbation: Perturbation | None = None
    watch: str = ""
    weak: bool = False
    aids: tuple[Aid, ...] = ()


def evaluator(model: Model, weak: Model | None = None) -> Evaluate:
    """What answers the driver: rows of x, one level and one condition each -> x0, and the spread where it is said.

    Args:
        weak: answers the rows of autoguidance.
    """

    @torch.no_grad()
    def evaluate(x: Tensor, levels: Sequence[Level], conds: Sequence[Any]) -> Tensor:
        asked = [each if isinstance(each, Asked) else Asked(each) for each in conds]
        if weak is None or not any(each.weak for each in asked):
            return _ask(model, x, levels, asked)
        answers: dict[int, Tensor] = {}
        for network, is_weak in ((model, False), (weak, True)):
            places = [place for place, each in enumerate(asked) if each.weak == is_weak]
            if not places:
                continue
            rows = places + [places[-1]] * (len(asked) - len(places))
            found = _ask(network, x[rows], [levels[row] for row in rows], [asked[row] for row in rows])
            if model.ranged and not network.ranged:  # only "cond" is heard on that, which this network does not answer
                found = torch.cat([found, torch.zeros_like(found)], dim=1)
            found = found[:, : x.shape[1] * (1 + model.ranged)]
            answers |= {place: found[row : row + 1] for row, place in enumerate(places)}
        return torch.cat([answers[place] for place in range(len(asked))])

    return evaluate


def _ask(model: Model, x: Tensor, levels: Sequence[Level], asked: Sequence[Asked]) -> Tensor:
    """One network's answers: x0 of each row, and behind it the spread where the network says it."""
    weight = next(model.network.parameters())
    told = asked[0].cond.cat([each.cond for each in asked[1:]]).to(x.to(weight.dtype))
    t = torch.tensor([level.t for level in levels], dtype=torch.float32, device=x.device)
    ports = perturb.ports([each.perturbation for each in asked], x)

    def said(shown: Tensor, through: perturb.Ports) -> Tensor:
        seen = shown.to(weight.dtype)
        if model.ported is None:
            return model.predict(seen, t, told).to(x.dtype)
        through = aided(asked, levels, Call(seen, t, told, model.ported.predict, levels), through)
        if through is perturb.NO_PORTS:
            return model.predict(seen, t, told).to(x.dtype)
        return model.ported.predict(seen, t, told, through).to(x.dtype)

    watched = [each.watch for each in asked if each.watch]
    if not watched:
        out = said(x, ports)
        x0 = denoised_rows(model.prediction, x, out[:, : x.shape[1]], levels)
        return torch.cat([x0, out[:, x.shape[1] :]], dim=1) if model.ranged else x0
    watch = Watch(watched[0], (x.shape[-2], x.shape[-1]))
    out = said(x, watch.over(ports))
    first, spread = out[:, : x.shape[1]], out[:, x.shape[1] :]
    assert watch.seen is not None, "the watched layer is one of the network's own"
    x0 = denoised_rows(model.prediction, x, first, levels)
    column = (-1, *(1,) * (x.ndim - 1))
    alpha = torch.tensor([level.alpha for level in levels], dtype=x.dtype, device=x.device).reshape(column)
    mine = torch.tensor([bool(each.watch) for each in asked], device=x.device).reshape(column)
    worse = torch.where(mine, perturb.degraded(x, x0, alpha, watch.seen), x)
    # What is said of the worse x is compared with what was said of x, so it is read as if it had been said of x. Rows
    # that are not watched are asked the same again, and answer the same.
    x0 = denoised_rows(model.prediction, x, said(worse, ports)[:, : x.shape[1]], levels)
    return torch.cat([x0, spread], dim=1) if model.ranged else x0


def aided(asked: Sequence[Asked], levels: Sequence[Level], call: Call, ports: Ports) -> Ports:
    """The ports with what the adapters of all rows add, each to its own rows; the same where none is at work."""
    for aid in dict.fromkeys(aid for each in asked for aid in each.aids):
        mine = [aid in each.aids and aid.on(level) for each, level in zip(asked, levels)]
        if any(mine):
            ports = aid.ports(call, torch.tensor(mine, device=call.x.device), ports)
    return ports


def with_aids(question: Any, aids: tuple[Aid, ...]) -> Any:
    """A question, or a plain condition, and what adapters add to it."""
    if not aids:
        return question
    return replace(question, aids=aids) if isinstance(question, Asked) else Asked(question, aids=aids)
