"""Where a figure comes from: the commit, the machine in plain words, and the command that makes it again.

Nothing here names a host, a user or a folder.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from safelight import __version__

OUTPUTS = ("benchmarks/results", "evidence")
"""What measuring itself writes; it does not make a tree dirty."""


@dataclass(frozen=True)
class Origin:
    """What stands beside every figure.

    Attributes:
        commit: see `commit`.
        machine: see `machine`.
        command: what to type to measure again.
    """

    commit: str
    machine: str
    command: str


def origin(command: str) -> Origin:
    """The origin of what ``command`` measures here and now; asked before measuring, since files may change after."""
    return Origin(commit(), machine(), command)


def checkout() -> Path | None:
    """The root of the checkout that this program runs from; None where it was installed from a wheel."""
    root = Path(__file__).resolve().parents[2]
    return root if (root / ".git").exists() and (root / "pyproject.toml").is_file() else None


def commit() -> str:
    """The first twelve digits of HEAD, with ``+`` where the tree holds what HEAD does not; without git, the version."""
    root = checkout()
    head = "" if root is None else _git(root, "rev-parse", "--short=12", "HEAD")
    if root is None or not head:
        return f"v{__version__}"
    changed = _git(root, "status", "--porcelain", "--", ".", *(f":(exclude){folder}" for folder in OUTPUTS))
    return head + ("+" if changed else "")


def machine() -> str:
    """Processor, cores that this process may use, system and the build of torch, in one line."""
    try:
        torch = f"torch {version('torch')}"
    except PackageNotFoundError:
        torch = "no torch"
    many = "core" if cores() == 1 else "cores"
    return f"{_processor()}, {cores()} {many}, {platform.system()} {platform.machine()}, {torch}"


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _processor() -> str:
    """The processor's name as its maker has it, without trademark signs."""
    table = Path("/proc/cpuinfo")
    found = re.search(r"^model name\s*:\s*(.+)$", table.read_text("utf-8", "replace"), re.M) if table.exists() else None
    name = found[1] if found else platform.processor() or platform.machine()
    return " ".join(re.sub(r"\((R|TM|C)\)", " ", name).split())


def _git(root: Path, *words: str) -> str:
    try:
        done = subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
