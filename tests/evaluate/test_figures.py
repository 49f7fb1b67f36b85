"""The README's figures are those of the files, and nothing else."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from benchmarks.readme import PAGES
from safelight.errors import ConfigError
from safelight.evaluate.bench import Line
from safelight.evaluate.evidence import Finding, claim, record
from safelight.evaluate.figures import END, NONE_YET, START, figures, newest, renewed, samplers
from safelight.evaluate.origin import Origin
from tests.architecture.source import ROOT

HERE = Origin("0123456789ab", "a lamp, 2 cores", "safelight bench help --runs 1")


def _line(seconds: float) -> Line:
    return Line("help", "safelight --help", "python", 0.5, seconds, 0.1, 21_000_000, **asdict(HERE))


def _write(root: Path, *lines: Line) -> Path:
    place = root / "benchmarks/results/help.jsonl"
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text("".join(json.dumps(asdict(line)) + "\n" for line in lines))
    return place


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_shows_what_the_files_hold(page: Path) -> None:
    text = page.read_text("utf-8")
    assert renewed(text, ROOT) == text, "run `python -m benchmarks.readme`"


def test_the_projects_own_results_are_in_their_form() -> None:
    for file in (ROOT / "benchmarks/results").glob("*.jsonl"):
        assert newest(file).case == file.stem


def test_the_newest_line_and_claims_with_a_bar_are_shown(tmp_path: Path) -> None:
    _write(tmp_path, _line(0.07), _line(0.04321))
    (tmp_path / "evidence").mkdir()
    found = [
        Finding("help is quick", 0.0432, "s", "<= 0.15"),
        Finding("colours", 0.9512, "share of 143", ">= 0.97"),
        Finding("only told", 1.0, "s"),
    ]
    record(tmp_path / "evidence/speed.json", [claim(finding, HERE) for finding in found])
    shown = figures(tmp_path)
    assert "| safelight --help | 0.0432 s | python: 0.50 | 21 MB | `safelight bench help --runs 1` |" in shown
    assert "| help is quick | 0.0432 s | ≤ 0.15 s | yes |" in shown
    assert "| colours | 95.12 % | ≥ 97 % | **no** |" in shown
    assert "only told" not in shown and "0.07 s" not in shown
    assert shown.count("Measured on a lamp, 2 cores (commit 0123456789ab).") == 2


def test_only_what_stands_between_the_markers_changes(tmp_path: Path) -> None:
    page = renewed(f"# a\n{START}\nold\n{END}\nz\n", tmp_path)
    assert page == f"# a\n{START}\n{NONE_YET}\n{END}\nz\n"
    assert renewed(page, tmp_path) == page


def test_samplers_have_a_row_each_and_a_column_for_each_budget() -> None:
    found = [
        Finding("heun, 5 evaluations: stated attributes right", 0.5, "share of 8 pictures'"),
        Finding("heun, 39 evaluations: stated attributes right", 0.995, "share of 8 pictures'"),
        Finding("heun, 39 evaluations: distance from the solution", 0.0123, "share of its size"),
        Finding("heun, one step: order 3 declared, missed by", 0.1, "orders", "<= 0.3"),
    ]
    shown = samplers([claim(finding, HERE) for finding in found])
    assert "| `heun` | 50 % | - | - | 100 %, 0.012 |" in shown
    assert "one step" not in shown


@pytest.mark.parametrize("page", ["# a\n", f"{START}\n", f"{END}\n{START}\n"])
def test_a_readme_without_markers_is_refused(page: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="figures:start"):
        renewed(page, tmp_path)


@pytest.mark.parametrize("text", ["", "{}\n", "no json\n"])
def test_results_in_another_form_are_refused(text: str, tmp_path: Path) -> None:
    place = _write(tmp_path)
    place.write_text(text)
    with pytest.raises(ConfigError):
        newest(place)


def test_a_page_can_show_one_case(tmp_path: Path) -> None:
    _write(tmp_path, _line(0.04321))
    page = renewed(f"<!-- figures:help -->\n{END}\n<!-- figures:other -->\nold\n{END}", tmp_path)
    assert "0.0432 s" in page and NONE_YET in page and "old" not in page
