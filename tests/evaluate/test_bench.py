"""The bench measures what it says, in one form, and keeps its figures where they belong."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from statistics import median

import pytest
import torch

from safelight.cli.main import main, parser
from safelight.core.path import Level
from safelight.core.samplers.table import SAMPLERS
from safelight.errors import RequestError, UnknownNameError
from safelight.evaluate import bench, origin, solver_cost
from safelight.evaluate import memory as bench_memory
from safelight.evaluate.evidence import Finding, read
from safelight.evaluate.memory import reset_peak
from safelight.evaluate.timing import Pairs, Run, python
from safelight.figurines.render import BUFFERS
from tests.models import SD1, tiny

HERE = origin.Origin("0123456789ab", "a lamp, 2 cores", "safelight bench lamp --runs 1")


def _lamp(*findings: Finding) -> bench.Case:
    """A case that measures nothing, so that tests of the form take no time."""
    pairs = Pairs((Run(1.0, 10), Run(3.0, 20)), (Run(2.0), Run(2.0)))
    return bench.Case("lamp", "a lamp", "a candle", 2, lambda runs, model: bench.Measured(pairs, findings))


def test_a_line_has_the_form_of_all_results() -> None:
    line, _ = bench.measure(_lamp(), 2, "figurines", HERE)
    form = "case, subject, opponent, ratio, median_s, spread, peak_bytes, commit, machine, command"
    assert ", ".join(field.name for field in fields(line)) == form
    assert (line.case, line.opponent, line.median_s, line.spread, line.peak_bytes) == ("lamp", "a candle", 2.0, 1.0, 20)
    assert line.ratio == pytest.approx((2 / 1 + 2 / 3) / 2, rel=1e-3)
    assert line.commit == HERE.commit


def test_a_missing_opponent_leaves_no_ratio() -> None:
    alone = replace(_lamp(), measure=lambda runs, model: bench.Measured(Pairs((Run(1.0),))))
    line, _ = bench.measure(alone, 1, "figurines", HERE)
    assert line.opponent is None and line.ratio is None and line.peak_bytes is None


@pytest.mark.parametrize("runs", [0, -1, 1001])
def test_runs_out_of_range_are_refused(runs: int) -> None:
    with pytest.raises(RequestError, match="between 1 and 1000"):
        bench.measure(_lamp(), runs, "figurines", HERE)


def test_an_unknown_case_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="unet-step"):
        bench.find("unet")


def test_figures_of_a_checkout_are_kept_beside_it_and_promises_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "benchmarks/results").mkdir(parents=True)
    (tmp_path / "evidence").mkdir()
    monkeypatch.setattr(origin, "checkout", lambda: tmp_path)
    monkeypatch.setattr(bench, "CASES", {"lamp": _lamp(Finding("the lamp is lit", 2.0, "s", "<= 1"))})
    assert main(["bench", "--runs", "2"]) == 1, "a promise that is not kept is a failure"
    assert main(["bench", "lamp"]) == 1
    kept = [json.loads(line) for line in (tmp_path / "benchmarks/results/lamp.jsonl").read_text().splitlines()]
    said = capsys.readouterr()
    assert [json.loads(line) for line in said.out.splitlines()] == kept and len(kept) == 2
    assert kept[0]["command"] == "safelight bench lamp --runs 2"
    assert "DOES NOT HOLD" in said.err
    (entry,) = read(tmp_path / "evidence/speed.json")
    assert (entry.claim, entry.holds) == ("the lamp is lit", False)


@pytest.mark.parametrize("flag", ["-o", "-m"])
def test_figures_for_another_file_or_of_another_model_do_not_enter_the_checkout(
    flag: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(origin, "checkout", lambda: tmp_path)
    monkeypatch.setattr(bench, "CASES", {"lamp": _lamp()})
    other = tmp_path / "other.jsonl"
    assert main(["bench", "lamp", flag, str(other)]) == 0
    assert [file.name for file in tmp_path.iterdir()] == (["other.jsonl"] if flag == "-o" else [])


def test_a_place_that_cannot_be_written_is_said_before_anything_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[int] = []
    lamp = replace(_lamp(), measure=lambda runs, model: measured.append(runs))
    monkeypatch.setattr(bench, "CASES", {"lamp": lamp})
    for place in ("no/such/folder.jsonl", ".", "~nobody-of-this-name/lamp.jsonl"):
        assert main(["bench", "lamp", "-o", str(tmp_path / place) if place[0] != "~" else place]) == 1
    assert not measured


def test_list_names_every_case_and_measures_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--list"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list(bench.CASES)


def test_the_help_is_measured_in_whole_processes(tmp_path: Path) -> None:
    place = tmp_path / "help.jsonl"
    assert main(["bench", "help", "--runs", "1", "-o", str(place)]) in (0, 1)  # a busy machine may be slow
    (line,) = [json.loads(text) for text in place.read_text().splitlines()]
    assert line["opponent"] == "a bare interpreter" and 0 < line["ratio"] < 1.5


def test_inspect_is_measured_on_files_of_full_size_that_take_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, str, int, int]] = []

    def noted(*words: str) -> Callable[[], Run]:
        if "inspect" in words:
            place = Path(words[-1])
            files = [place] if place.is_file() else [each for each in place.rglob("*") if each.is_file()]
            sizes = [file.stat() for file in files]
            taken = sum(each.st_blocks * 512 for each in sizes)
            assert main([*words[2:], "--json"]) == 0
            seen.append((words[-1], words[2], sum(each.st_size for each in sizes), taken))
        return lambda: Run(0.2 + len(seen))

    monkeypatch.setattr(bench, "python", noted)
    found = bench.inspect(2, "figurines")
    assert [(round(each.value, 1), each.bar) for each in found.findings] == [(t + 0.2, "<= 0.4") for t in (1, 2, 3)]
    assert [round(size / 1e9, 2) for _, _, size, _ in seen] == [4.27, 6.94, 6.94]
    assert all(taken < 20e6 for _, _, _, taken in seen), "or this file system knows no holes"
    assert not any(Path(place).exists() for place, _, _, _ in seen)


def test_the_command_that_is_measured_is_one() -> None:
    args = parser("generate").parse_args(bench.drawing("a/folder", "a.png"))
    assert (args.prompt, args.model, args.steps, args.seed) == (bench.PROMPT, "a/folder", bench.STEPS, str(bench.SEED))
    compile(bench._DIFFUSERS, "theirs", "exec")


def test_loading_a_model_does_not_load_the_compiler() -> None:
    python("-c", bench._LOAD + "; assert 'torch._dynamo' not in sys.modules", str(tiny()))()


def test_the_unet_step_compares_equal_weights() -> None:
    pairs = bench.step_pairs(SD1, 8, 2)
    assert len(pairs.ours) == len(pairs.theirs) == 2
    assert pairs.ratio is not None and 0.05 < pairs.ratio < 20


@pytest.mark.skipif(not reset_peak(), reason="this system does not count the peak of memory anew")
def test_memory_counts_the_weights_once_and_little_else() -> None:
    load = bench.loaded(tiny())
    assert load.run.peak is not None
    assert load.files == sum(file.stat().st_size for file in tiny().rglob("*.safetensors"))
    assert load.run.peak < load.files + 16 * 2**20


def test_memory_that_cannot_be_counted_anew_is_not_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_memory, "_CLEAR", tmp_path / "no/such/file")
    assert not reset_peak()
    load = bench.loaded(tiny())
    assert load.run.peak is None
    monkeypatch.setattr(bench, "_elsewhere", lambda function, *words: load if function is bench.loaded else str(tiny()))
    with pytest.raises(RequestError, match="memory cannot be measured here"):
        bench.memory(1, "figurines")


def test_views_are_rendered_by_all_cores_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "VIEWS", 2 * bench.SHARE)
    monkeypatch.setattr(bench, "cores", lambda: 2)
    found = bench.render(1, "figurines")
    assert len(found.pairs.ours) == len(found.pairs.theirs) == 1
    fast, slow = found.findings
    assert (fast.bar, slow.bar) == (">= 50", ">= 25")
    assert fast.value == 2 * bench.SHARE / found.pairs.median_s > 0
    assert slow.value == 2 * bench.SHARE / found.pairs.theirs[0].seconds > 0
    assert set(bench.ALL_BUFFERS) == set(BUFFERS)


def test_what_was_measured_is_kept_where_a_later_case_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "benchmarks/results").mkdir(parents=True)
    (tmp_path / "evidence").mkdir()

    def fails(runs: int, model: str) -> bench.Measured:
        raise RequestError("there is no candle")

    monkeypatch.setattr(origin, "checkout", lambda: tmp_path)
    cases = {"lamp": _lamp(Finding("the lamp is lit", 0.5, "s", "<= 1")), "dark": replace(_lamp(), measure=fails)}
    monkeypatch.setattr(bench, "CASES", cases)
    assert main(["bench"]) == 2
    assert [entry.claim for entry in read(tmp_path / "evidence/speed.json")] == ["the lamp is lit"]


def test_the_cost_of_solvers_is_a_share_of_the_step_that_they_wait_for() -> None:
    found = solver_cost.costs(SD1, 8, 2)
    assert set(found.shares) == set(SAMPLERS) > set(solver_cost.SHOWN)
    assert all(share > 0 for share in (*found.shares.values(), found.noise))
    assert len(found.pairs.ours) == len(found.pairs.theirs) == 2
    worst, step = found.pairs.median_s, median(run.seconds for run in found.pairs.theirs)
    assert max(found.shares.values()) == pytest.approx(worst / step)


def test_a_solver_is_timed_by_the_evaluation_and_its_noise_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter(range(1000))
    monkeypatch.setattr(solver_cost.time, "perf_counter", lambda: next(ticks))
    x, drawn = torch.zeros(1, 4, 8, 8), list[tuple[Level, Level]]()

    def slow(s: Level, t: Level) -> torch.Tensor:
        drawn.append((s, t))
        next(ticks)  # a second for each
        return x

    # From the start to the end: one second, and one for each noise; the last of the steps draws none.
    each = solver_cost.solving("dpmpp_2m_sde", x, slow)()
    assert each == pytest.approx((1 + len(drawn)) / solver_cost.STEPS) and len(drawn) == solver_cost.STEPS - 1
    assert solver_cost.solving("euler", x, slow)() == pytest.approx(1 / solver_cost.STEPS)
    assert solver_cost.drawing("dpmpp_2m_sde", x, slow)() == pytest.approx((1 + len(drawn) / 2) / (len(drawn) / 2))


def test_every_solver_that_is_timed_has_a_promise_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = Pairs((Run(0.001),), (Run(1.0),))
    found = solver_cost.Costs(pairs, {**dict.fromkeys(SAMPLERS, 0.001), "heun": 0.03}, 0.02)
    monkeypatch.setattr(bench, "_elsewhere", lambda function, *words: found)
    line, findings = bench.measure(bench.find("solver-cost"), 1, "figurines", HERE)
    assert line.ratio == 1000
    assert [(finding.value, finding.bar) for finding in findings] == [
        *[(0.001, "<= 0.01")] * 6,
        (0.03, "<= 0.01"),
        (0.02, "<= 0.01"),
    ]
