"""What is said of samplers on pictures is measured: a budget is kept, a solution approached, a file written."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from safelight.cli.main import main
from safelight.core.samplers.table import SAMPLERS
from safelight.evaluate import samplers
from safelight.evaluate.evidence import read
from safelight.generate.pipe import Pipe, load


@pytest.fixture(scope="module")
def pipe() -> Pipe:
    return load()


def test_a_budget_is_spent_and_not_passed(pipe: Pipe) -> None:
    assert samplers.affordable(pipe, SAMPLERS["ddim"], 7) == 7
    assert samplers.affordable(pipe, SAMPLERS["heun"], 7) == 4  # 2 n - 2: the first step, from pure noise, asks once


def test_the_distance_is_a_share_of_the_solution() -> None:
    wanted = [torch.full((1, 2), 2.0), torch.full((1, 2), 4.0)]
    assert samplers.distance(wanted, wanted) == 0.0
    assert samplers.distance([1.1 * each for each in wanted], wanted) == pytest.approx(0.1, rel=1e-5)


def test_measuring_keeps_scores_and_distances(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(samplers, "FINE_STEPS", 24)
    monkeypatch.setattr(samplers, "BUDGETS", (3, 12))
    place = tmp_path / "claims.json"
    assert main(["samplers", "dpmpp_2m", "--measure", "--pictures", "1", "-o", str(place)]) == 0
    found = {entry.claim: entry.value for entry in read(place)}
    near = found["dpmpp_2m, 12 evaluations: distance from the solution"]
    assert 0 < near < found["dpmpp_2m, 3 evaluations: distance from the solution"]
    assert "dpmpp_2m, 12 evaluations: stated attributes right" in found
    assert "from the solution" in capsys.readouterr().out


def test_a_plot_shows_levels_error_and_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import safelight.cli.samplers as command

    monkeypatch.setattr(samplers, "FINE_STEPS", 8)
    monkeypatch.setattr(command, "STEPS", (1, 2))
    place = tmp_path / "euler.png"
    assert main(["samplers", "Euler a", "--plot", str(place), "--seed", "3"]) == 0
    assert Image.open(place).height > 2 * 320 + 128


def test_what_stands_only_for_the_law_has_no_distance() -> None:
    assert samplers.solves(SAMPLERS["heun"])
    assert not samplers.solves(SAMPLERS["euler_ancestral"])
