"""Ctrl-C: ends within one step, keeps what is finished, leaves no half, exit code 130."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from safelight.generate import image as task
from safelight.generate.file import open_picture
from safelight.generate.recipe import recipe_in
from tests.architecture.source import ROOT
from tests.end_to_end.shell import PROMPT, Shell
from tests.models import tiny

Asked = Callable[[Tensor, Sequence[Any], Sequence[Any]], Tensor]


@pytest.fixture
def python_hears() -> Iterator[None]:
    """Ctrl-C as Python means it, even where the tests were started in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("python_hears")
@pytest.mark.parametrize("width", ["2", "4"])
def test_what_is_finished_is_kept_and_nothing_else_begins(
    width: str, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    ours = task.evaluator

    def evaluator(*models: Any) -> Asked:
        ask = ours(*models)

        def counted(x: Tensor, levels: Sequence[Any], conds: Sequence[Any]) -> Tensor:
            calls.append(len(x))
            if len(calls) == 8:
                signal.raise_signal(signal.SIGINT)
            return ask(x, levels, conds)

        return counted

    monkeypatch.setattr(task, "evaluator", evaluator)
    said = shell.generate("-n", "4", "--steps", "5", "--width", width, "-o", "x.png", "--every-step", "film.gif")
    kept = 1 if width == "2" else 2
    assert said.code == 130
    assert len(calls) == 8
    pictures = [f"x-{place}.png" for place in range(1, kept + 1)]
    assert shell.names() == [*(f"film-{place}.gif" for place in range(1, kept + 1)), *pictures]
    assert [recipe_in(open_picture(name)).seed for name in pictures] == [5 + place for place in range(kept)]
    assert said.err.splitlines() == [
        f"safelight: {kept} of 4 pictures were finished and are kept",
        "safelight: interrupted",
    ]


@pytest.mark.skipif(sys.platform == "win32", reason="signals there are not sent this way")
def test_a_real_ctrl_c_ends_a_real_command_at_once(tmp_path: Path) -> None:
    words = ["generate", PROMPT, "-m", str(tiny()), "--steps", "1000", "-n", "50", "--threads", "1", "-o", "x.png"]
    with subprocess.Popen(
        [sys.executable, "-m", "safelight", *words],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Started in the background, a process would be told to ignore it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as command:
        assert command.stdout and command.stderr
        heading = command.stdout.readline()
        assert re.search(r"seeds \d+ to \d+, 1000 steps", heading), heading
        time.sleep(0.3)
        begun = time.monotonic()
        command.send_signal(signal.SIGINT)
        code = command.wait(30)
        took = time.monotonic() - begun
        said = command.stderr.read()
    assert code == 130
    assert said.endswith("safelight: interrupted\n") and "Traceback" not in said
    assert took < 10
    assert not [name for name in os.listdir(tmp_path) if not re.fullmatch(r"x-\d\d\.png", name)]
