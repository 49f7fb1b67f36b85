"""The whole trial: true views hold every bar, grey ones hold theirs by failing, a model is held against floors."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from safelight.core.camera import Camera
from safelight.errors import ImageError, RequestError
from safelight.evaluate.evidence import Finding, holds
from safelight.evaluate.views import attributes, baselines, identity, report
from safelight.evaluate.views.marks import Marks
from safelight.evaluate.views.trial import Exam, Measured, exam, measure
from safelight.evaluate.views.truth import cameras
from tests.evaluate.views.front import FRONT, quiet


@pytest.fixture(scope="module")
def rows(prepared: Exam) -> dict[str, Measured]:
    views = baselines.rows(prepared.truths, baselines.mean(prepared.cameras, 4))
    return {name: measure(drawn, prepared, 1, quiet) for name, drawn in views.items()}


def failing(findings: list[Finding]) -> list[str]:
    return [one.claim for one in findings if holds(one.value, one.bar) is False]


def test_true_views_hold_every_bar(rows: dict[str, Measured]) -> None:
    assert failing(report.of_truth(rows["ground truth"])) == []
    model = report.of_model("truth as a model", rows["ground truth"], rows)
    assert failing(model) == []
    assert sum(one.bar is not None for one in model) == 4


@pytest.mark.parametrize("name", ["copy of the reference", "another person", "a person a view", "mean view"])
def test_no_floor_passes_for_a_model(rows: dict[str, Measured], name: str) -> None:
    failed = failing(report.of_model(name, rows[name], rows))
    assert f"{name}: mark shown" in failed
    assert any("above the" in claim for claim in failed)
    assert rows[name].ratio > 2 * rows["ground truth"].ratio
    assert rows[name].lines.near < 0.75


def test_grey_views_fail_every_measure_of_consistency(rows: dict[str, Measured]) -> None:
    grey = rows["constant grey"]
    barred = [one for one in report.of_grey(grey) if one.bar]
    assert failing(barred) == []
    assert len(barred) == 5
    assert grey.warp.error == 0, "what a metric without chance would have praised"
    assert grey.nearest in (0, 1 / 3)


def test_every_finding_of_a_row_has_its_own_claim(rows: dict[str, Measured]) -> None:
    every = [*report.of_truth(rows["ground truth"]), *report.of_grey(rows["constant grey"])]
    every += [one for name in report.FLOORS for one in report.of_floor(name, rows[name])]
    assert len({one.claim for one in every}) == len(every) == 4 * 13
    assert all(np.isfinite(one.value) for one in every)


def test_the_bar_of_a_model_is_the_better_floor(rows: dict[str, Measured]) -> None:
    floors = {name: replace(rows[name], inside=value) for name, value in zip(report.FLOORS, (9.0, 12.0), strict=True)}
    model = replace(rows["ground truth"], inside=15.9, overlap=0.89, marks=Marks(10, 7, 6, 4, 2))
    found = {one.claim: one for one in report.of_model("m", model, floors)}
    gain = found["m: PSNR inside the outline above the mean view, the better floor"]
    assert gain.value == pytest.approx(3.9)
    assert (gain.bar, found["m: mark shown"].value, found["m: mark on the bare cheek"].value) == (">= 4", 0.7, 0.5)
    assert found["m: mark on the right side"].value == pytest.approx(6 / 9), "of seven shown and two astray"
    assert len(failing(list(found.values()))) == 4
    with pytest.raises(RequestError, match="no row of mean view"):
        report.of_model("m", model, {report.FLOORS[0]: model})


def test_seeds_and_numbers_of_views_are_compared() -> None:
    gap, spread, paper = report.of_normals([15.0, 15.5, 16.0], [16.0, 15.5, 17.0])
    assert (round(gap.value, 4), round(spread.value, 4), round(paper.value, 2)) == (0.6667, 0.5774, 3.15)
    assert holds(gap.value, gap.bar)
    with pytest.raises(RequestError, match="same two seeds"):
        report.of_normals([1.0], [2.0])
    volumes = report.of_volumes("a model", [(20.0, 15.0), (22.0, 17.0)], [(25.0, 20.0), (25.0, 22.0)])
    assert [one.value for one in volumes] == [21, 25, 16, 21]


def test_more_views_may_cost_a_decibel(rows: dict[str, Measured]) -> None:
    few, many = (replace(rows["ground truth"], views=8, inside=value) for value in (18.0, 16.5))
    lost = report.of_more_views("m", few, many, 4)
    assert (lost.value, holds(lost.value, lost.bar)) == (1.5, False)
    assert lost.claim.endswith("lost by 8 views at once against 4 at a time")


def test_the_checker_recognises_people_by_their_views() -> None:
    views = cameras(FRONT[2:3])
    asked = exam(3, views, quiet)
    true = measure(baselines.ceiling(asked.truths), asked, 1, quiet)
    assert true.scores is not None
    assert (true.scores.overall, true.recognised, true.nearest) == (1, 1, 1)
    assert true.scores.stated("background") == 3
    other = measure(baselines.another(asked.truths), asked, 1, quiet)
    assert other.scores is not None
    assert other.scores.overall < 0.6
    assert (other.recognised, other.nearest) == (0, 0)
    assert {one.claim for one in report.of_floor("x", other)} >= {"x: attributes seen", "x: likeliest by attributes"}


def test_a_picture_that_comes_again_in_the_same_view_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[tuple[bytes, float]] = []

    def reader(picture: np.ndarray, azimuth: float, elevation: float) -> dict[str, str]:
        read.append((picture.tobytes(), azimuth))
        return {"skin": str(picture[0, 0, 0]), "hat": str(azimuth)}

    monkeypatch.setattr(attributes, "read", reader)
    views, known = cameras(FRONT[:2]), attributes.Known()
    drawn = np.zeros((3, 2, 64, 64, 3), np.uint8)
    drawn[1] = 7
    found = attributes.seen(drawn, views, 1, quiet, known)
    assert [[view["skin"] for view in person] for person in found] == [["0", "0"], ["7", "7"], ["0", "0"]]
    assert found[0][0]["hat"] != found[0][1]["hat"], "the same picture elsewhere is another"
    assert len(read) == len(set(read)) == 4
    again = attributes.seen(drawn[[1, 0]], views, 1, quiet, known)
    assert (again, len(read)) == ([found[1], found[0]], 4)


def test_equally_near_candidates_share_the_hit() -> None:
    assert identity.retrieved(np.array([[0.1, 0.5, 0.6], [0.4, 0.4, 0.4]])) == pytest.approx((1 + 1 / 3) / 2)
    with pytest.raises(RequestError, match="candidate"):
        identity.retrieved(np.zeros((3, 2)))
    with pytest.raises(RequestError, match="cannot be compared"):
        identity.distances(np.zeros((1, 2, 4, 4, 3), np.uint8), np.zeros((1, 3, 4, 4, 3)), np.zeros((1, 3, 4, 4)))
    said = [[{"skin": "tan", "hat": "none"}], [{"skin": "blue"}], [{}]]
    assert identity.alike([[{"skin": "tan", "hat": "crown"}]], said).tolist() == [[0.5, 0, 0]]


def test_what_cannot_be_judged_is_refused(prepared: Exam) -> None:
    with pytest.raises(RequestError, match=r"uint8 \[3, 4, 64, 64, 3\]"):
        measure(np.zeros((2, 4, 64, 64, 3), np.uint8), prepared, 1, quiet)
    with pytest.raises(RequestError, match="at least three"):
        baselines.mixed(prepared.truths[:2])
    for strange in (Camera.orbit([0.0], distance=6.0, fov=24.0, size=64), cameras(FRONT).orthographic(3.0)):
        with pytest.raises(RequestError, match="no others"):
            exam(1, strange, quiet)
    with pytest.raises(ImageError, match="64 or 128"):
        attributes.seen(np.zeros((1, 1, 32, 32, 3), np.uint8), cameras(FRONT[:1], 32), 1, quiet)
