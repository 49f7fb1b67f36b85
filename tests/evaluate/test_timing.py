"""Times are taken by turns, and what they say of two subjects is computed pair by pair."""

from __future__ import annotations

import mmap
import sys

import pytest

from safelight.errors import SafelightError
from safelight.evaluate.memory import peak, reset_peak, resident
from safelight.evaluate.timing import Pairs, Run, by_turns, clocked, process, python


def test_runs_go_by_turns_and_warm_ones_do_not_count() -> None:
    order: list[str] = []
    pairs = by_turns(clocked(lambda: order.append("a")), clocked(lambda: order.append("b")), runs=2, warm=1)
    assert "".join(order) == "ababab"
    assert len(pairs.ours) == len(pairs.theirs) == 2


def test_ratio_spread_and_excess_are_those_of_the_pairs() -> None:
    pairs = Pairs((Run(1.0, 7), Run(2.0, 9), Run(4.0)), (Run(2.0), Run(2.0), Run(2.0)))
    assert pairs.median_s == 2.0
    assert pairs.spread == 1.5
    assert pairs.ratio == 1.0
    assert pairs.excess_s == 0.0
    assert pairs.peak_bytes == 9


def test_without_an_opponent_there_is_no_ratio() -> None:
    pairs = by_turns(clocked(lambda: None), None, runs=1)
    assert pairs.ratio is None and pairs.excess_s is None and pairs.peak_bytes is None


def test_a_whole_process_is_timed_with_its_memory() -> None:
    run = python("-c", "import time; held = bytearray(64 * 2**20); held[::4096] = b'1' * 2**14; time.sleep(0.05)")()
    assert 0.05 < run.seconds < 30
    if sys.platform in ("linux", "darwin"):
        assert run.peak is not None and run.peak > 64 * 2**20


def test_a_process_that_fails_says_its_last_line() -> None:
    with pytest.raises(SafelightError, match="ended with code 1: ValueError: no film"):
        process([sys.executable, "-c", "raise ValueError('no film')"])


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")
def test_resident_memory_follows_what_is_held() -> None:
    before = resident()
    reset_peak()
    with mmap.mmap(-1, 32 * 2**20) as held:  # new pages, where an allocator could hand out old ones
        held[:: mmap.PAGESIZE] = b"1" * (len(held) // mmap.PAGESIZE)
        top = peak()
    assert before is not None and top is not None
    assert top - before > 24 * 2**20
