"""Runs a program in a process of its own and kills it, without a chance to clean up, at a random moment."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.architecture.source import ROOT

PATIENCE = 120.0


def kill_while_training(module: str, *words: str, checkpoints: Path) -> None:
    """Start ``python -m module words`` and kill it a random while after its second checkpoint."""
    process = subprocess.Popen([sys.executable, "-m", module, *words], cwd=ROOT, stderr=subprocess.PIPE, text=True)
    try:
        end = time.monotonic() + PATIENCE
        while not (checkpoints / "step-00000002").exists() and time.monotonic() < end:
            assert process.poll() is None, process.communicate()[1]
            time.sleep(0.002)
        time.sleep(random.SystemRandom().uniform(0.0, 0.2))
    finally:
        process.kill()
        process.wait()
        assert process.stderr is not None
        process.stderr.close()
    assert process.returncode == -signal.SIGKILL, "it was over before it was killed"
