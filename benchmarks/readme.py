"""``python -m benchmarks.readme``: writes the figures of the README anew from benchmarks/results and evidence."""

from __future__ import annotations

from pathlib import Path

from safelight.evaluate.figures import renewed

ROOT = Path(__file__).resolve().parents[1]

if __name__ == "__main__":
    page = ROOT / "README.md"
    page.write_text(renewed(page.read_text("utf-8"), ROOT), "utf-8")
