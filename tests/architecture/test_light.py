"""What must be quick: importing safelight, and every --help."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from safelight.cli.table import COMMANDS
from tests.architecture.source import ROOT

HEAVY = ("torch", "numpy", "PIL", "rich", "safetensors", "tokenizers", "scipy", "diffusers", "transformers")
# The bar is wall time from start to exit on an idle machine. A test cannot have an idle machine: it takes the best
# of up to TRIES, so a machine that is busy now and then passes, one that never rests for 0.15 s fails.
HELP_SECONDS, TRIES = 0.15, 40


def _loaded_after(code: str) -> set[str]:
    report = f"{code}\nimport sys\nprint('loaded:', *sorted(m for m in sys.modules if '.' not in m))"
    run = subprocess.run([sys.executable, "-c", report], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(run.stdout.splitlines()[-1].split())


def test_importing_safelight_loads_nothing_heavy() -> None:
    assert not _loaded_after("import safelight; safelight.SafelightError") & set(HEAVY)


@pytest.mark.parametrize("command", ["", *(row.name for row in COMMANDS)])
def test_help_loads_nothing_heavy(command: str) -> None:
    code = (
        f"from safelight.cli.main import main\ntry: main({[*command.split(), '--help']!r})\n"
        "except SystemExit as end: assert not end.code"
    )
    assert not _loaded_after(code) & set(HEAVY)


def test_help_answers_in_a_seventh_of_a_second() -> None:
    best = float("inf")
    for _ in range(TRIES):
        begin = time.perf_counter()
        subprocess.run([sys.executable, "-m", "safelight", "--help"], cwd=ROOT, capture_output=True, check=True)
        best = min(best, time.perf_counter() - begin)
        if best < HELP_SECONDS:
            return
    pytest.fail(f"--help took {best:.3f} s at best of {TRIES}")
