"""Shows long work whose parts announce themselves: one bar after the other."""

from __future__ import annotations

from contextlib import ExitStack

from safelight.cli.bar import LINE_EVERY, Bar


class Watch:
    """A new bar where something else, or the same anew, is begun; the last one is closed with the context."""

    def __init__(self) -> None:
        self.bars = ExitStack()
        self.bar: Bar | None = None

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *error: object) -> None:
        self.bars.close()

    def __call__(self, what: str, done: int, total: int) -> None:
        """See `safelight.evaluate.figurines.pictures.Tell`."""
        if self.bar is None or (self.bar.title, self.bar.total) != (what, total) or done < self.bar.done:
            self.bars.close()
            self.bar = self.bars.enter_context(Bar(what, total, every=LINE_EVERY, keep=True))
        self.bar.move(done)
