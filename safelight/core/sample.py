"""The driver: runs one picture, or many strangers together, and lets the caller watch, stop and preview every step.

The seed contract lives here. A network's bits on a CPU depend on how many rows a call has, not on what the other rows
hold, so every call has exactly the ``width`` that the picture's own request names (padded by repeating a row), whether
or not strangers are there to fill it. Rows [W, ...]: one level and one condition each.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from safelight.core.guidance import begin
from safelight.core.guides.scale import step_at
from safelight.core.run import Denoised
from safelight.errors import RequestError

if TYPE_CHECKING:
    from torch import Tensor

    from safelight.core.constrain import Constraint
    from safelight.core.guidance import Guidance
    from safelight.core.path import Level
    from safelight.core.run import Noise, Run, Solver

Evaluate = Callable[["Tensor", Sequence["Level"], Sequence[Any]], "Tensor"]
"""x [W, C, ...] with one level and one condition per row -> x0 [W, C, ...]; row i must not depend on row j.

Where the network says its own variance, x0 and behind it ``Denoised.spread``: [W, 2C, ...].
"""


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """What is known after one evaluation.

    Attributes:
        index: evaluations done for this picture, from 1.
        total: evaluations that the whole run takes; None where nobody knows before (adaptive steps).
        last: whether x is the finished picture.
        level: where x is now; after the last evaluation, the end of the schedule.
        x: the state [1, ...] that the next question shows, or the finished one.
        denoised: what the network saw in the evaluation just made: the picture to preview.
    """

    index: int
    total: int | None
    last: bool
    level: Level
    x: Tensor
    denoised: Tensor


@dataclass(frozen=True)
class Changing:
    """A condition for each step of a list of levels; a function of the level, so it holds for every sampler.

    A question between two levels has the condition of the step that it lies in.

    Args:
        levels: those that are visited, noisiest first, the end included.
        conds: one for each step, so one fewer than levels.

    Raises:
        RequestError: not one condition for each step.
    """

    levels: tuple[Level, ...]
    conds: tuple[Any, ...]

    def __post_init__(self) -> None:
        if len(self.conds) != len(self.levels) - 1 or not self.conds:
            raise RequestError(f"{len(self.conds)} conditions for {len(self.levels) - 1} steps; give one a step")

    def at(self, level: Level) -> Any:
        """The condition of the step that begins at this level or before it."""
        return self.conds[step_at(self.levels, level)]


@dataclass(frozen=True)
class Job:
    """One picture to be drawn.

    Args:
        sampler: a solver, such as ``find("euler").bind(path)``.
        levels: noisiest first; the run ends at the last.
        x: the state [1, ...] at levels[0].
        noise: what stochastic samplers draw from.
        guidance: which conditions are asked and how the answers are combined.
        conds: a condition for every branch that the guidance names, or one for every step of it (`Changing`).
        constraint: what must hold of questions and answers.
        width: rows of every network call for this picture; 0 means as many as the guidance has branches.
        kind: what else must be equal for two pictures to share a call, such as the length of their conditions.

    Raises:
        RequestError: no levels, a state that is not one picture, a branch without a condition, or a sampler that needs
            the unguided answer under a guidance that does not ask for it.
    """

    sampler: Solver
    levels: Sequence[Level]
    x: Tensor
    noise: Noise
    guidance: Guidance
    conds: Mapping[str, Any]
    constraint: Constraint | None = None
    width: int = 0
    kind: Hashable = None

    def __post_init__(self) -> None:
        if not self.levels or self.x.shape[0] != 1 or self.width < 0:
            raise RequestError("a job needs at least one level, one picture [1, ...] and a width of 0 or more")
        asked = {name for level in self.levels for name in self.guidance.branches(level)}
        if self.sampler.uncond and not all("uncond" in self.guidance.branches(level) for level in self.levels[:-1]):
            raise RequestError(
                "this sampler needs the unguided answer at every level; give it CFG(scale, both=True) with a condition "
                "for 'uncond', or take a sampler without CFG++"
            )
        if missing := sorted(asked - set(self.conds)):
            raise RequestError(f"the guidance asks for {', '.join(missing)}, but no such condition was given")

    @property
    def rows(self) -> int:
        """Rows of every network call for this picture."""
        return self.width or max(len(self.guidance.branches(level)) for level in self.levels)


class _Row(NamedTuple):
    """One row of a network call: a branch of the question of one picture."""

    owner: _Picture
    branch: str

    @property
    def cond(self) -> Any:
        """What the network is told about this branch now."""
        cond = self.owner.job.conds[self.branch]
        return cond.at(self.owner.level) if isinstance(cond, Changing) else cond


class _Picture:
    """A job under way: its run, its open question and the answers that came in so far."""

    def __init__(self, place: int, job: Job) -> None:
        self.place, self.job = place, job
        self.guidance = begin(job.guidance)
        self.run: Run = job.sampler(job.x, job.levels, job.noise)
        self.total = job.sampler.evaluations(job.levels)
        self.index = 0
        self.finished: Tensor | None = None
        self.level = job.levels[0]
        self.x = job.x
        self._advance(None)

    def _advance(self, answer: Denoised | None) -> None:
        try:
            # A generator must be started by sending None.
            self.x, self.level = next(self.run) if answer is None else self.run.send(answer)
        except StopIteration as end:
            self.x, self.level = end.value, self.job.levels[-1]
            if self.job.constraint is not None:
                self.x = self.job.constraint.answer(self.x, self.level)
            self.finished = self.x
            return
        if self.job.constraint is not None:
            self.shown = self.job.constraint.question(self.x, self.level)
        else:
            self.shown = self.x
        self.branches = self.guidance.branches(self.level)
        self.answers: dict[str, Tensor] = {}
        self.spread: Tensor | None = None

    def hear(self, branch: str, x0: Tensor, spread: Tensor | None = None) -> Step | None:
        """Take the answer of one branch; after the last one, step and tell."""
        self.answers[branch] = x0
        if branch == "cond":
            self.spread = spread
        if len(self.answers) < len(self.branches):
            return None
        answer = self.guidance.combine(self.shown, self.level, self.answers)
        if (constraint := self.job.constraint) is not None:
            uncond = None if answer.uncond is None else constraint.answer(answer.uncond, self.level)
            answer = Denoised(constraint.answer(answer.x0, self.level), uncond)
        self._advance(answer._replace(spread=self.spread))
        self.index += 1
        return Step(self.index, self.total, self.finished is not None, self.level, self.x, answer.x0)


def sample(evaluate: Evaluate, job: Job) -> Iterator[Step]:
    """Draw one picture; yields after every evaluation, and the last Step carries the finished x.

    A job with a single level asks nothing and yields one Step with index 0. Closing the iterator ends the run.
    """
    for _, step in sample_many(evaluate, [job]):
        yield step


def sample_many(evaluate: Evaluate, jobs: Iterable[Job]) -> Iterator[tuple[int, Step]]:
    """Draw strangers together; yields (place of the job, Step) after every evaluation of each.

    Jobs of equal width, kind, shape, dtype and device share calls. Every picture has the bits it would have alone,
    given that ``evaluate`` treats rows independently at a fixed width. Closing the iterator ends all runs.
    """
    pictures = [_Picture(place, job) for place, job in enumerate(jobs)]
    try:
        for picture in pictures:
            if picture.finished is not None:
                yield picture.place, Step(0, picture.total, True, picture.level, picture.x, picture.x)
        while live := [picture for picture in pictures if picture.finished is None]:
            for call, width in _calls(live):
                answers = _ask(evaluate, call, width)
                for row, (x0, spread) in zip(call, answers):
                    if (step := row.owner.hear(row.branch, x0, spread)) is not None:
                        yield row.owner.place, step
    finally:
        for picture in pictures:
            picture.run.close()


def _calls(live: list[_Picture]) -> list[tuple[list[_Row], int]]:
    """All open questions, packed into calls of each picture's own width, in order."""
    groups: dict[tuple[Any, ...], list[_Row]] = {}
    for picture in live:
        shown = picture.shown
        group = (picture.job.rows, picture.job.kind, shown.shape, shown.dtype, shown.device)
        groups.setdefault(group, []).extend(_Row(picture, branch) for branch in picture.branches)
    calls: list[tuple[list[_Row], int]] = []
    for (width, *_), rows in groups.items():
        calls.extend((rows[i : i + width], width) for i in range(0, len(rows), width))
    return calls


def _ask(evaluate: Evaluate, call: list[_Row], width: int) -> list[tuple[Tensor, Tensor | None]]:
    """One network call of exactly ``width`` rows; a short call repeats its last row, and those answers are dropped."""
    rows = call + [call[-1]] * (width - len(call))
    x = torch.cat([row.owner.shown for row in rows])
    said = evaluate(x, [row.owner.level for row in rows], [row.cond for row in rows])
    if said.shape == x.shape:
        return [(said[i : i + 1], None) for i in range(len(call))]
    if x.ndim < 2 or said.shape != (width, 2 * x.shape[1], *x.shape[2:]):
        raise RequestError(f"the network was shown {tuple(x.shape)} and answered {tuple(said.shape)}")
    x0, spread = said.chunk(2, dim=1)
    return [(x0[i : i + 1], spread[i : i + 1]) for i in range(len(call))]
