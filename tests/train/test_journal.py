"""The log and the curve of a run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from safelight.errors import FileError
from safelight.train.journal import Journal, curve, read
from safelight.train.loop import Report


def _report(step: int) -> Report:
    return Report(step, 2.0 / step, 1e-3, 0.5, 0.01)


def _steps(path: Path) -> list[int]:
    return [line["step"] for line in read(path)]


def test_lines_that_a_resumption_repeats_are_dropped(tmp_path: Path) -> None:
    log = tmp_path / "run" / "log.jsonl"
    journal = Journal(log, 0)
    for step in range(1, 8):
        journal.write(_report(step))
    Journal(log, 5).write(_report(6))
    assert _steps(log) == [1, 2, 3, 4, 5, 6]
    assert read(log)[0] == _report(1)._asdict()


def test_a_half_written_line_is_dropped(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    Journal(log, 0).write(_report(1))
    with log.open("a") as file:
        file.write('{"step": 2, "lo')
    assert _steps(log) == [1]
    Journal(log, 3).write(_report(3))
    assert _steps(log) == [1, 3]


def test_a_log_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(FileError):
        Journal(tmp_path / "file" / "log.jsonl", 0)
    journal = Journal(tmp_path / "log.jsonl", 0)
    journal.path = tmp_path
    with pytest.raises(FileError, match="cannot be written"):
        journal.write(_report(1))


def test_the_curve_falls_where_the_loss_falls(tmp_path: Path) -> None:
    log, picture = tmp_path / "log.jsonl", tmp_path / "loss.png"
    curve(log, picture)
    journal = Journal(log, 0)
    journal.write(_report(1))
    curve(log, picture)
    assert not picture.exists(), "one point is no curve"
    for step in range(2, 200):
        journal.write(_report(step))
    curve(log, picture)
    pixels = np.asarray(Image.open(picture))
    assert pixels.shape == (320, 640, 3)
    rows, columns = np.nonzero((pixels == (180, 30, 30)).all(-1))
    left, right = rows[columns < 100].mean(), rows[columns > 500].mean()
    assert left < right - 100, "high on the left, low on the right"
