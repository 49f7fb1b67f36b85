"""Measures what it does to views who reads whom, and what a network is told of cameras: small models, equal steps.

``python -m benchmarks.view_ablation RUN`` renders people at 32 x 32 from cameras that do not have the figure in the
middle, teaches an autoencoder and a U-Net of single views that is told nothing and reads no portrait (it draws anybody,
as the models do that such networks begin from), and from that one teaches every row of `CELLS` for as many steps, with
each of the seeds. Every model is judged on held-out people. What is done is kept in RUN, so that a run that is stopped
goes on; the figures go into ``evidence/views-ablation.json``. The first two rows (what are normals worth?) are
taught with ``--seeds`` seeds, the others with ``--others``.

Source: the rows of Tang et al. 2412.10209, table 4 (what is told), and Shi et al. 2308.16512, section 3.1 (layouts);
as in all of these, single views are learned first and the layout is switched on after.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import torch

from safelight.core.camera import Camera
from safelight.evaluate.evidence import Finding, claim, record
from safelight.evaluate.origin import checkout, origin
from safelight.evaluate.views import baselines, report, trial
from safelight.evaluate.views.drawn import Settings, contact_sheet, drawn
from safelight.figurines.render import view_camera
from safelight.multiview.model import load
from safelight.runtime.device import pick
from safelight.train.figurines.finished import AVERAGE
from safelight.train.run import Clock, Progress
from safelight.train.views import stages
from safelight.train.views.export import export
from safelight.train.views.plan import Plan
from safelight.train.views.plan import read as plan_of
from safelight.weights.save import make_folder, write

SIZE, ASIDE, STEPS = 32, 0.4, 1200
SHAPE: Final = (
    f"data.size={SIZE}",
    f"data.aside={ASIDE}",
    "data.people=1500",
    "vae.channels=[16, 48, 96]",
    f"vae.crop={SIZE}",
    "vae_fit.steps=1500",
    "vae_fit.precision=fp32",
    "views.channels=[48, 96]",
    "views.attended=[0, 1]",
    "views.heads=[4]",
    "views.detail=0",
    "views.normals=false",
    "views.bare=0.1",
    "views_fit.batch=24",
    "views_fit.warmup=50",
    "views_fit.precision=fp32",
    "views_fit.sample_every=0",
)
"""Of all: the plan of ``safelight train figurines-views``, smaller."""
FIRST: Final = ("views.layout=self", "views.camera=", "views.counts=[1]", "views_fit.steps=2500")
"""What all begin with: single views, of which the network is told nothing."""
CELLS: Final[Mapping[str, tuple[str, ...]]] = {
    "dense, told pose": ("views.layout=dense",),
    "dense, told coarse normals and pose": ("views.layout=dense", "views.normals=true"),
    "same pixel, told pose": ("views.layout=same-pixel",),
    "front and self, told pose": ("views.layout=front-self",),
    "rows, told pose": ("views.layout=rows",),
    "dense, told rays": ("views.layout=dense", "views.camera=plucker"),
    "dense, told coarse normals": ("views.layout=dense", "views.camera=", "views.normals=true"),
}
"""Name -> what it has of its own. "Pose" is the flattened matrix, "rays" are Plücker maps."""
PLACES: Final = ((22.5, 0.0, 0.3, 0.1), (112.5, 20.0, -0.3, -0.1), (202.5, 0.0, -0.2, 0.2), (292.5, 20.0, 0.2, -0.2))
"""Of the cameras that judge: azimuth, elevation in degrees, and how far aside."""
PEOPLE, DRAWN_IN, AVERAGED = 48, 10, 100
Said = Callable[[str], None]


@dataclass(frozen=True)
class Score:
    """One model, judged: PSNR in dB inside the outline and of the frame, overlap of outlines, warp error by chance."""

    inside: float
    frame: float
    overlap: float
    warp: float


def base(run: Path, say: Said) -> Plan:
    """Scenes, the autoencoder, and the U-Net that all begin with, in ``run / "base"``."""
    plan, place = plan_of(None, (*SHAPE, *FIRST)), run / "base"
    make_folder(place)
    _end(stages.render(place, plan), say)
    _end(stages.learn_vae(place, plan, Clock(None)), say)
    _end(stages.learn_views(place, plan, Clock(None)), say)
    return plan


def taught(run: Path, name: str, seed: int, steps: int, say: Said) -> Path:
    """One model, begun from the base; its published folder."""
    changes = (*SHAPE, "views.single=0", *CELLS[name], f"views_fit.seed={seed}", f"views_fit.steps={steps}")
    plan, place = plan_of(None, changes), run / f"{name.replace(', ', '-').replace(' ', '-')}-{seed}"
    make_folder(place)
    for part in ("data", "vae"):
        if not (place / part).exists():
            (place / part).symlink_to((run / "base" / part).resolve())
    start = run / "base" / "views" / AVERAGE
    _end(stages.learn_views(place, plan, Clock(None), start=start), lambda text: say(f"{name}, seed {seed}: {text}"))
    return export(place, plan, place / "model", {"what": f"a row of the ablation: {name}"})


def cameras() -> Camera:
    """Those that judge: [V]."""
    azimuths, elevations, right, up = torch.tensor(PLACES).unbind(-1)
    return view_camera(azimuths, elevations, SIZE, (right, up))


def judged(folder: Path, exam: trial.Exam, place: Path) -> Score:
    """A model on the people of the exam; writes ``sheet.png`` beside it."""
    views = drawn(load(folder, pick("cpu")), exam.truths, Settings(steps=DRAWN_IN), _silent)
    contact_sheet(exam.truths, views).save(place / "sheet.png")
    return _score(trial.measure(views, exam, 1, _silent))


def findings(scores: Mapping[str, list[Score]], floors: Mapping[str, Score]) -> list[Finding]:
    """Means over seeds, with their spread, beside what is worth nothing."""
    found = []
    for name, rows in scores.items():
        seeds = f"{len(rows)} seeds" if len(rows) > 1 else "1 seed"
        for what, unit in (("inside", "dB"), ("frame", "dB"), ("overlap", "share"), ("warp", "times chance")):
            values = [getattr(row, what) for row in rows]
            found.append(Finding(f"{name}: {TOLD[what]}", statistics.mean(values), f"{unit}, mean of {seeds}"))
            if len(rows) > 1:
                spread = statistics.stdev(values)
                found.append(Finding(f"{name}: {TOLD[what]}, standard deviation", spread, f"{unit}, {seeds}"))
    for name, row in floors.items():
        found += [Finding(f"{name}: {TOLD[what]}", value, "") for what, value in asdict(row).items()]
    pose, both = ([row.inside for row in scores.get(name, [])] for name in list(CELLS)[:2])
    shared = min(len(pose), len(both))
    return found + (report.of_normals(pose[:shared], both[:shared]) if shared > 1 else [])


TOLD: Final = {
    "inside": "PSNR inside the outline",
    "frame": "PSNR, whole frame",
    "overlap": "overlap of outlines",
    "warp": "warp error by chance",
}


def _score(measured: trial.Measured) -> Score:
    return Score(measured.inside, measured.psnr, measured.overlap, measured.ratio)


def _end(stage: Iterator[Progress], say: Said) -> None:
    for at in stage:
        if at.done % 100 == 0 or at.done == at.total:
            say(f"{at.stage} {at.done}/{at.total} {at.note}")


def _silent(*_: Any) -> None:
    pass


def main() -> None:
    """Teach, judge, record, say."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--others", type=int, default=1, help="seeds of the rows after the first two")
    parser.add_argument("--steps", type=int, default=STEPS, help="of every row, after the base")
    args = parser.parse_args()
    torch.set_num_threads(1)
    asked = f"RUN --seeds {args.seeds} --others {args.others} --steps {args.steps}"
    source = origin(f"python -m benchmarks.view_ablation {asked}")
    base(args.run, _say)
    exam = trial.exam(PEOPLE, cameras(), _silent, asked=False)
    averaged = baselines.mean(exam.cameras, AVERAGED)
    rows = baselines.rows(exam.truths, averaged)
    floors = {name: _score(trial.measure(rows[name], exam, 1, _silent)) for name in report.FLOORS}
    kept = args.run / "scores.json"
    known: dict[str, dict[str, float]] = json.loads(kept.read_text("utf-8")) if kept.exists() else {}
    scores: dict[str, list[Score]] = {}
    for seed in range(max(args.seeds, args.others)):
        for name in list(CELLS)[: None if seed < args.others else 2]:
            key = f"{name}, seed {seed}, {args.steps} steps"
            if key not in known:
                folder = taught(args.run, name, seed, args.steps, _say)
                known[key] = asdict(judged(folder, exam, folder.parent))
                write(kept, [json.dumps(known, indent=1).encode()])
            scores.setdefault(name, []).append(Score(**known[key]))
            _say(f"{key}: {known[key]}")
    claims = [claim(finding, source) for finding in findings(scores, floors)]
    root = checkout()
    if root is not None:
        record(root / "evidence/views-ablation.json", claims)
    for each in claims:
        _say(f"{each.claim} {each.value:g} {each.unit}")


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    main()
