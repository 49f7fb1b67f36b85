"""One finished run of the small plan, shared by the tests that look at runs; they copy what they change."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.train.tiny import finish, tiny


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run in which every stage has ended."""
    run = tmp_path_factory.mktemp("figurines") / "run"
    finish(run, tiny())
    return run


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Callable[..., Path]:
    """Makes a run that has only the named parts of the finished one."""

    def copy(*parts: str, name: str = "run") -> Path:
        for part in parts:
            shutil.copytree(finished / part, tmp_path / name / part)
        (tmp_path / name).mkdir(exist_ok=True)
        return tmp_path / name

    return copy
