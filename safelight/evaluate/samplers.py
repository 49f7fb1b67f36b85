"""What samplers do to real pictures: how right they are, and how far from the solution, for a number of evaluations.

The solution of a model's ODE for a prompt and a seed is what many small steps come to. A sampler without noise should
come there with few; one with noise draws another picture from the same law, so only its pictures are judged.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from PIL.Image import Image
from torch import Tensor

from safelight.core.samplers.row import Sampler
from safelight.core.samplers.table import SAMPLERS
from safelight.errors import RequestError
from safelight.evaluate.chart import Axis, Line, chart, stacked
from safelight.evaluate.evidence import Finding
from safelight.evaluate.figurines.pictures import Tell, compare, read_all
from safelight.evaluate.figurines.prompts import Prompt
from safelight.figurines.sheet import sheet
from safelight.generate.pipe import Drawn, Pipe
from safelight.generate.request import Request

BUDGETS = (5, 10, 20, 40)
"""Evaluations that every sampler may spend on a picture."""
FINE, FINE_STEPS = "dpmpp_2m", 1000
"""What stands for the solution of the ODE: a sampler of order 2, with a thousand steps."""
ERROR = Axis("evaluations", True), Axis("share of its size", True)


class Point(NamedTuple):
    """What a sampler did with its evaluations.

    Attributes:
        evaluations: asked per picture, in the mean. steps: of the schedule.
        score: share of stated attributes that the checker sees; None where nothing was stated.
        distance: from the solution, as a share of its size; None where the sampler does not solve the ODE.
    """

    sampler: str
    evaluations: float
    steps: int
    score: float | None
    distance: float | None


def solves(row: Sampler) -> bool:
    """Whether the row, with its own options, comes to the solution of the ODE."""
    return not (row.stochastic or row.uncond) and row.order > 0


def request(row: Sampler, steps: int, prompt: str = "", seed: int = 0, rows: int = 0) -> Request:
    """A picture by this sampler with its own options, and by the model's own guidance."""
    return Request(prompt, sampler=row.name, steps=steps, seed=seed, rows=rows)


def affordable(pipe: Pipe, row: Sampler, budget: int) -> int | None:
    """The most steps that ask at most ``budget`` times; None where not even one does, or nobody knows before."""
    for steps in range(budget, 0, -1):
        try:
            spent = pipe.settle(request(row, steps)).evaluations
        except RequestError:
            continue  # fewer steps than the sampler can do
        if spent is None:
            return None
        if spent <= budget:
            return steps
    return None


def drawn(pipe: Pipe, requests: Sequence[Request], tell: Tell, what: str) -> tuple[list[Drawn], float]:
    """The pictures, and the evaluations of one of them in the mean."""
    finished: dict[int, Drawn] = {}
    asked = 0
    for shown in pipe.watch(requests, len(requests)):
        if shown.drawn:
            finished[shown.picture] = shown.drawn
            asked += shown.index
        if shown.picture == 0 and shown.total:
            tell(what, shown.index, shown.total)
    return [finished[i] for i in range(len(requests))], asked / len(requests)


def distance(found: Iterable[Tensor], wanted: Iterable[Tensor]) -> float:
    """Root of the mean squared difference of latents, as a share of that of the wanted ones."""
    pairs = [((a - b).square().sum().item(), b.square().sum().item()) for a, b in zip(found, wanted, strict=True)]
    return (sum(pair[0] for pair in pairs) / sum(pair[1] for pair in pairs)) ** 0.5


def solution(pipe: Pipe, prompts: Sequence[Prompt], rows: int, tell: Tell) -> list[Tensor]:
    """The latents that the ODE leads to, one of each prompt."""
    asked = [request(SAMPLERS[FINE], FINE_STEPS, prompt.text, seed, rows) for seed, prompt in enumerate(prompts)]
    return [each.latents for each in drawn(pipe, asked, tell, "the solution")[0]]


def measure(pipe: Pipe, names: Sequence[str], prompts: Sequence[Prompt], rows: int, tell: Tell) -> Iterator[Point]:
    """Every sampler with every budget on the same prompts and seeds; adaptive ones once, with what they spend."""
    wanted = solution(pipe, prompts, rows, tell) if any(solves(SAMPLERS[name]) for name in names) else []
    for name in names:
        row = SAMPLERS[name]
        plan = {steps for budget in BUDGETS if (steps := affordable(pipe, row, budget)) is not None}
        for steps in sorted(plan or {BUDGETS[-1]}):
            asked = [request(row, steps, prompt.text, seed, rows) for seed, prompt in enumerate(prompts)]
            pictures, spent = drawn(pipe, asked, tell, f"{name}, {steps} steps")
            seen = read_all([np.asarray(each.image) for each in pictures], 1, _nobody)
            score = compare(seen, [prompt.stated for prompt in prompts]).overall
            far = distance((each.latents for each in pictures), wanted) if solves(row) else None
            yield Point(name, spent, steps, score, far)


def _nobody(what: str, done: int, total: int) -> None:
    """Reading a few pictures is not worth a bar."""


def findings(point: Point, count: int) -> list[Finding]:
    """A point as claims, without a bar."""
    what, found = f"{point.sampler}, {point.evaluations:.3g} evaluations", []
    if point.score is not None:
        found.append(Finding(f"{what}: stated attributes right", point.score, f"share of {count} pictures'"))
    if point.distance is not None:
        found.append(Finding(f"{what}: distance from the solution", point.distance, "share of its size"))
    return found


def own_curve(pipe: Pipe, name: str, steps: Sequence[int], prompt: str, seed: int, tell: Tell) -> Mapping[int, Point]:
    """How one sampler comes, for one picture, to what itself draws with very many steps."""
    row = SAMPLERS[name]
    [limit], _ = drawn(pipe, [request(row, FINE_STEPS, prompt, seed)], tell, f"{name}, {FINE_STEPS} steps")
    points = {}
    for n in steps:
        [picture], spent = drawn(pipe, [request(row, n, prompt, seed)], tell, f"{name}, {n} steps")
        points[n] = Point(name, spent, n, None, distance([picture.latents], [limit.latents]))
    return points


def page(pipe: Pipe, row: Sampler, points: Mapping[int, Point], prompt: str, seed: int) -> Image:
    """Levels, error against evaluations, and the pictures of ``own_curve``, beneath each other."""
    levels = pipe.settle(request(row, 20)).levels
    steps = Line(f"{row.name}: the model's own 20 steps", [(i, level.sigma) for i, level in enumerate(levels)])
    known = [(p.evaluations, p.distance) for p in points.values() if p.distance is not None]
    pictures = [pipe.draw(request(row, n, prompt, seed))[0] for n in points]
    captions = [f"{n} steps, {point.evaluations:g} evaluations" for n, point in points.items()]
    return stacked(
        [
            chart([steps], Axis("step"), Axis("sigma")),
            chart([Line(f"{row.name}: distance from its own limit", known)], *ERROR),
            sheet([np.asarray(each.image) for each in pictures], captions, columns=4, lines=2),
        ]
    )
