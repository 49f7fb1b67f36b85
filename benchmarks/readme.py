"""``python -m benchmarks.readme``: renews the figures of the documentation from benchmarks/results and evidence."""

from __future__ import annotations

from pathlib import Path

from safelight.evaluate.figures import renewed

ROOT = Path(__file__).resolve().parents[1]
PAGES = tuple(ROOT / page for page in ("README.md", "docs/learn/seeds.md", "docs/choose/a-sampler.md"))

if __name__ == "__main__":
    for page in PAGES:
        page.write_text(renewed(page.read_text("utf-8"), ROOT), "utf-8")
