"""The table of samplers is printed whole, and one row with everything that is known of it."""

from __future__ import annotations

import json

import pytest

from safelight.cli.main import main
from safelight.core.samplers.table import SAMPLERS


def test_every_sampler_has_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["samplers"]) == 0
    first = {line.split()[0] for line in capsys.readouterr().out.splitlines() if line}
    assert set(SAMPLERS) <= first


def test_one_row_is_found_by_any_name_and_told_whole(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["samplers", "k_heun"]) == 0
    told = capsys.readouterr().out
    assert told.startswith("heun\n")
    for words in ("2n - 1", "s_churn", "Karras", "HeunDiscreteScheduler"):
        assert words in told


def test_json_holds_every_row(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["samplers", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert set(rows) == set(SAMPLERS)
    assert rows["euler"]["options"]["s_tmax"] == "inf"
    assert rows["ddim"]["evaluations"] == "n"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["eular"], "euler"),
        (["--plot", "page.png"], "--plot draws one sampler"),
        (["euler", "--plot", "no/such/folder/page.png"], "cannot be written"),
        (["euler", "--measure", "--pictures", "0"], "1 to 1000"),
        (["euler", "--measure", "-o", "no/such/folder/claims.json"], "cannot be written"),
        (["euler", "--plot", "page.png", "--measure"], "give one"),
        (["euler", "--measure", "--json"], "give one"),
        (["euler", "--plot", "page.jpg"], "end in .png"),
        (["euler", "--prompt", "a hat"], "--prompt does nothing without --plot"),
        (["euler", "--measure", "--seed", "3"], "--seed does nothing without --plot"),
        (["euler", "--plot", "page.png", "--pictures", "3"], "--pictures does nothing without --measure"),
        (["--json", "-o", "claims.json"], "--output does nothing without --measure"),
        (["euler", "-m", "sd15"], "--model does nothing without --plot or --measure"),
    ],
)
def test_what_cannot_be_done_is_said_at_once(words: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["samplers", *words]) in (1, 2)
    assert told in capsys.readouterr().err
