"""Time two things against each other, fairly: turn by turn, so that a machine that slows down slows both.

Whole processes are timed where starting up is part of what a person waits for.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import NamedTuple

from safelight.errors import SafelightError


class Run(NamedTuple):
    """One run: wall-clock seconds, and the most bytes of memory that were resident, where the system tells."""

    seconds: float
    peak: int | None = None


Runner = Callable[[], Run]


@dataclass(frozen=True)
class Pairs:
    """Runs of two subjects by turns; ``theirs`` is empty where there is no opponent."""

    ours: tuple[Run, ...]
    theirs: tuple[Run, ...] = ()

    @property
    def median_s(self) -> float:
        """Our median, in seconds."""
        return median(run.seconds for run in self.ours)

    @property
    def spread(self) -> float:
        """Slowest minus fastest of our runs, as a share of the median; 0 = all alike."""
        seconds = [run.seconds for run in self.ours]
        return (max(seconds) - min(seconds)) / max(self.median_s, 1e-9)

    @property
    def ratio(self) -> float | None:
        """The opponent's time over ours, median over the pairs; above 1 we are faster. None without an opponent."""
        pairs = zip(self.ours, self.theirs, strict=True) if self.theirs else ()
        shares = [b.seconds / max(a.seconds, 1e-9) for a, b in pairs]
        return median(shares) if shares else None

    @property
    def excess_s(self) -> float | None:
        """Our time minus the opponent's, median over the pairs, in seconds; None without an opponent."""
        pairs = zip(self.ours, self.theirs, strict=True) if self.theirs else ()
        gaps = [a.seconds - b.seconds for a, b in pairs]
        return median(gaps) if gaps else None

    @property
    def peak_bytes(self) -> int | None:
        """The most memory that any of our runs held resident."""
        return max((run.peak for run in self.ours if run.peak is not None), default=None)


def by_turns(ours: Runner, theirs: Runner | None, runs: int, warm: int = 1) -> Pairs:
    """Run A B A B ...; the first ``warm`` rounds fill caches and do not count."""
    rounds = [(ours(), theirs() if theirs else None) for _ in range(warm + runs)][warm:]
    return Pairs(tuple(a for a, _ in rounds), tuple(b for _, b in rounds if b is not None))


def clocked(work: Callable[[], object]) -> Runner:
    """A function of this process as a runner."""

    def run() -> Run:
        begin = time.perf_counter()
        work()
        return Run(time.perf_counter() - begin)

    return run


def python(*words: str) -> Runner:
    """A whole process of this Python, from its start to its exit, as a runner."""
    return lambda: process([sys.executable, *words])


def process(command: Sequence[str]) -> Run:
    """Run a process to its end.

    Its peak of memory is the kernel's own count. That count never falls below what this process held when the other
    began, so whoever measures stays small: nothing here loads torch.

    Raises:
        SafelightError: it failed; with the last line that it said.
    """
    begin = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as child:
        assert child.stderr is not None
        said = child.stderr.read()
        if not hasattr(os, "wait4"):
            child.wait()
            seconds, peak = time.perf_counter() - begin, None
        else:
            _, status, usage = os.wait4(child.pid, 0)
            seconds = time.perf_counter() - begin
            child.returncode = os.waitstatus_to_exitcode(status)
            peak = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    if child.returncode:
        last = (said.strip().splitlines() or ["it said nothing"])[-1]
        raise SafelightError(f"{' '.join(command[1:])[:100]} ended with code {child.returncode}: {last}")
    return Run(seconds, peak)
