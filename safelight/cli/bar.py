"""A progress bar on the error stream that says how long the rest will take, and says nothing that it does not know."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable
from typing import Any, TextIO

WINDOW = 30.0
"""Seconds over which the pace is measured: long enough to be calm, short enough to notice that the machine is busy."""
LINE_EVERY = 30.0
"""Seconds between lines of what takes long, where there is no terminal to draw a bar on."""


class Pace:
    """How fast something goes, judged by what was done within the last `WINDOW` seconds here, not in an earlier run.

    Args:
        total: what there is to do; None where nobody knows. done: what was done before the clock began.
    """

    def __init__(self, total: int | None, done: int = 0, clock: Callable[[], float] = time.monotonic) -> None:
        self.total, self.clock = total, clock
        self.marks: deque[tuple[float, int]] = deque([(clock(), done)])

    def move(self, done: int) -> None:
        """Say how much is done now."""
        now = self.clock()
        self.marks.append((now, done))
        while len(self.marks) > 2 and self.marks[1][0] < now - WINDOW:
            self.marks.popleft()

    @property
    def seconds(self) -> float | None:
        """What the rest will take; None while nothing is known."""
        (begun, before), (_, done) = self.marks[0], self.marks[-1]
        if self.total is None or done <= before:
            return None
        return max(0.0, (self.total - done) * (self.marks[-1][0] - begun) / (done - before))


class Bar:
    """A bar while it is entered; where the stream is no terminal, a line now and then, or nothing.

    Args:
        title: what is being done. total, done: how much of it there is (None where nobody knows), and was before.
        every: seconds between lines where the stream is no terminal; 0 for none.
        keep: leave the finished bar standing.
        stream: by default the error stream, so that output can be piped.
    """

    def __init__(
        self,
        title: str,
        total: int | None,
        done: int = 0,
        *,
        every: float = 0,
        keep: bool = False,
        stream: TextIO | None = None,
    ) -> None:
        self.title, self.total, self.every, self.keep = title, total, every, keep
        self.stream = stream or sys.stderr
        self.done, self.pace, self.said = done, Pace(total, done), time.monotonic()
        self.rich: Any = None

    def __enter__(self) -> Bar:
        if self.stream.isatty():
            self.rich = _rich(self.stream, self.keep)
            self.task = self.rich.add_task(self.title, total=self.total, completed=self.done, note="")
            self.rich.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self.rich is not None:
            self.rich.stop()

    def move(self, done: int, note: str = "") -> None:
        """Say how much is done now, and in a few words how it goes."""
        self.done = done
        self.pace.move(done)
        left = self.pace.seconds
        more = self.total is None or done < self.total
        words = "  ".join(filter(None, [note, f"{clock(left)} left" if left is not None and more else ""]))
        if self.rich is not None:
            self.rich.update(self.task, completed=done, note=words)
        elif self.every and (not more or time.monotonic() - self.said >= self.every):
            self.said = time.monotonic()
            of = "" if self.total is None else f"/{self.total}"
            print(f"{self.title}  {done}{of}  {words}".rstrip(), file=self.stream, flush=True)

    def say(self, line: str, stream: TextIO | None = None) -> None:
        """Print a line, by default where the bar is, without tearing the bar."""
        stream = stream or self.stream
        bare = self.rich is None or not stream.isatty()
        if not bare:
            self.rich.stop()
        print(line, file=stream, flush=True)
        if not bare:
            self.rich.start()


def clock(seconds: float) -> str:
    """Seconds as 9 s, 12:05 or 3:04:05; never exacter than can be known."""
    whole = round(seconds)
    minutes, rest = divmod(whole, 60)
    if whole < 60:
        return f"{whole} s"
    return f"{minutes}:{rest:02}" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


def _rich(stream: TextIO, keep: bool) -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[note]}"))
    # Redirected, what is printed for a pipe would land on the terminal.
    return Progress(
        *columns, console=Console(file=stream), transient=not keep, redirect_stdout=False, redirect_stderr=False
    )
