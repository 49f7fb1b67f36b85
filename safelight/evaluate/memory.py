"""How much memory of this process is resident, as Linux counts it; elsewhere None."""

from __future__ import annotations

import contextlib
from pathlib import Path

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def resident() -> int | None:
    """Bytes resident now, mapped files included."""
    return _entry("VmRSS")


def peak() -> int | None:
    """The most bytes resident since the start, or since `reset_peak`."""
    return _entry("VmHWM")


def reset_peak() -> bool:
    """Begin counting the peak anew; False where the system does not offer or allow it, and `peak` then says less."""
    with contextlib.suppress(OSError):
        _CLEAR.write_text("5")
        return True
    return False


def _entry(name: str) -> int | None:
    with contextlib.suppress(OSError):
        for line in _STATUS.read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) * 1024
    return None
