"""The bar: an honest estimate, a quiet pipe, and lines that do not tear it."""

from __future__ import annotations

import io
import sys

import pytest

from safelight.cli.bar import WINDOW, Bar, Pace, clock


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


class Watch:
    """A clock that is set by hand."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_nothing_is_estimated_before_anything_is_done() -> None:
    assert Pace(10).seconds is None


def test_an_even_pace_gives_the_exact_rest() -> None:
    watch = Watch()
    pace = Pace(100, clock=watch)
    for done in range(1, 11):
        watch.now += 2.0
        pace.move(done)
    assert pace.seconds == pytest.approx(180.0)


def test_what_an_earlier_run_did_is_not_counted_as_speed() -> None:
    watch = Watch()
    pace = Pace(1000, done=900, clock=watch)
    watch.now = 1.0
    pace.move(901)
    assert pace.seconds == pytest.approx(99.0)


def test_a_machine_that_becomes_slow_is_noticed_within_the_window() -> None:
    watch = Watch()
    pace = Pace(10_000, clock=watch)
    done = 0
    for seconds in [0.1] * 500 + [1.0] * int(WINDOW + 2):
        watch.now += seconds
        done += 1
        pace.move(done)
    assert pace.seconds == pytest.approx((10_000 - done) * 1.0, rel=0.1)


@pytest.mark.parametrize(("seconds", "words"), [(0.4, "0 s"), (59.4, "59 s"), (60, "1:00"), (3725, "1:02:05")])
def test_times_are_said_as_on_a_clock(seconds: float, words: str) -> None:
    assert clock(seconds) == words


def test_a_pipe_gets_nothing_or_lines_now_and_then() -> None:
    quiet, lines = io.StringIO(), io.StringIO()
    with Bar("drawing", 3, stream=quiet) as bar:
        bar.move(3)
    assert quiet.getvalue() == ""
    with Bar("unet", 3, every=1000, stream=lines) as bar:
        for done in (1, 2, 3):
            bar.move(done, f"loss {done}")
    assert lines.getvalue() == "unet  3/3  loss 3\n"


def test_where_nobody_knows_how_much_there_is_nothing_is_estimated() -> None:
    watch, lines, terminal = Watch(), io.StringIO(), Terminal()
    pace = Pace(None, clock=watch)
    watch.now = 1.0
    pace.move(5)
    assert pace.seconds is None
    with Bar("drawing", None, every=1e-9, stream=lines) as bar:
        bar.move(4)
    assert lines.getvalue() == "drawing  4\n"
    with Bar("drawing", None, keep=True, stream=terminal) as bar:
        bar.move(7)
    assert "7/?" in terminal.getvalue()


def test_a_terminal_gets_a_bar_with_the_count_and_the_note() -> None:
    terminal = Terminal()
    with Bar("unet", 3, keep=True, stream=terminal) as bar:
        bar.move(2, "loss 0.5")
    drawn = terminal.getvalue()
    assert "unet" in drawn and "2/3" in drawn and "loss 0.5" in drawn


def test_what_is_said_beside_a_bar_goes_where_it_belongs(capsys: pytest.CaptureFixture[str]) -> None:
    terminal = Terminal()
    with Bar("drawing", 3, stream=terminal) as bar:
        bar.move(1)
        bar.say("x.png  seed 5", sys.stdout)
        print("straight out")
        bar.say("a warning")
        bar.move(3)
    assert capsys.readouterr() == ("x.png  seed 5\nstraight out\n", "")
    assert "a warning\n" in terminal.getvalue() and "x.png" not in terminal.getvalue()


def test_a_pipe_loads_no_library_for_terminals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rich.progress", None)
    with Bar("drawing", 1, stream=io.StringIO()) as bar:
        bar.move(1)
