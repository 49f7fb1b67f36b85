"""What is said of views: findings with their bars, for ``evidence/views.json``.

Bars of models are promises; bars of floors and of the truth say whether the trial itself can be trusted: grey pictures
must fail every measure of consistency, true ones must pass.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import mean, stdev
from typing import Final

from safelight.errors import RequestError
from safelight.evaluate.evidence import Finding
from safelight.evaluate.views.trial import Measured

FLOORS: Final = ("copy of the reference", "mean view")
"""The rows of `baselines.rows` that a model must beat, by `GAIN`."""
GAIN: Final = 4.0
"""dB inside the outline above the better of `FLOORS`."""
PAPER: Final = {"coarse normals": 19.67, "pose": 16.52, "rays": 16.05}
"""dB by what a model is told, of real heads (GAF, 2412.10209, table 4): only their order is comparable."""


def of_model(name: str, measured: Measured, floors: Mapping[str, Measured]) -> list[Finding]:
    """A model's findings.

    Args:
        floors: rows of the same people and cameras; those of `FLOORS` at least.

    Raises:
        RequestError: a floor lacks.
    """
    lacking = [floor for floor in FLOORS if floor not in floors]
    if lacking:
        raise RequestError(f"a model is held against {', '.join(FLOORS)}; there is no row of {', '.join(lacking)}")
    best = max(FLOORS, key=lambda floor: floors[floor].inside)
    gain = measured.inside - floors[best].inside
    bars = {"overlap of outlines": ">= 0.9", "mark shown": ">= 0.8", "mark on the right side": ">= 0.95"}
    claim = f"{name}: PSNR inside the outline above the {best}, the better floor"
    return [Finding(claim, gain, "dB", f">= {GAIN:g}"), *_row(name, measured, bars)]


def of_truth(measured: Measured) -> list[Finding]:
    """The ceiling: how well true views score."""
    bars = {
        "overlap of outlines": ">= 0.98",
        "warp error by chance": "<= 0.25",
        "landmarks near their lines": ">= 0.95",
        "mark shown": ">= 0.99",
        "mark on the right side": ">= 0.99",
        "nearest in colours": ">= 0.99",
        "attributes seen": ">= 0.98",
        "likeliest by attributes": ">= 0.99",
    }
    return _row("ground truth", measured, bars)


def of_grey(measured: Measured) -> list[Finding]:
    """The floor that other measures of consistency let pass."""
    chance = 2.0 / measured.people
    bars = {
        "overlap of outlines": "<= 0.1",
        "warp error by chance": ">= 0.9",
        "landmarks near their lines": "<= 0.05",
        "mark shown": "<= 0.05",
        "nearest in colours": f"<= {chance:g}",
        "likeliest by attributes": f"<= {2 * chance:g}",
    }
    return _row("constant grey", measured, bars)


def of_floor(name: str, measured: Measured) -> list[Finding]:
    """Any other row: reported, not promised."""
    return _row(name, measured, {})


def of_more_views(name: str, few: Measured, many: Measured, at_once: int) -> Finding:
    """What more views at once than in training cost: the same views of the same people, all drawn at once (``many``)
    and ``at_once`` at a time (``few``)."""
    claim = f"{name}: PSNR inside the outline lost by {many.views} views at once against {at_once} at a time"
    return Finding(claim, few.inside - many.inside, "dB", "<= 1")


def of_normals(pose: Sequence[float], coarse: Sequence[float]) -> list[Finding]:
    """Coarse normals beside pose alone, at equal steps: PSNR inside the outline, in dB, a number per seed.

    Raises:
        RequestError: not the same number of seeds, or fewer than two.
    """
    if len(pose) != len(coarse) or len(pose) < 2:
        raise RequestError(f"gaps are taken over the same two seeds or more, not {len(pose)} and {len(coarse)}")
    gaps = [b - a for a, b in zip(pose, coarse, strict=True)]
    told = f"coarse normals above pose alone, {len(gaps)} seeds"
    theirs = PAPER["coarse normals"] - PAPER["pose"]
    return [
        Finding(f"{told}: mean gap", mean(gaps), "dB", ">= 0"),
        Finding(f"{told}: standard deviation of the gap", stdev(gaps), "dB"),
        Finding("normals above pose in GAF's table 4, real heads", theirs, "dB"),
    ]


def of_volumes(name: str, drawn: Sequence[tuple[float, float]], true: Sequence[tuple[float, float]]) -> list[Finding]:
    """Volumes fitted to drawn and to true views of the same people: (whole, inside) PSNR of `trial.rebuilt` each."""
    found = []
    for what, part in (("whole frame", 0), ("inside the outline", 1)):
        for whose, rows in ((name, drawn), ("true views", true)):
            claim = f"a volume fitted to {whose}, seen from between: PSNR, {what}"
            found.append(Finding(claim, mean(row[part] for row in rows), f"dB, {len(rows)} people"))
    return found


def _row(name: str, row: Measured, bars: Mapping[str, str]) -> list[Finding]:
    every = f"{row.people} people x {row.views} views"
    shown, right, astray = row.marks.shares
    values: list[tuple[str, float, str]] = [
        ("PSNR inside the outline", row.inside, f"dB, {every}"),
        ("PSNR, whole frame", row.psnr, f"dB, {every}"),
        ("SSIM", row.ssim, every),
        ("overlap of outlines", row.overlap, f"share, {every}"),
        ("warp error between views", row.warp.error, "colour difference"),
        ("warp error by chance", row.ratio, "times"),
        ("warp error against the truth", row.warp.astray, "colour difference"),
        ("distance to epipolar lines", row.lines.distance, "pixels of 64"),
        ("landmarks near their lines", row.lines.near, f"share of {row.lines.points}"),
        ("mark shown", shown, f"share of {row.marks.visible}"),
        ("mark on the right side", right, f"share of {row.marks.drawn}"),
        ("mark on the bare cheek", astray, f"share of {row.marks.bare}"),
        ("nearest in colours", row.nearest, f"share of {row.people}"),
    ]
    if row.scores is not None and row.recognised is not None:
        values.append(("attributes seen", row.scores.overall, f"share of {sum(row.scores.total.values())}"))
        values.append(("likeliest by attributes", row.recognised, f"share of {row.people}"))
    return [Finding(f"{name}: {what}", value, unit, bars.get(what)) for what, value, unit in values]
