"""Where figures come from is said without naming anybody's machine."""

from __future__ import annotations

import platform
import re
import subprocess
from pathlib import Path

import pytest

import safelight
from safelight.evaluate import origin


def _repository(folder: Path) -> Path:
    (folder / "pyproject.toml").touch()
    for words in (
        ["init", "-q"],
        ["add", "-A"],
        ["-c", "user.name=a", "-c", "user.email=a@b.c", "commit", "-q", "-m", "Begin", "--no-gpg-sign"],
    ):
        subprocess.run(["git", *words], cwd=folder, check=True, capture_output=True)
    return folder


def test_a_commit_has_a_plus_only_where_something_else_than_results_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = _repository(tmp_path)
    monkeypatch.setattr(origin, "checkout", lambda: root)
    clean = origin.commit()
    assert re.fullmatch("[0-9a-f]{12}", clean)
    (root / "evidence").mkdir()
    (root / "evidence" / "speed.json").write_text("[]")
    assert origin.commit() == clean
    (root / "new.py").touch()
    assert origin.commit() == clean + "+"


def test_without_a_checkout_the_version_stands_for_the_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(origin, "checkout", lambda: None)
    assert origin.commit() == f"v{safelight.__version__}"


def test_the_machine_is_described_without_its_name() -> None:
    machine = origin.machine()
    assert re.search(r", \d+ cores?, .*, torch \d", machine)
    assert platform.node() == "" or platform.node() not in machine
    assert "(R)" not in machine and "/" not in machine
