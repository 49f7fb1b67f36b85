"""``python -m tests.laws.evidence``: measures the order of every sampler, and writes it down.

The claims go to ``evidence/samplers.json``, the errors of all samplers that solve the ODE to
``evidence/samplers-orders.png``: evaluations across, the largest error on the mixture up, both logarithmic.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from safelight.core.samplers.table import SAMPLERS
from safelight.evaluate.chart import Axis, Line, chart
from safelight.evaluate.evidence import Finding, claim, record
from safelight.evaluate.origin import origin
from safelight.train.journal import save_png
from tests.laws.exempt import EXEMPT, rows
from tests.laws.measure import VE_PATH, local_errors, ode_errors, spread_errors
from tests.laws.world import geometric, slopes

ROOT = Path(__file__).resolve().parents[2]
COMMAND = "python -m tests.laws.evidence"
STEPS = (8, 16, 32, 64, 128, 256)
SHOWN = ("euler", "dpmpp_2m", "adams3_corrected", "heun", "dpm_solver_3", "unipc")
"""One of each kind: with all fifty a chart shows nothing."""
FARTHEST = "<= 0.3"
"""How far a measured order may lie from the declared one, as the laws have it."""


def findings(name: str) -> Iterator[Finding]:
    """What is measured of one row: orders, and errors where a number says more."""
    row = SAMPLERS[name]
    if ("order", name) not in EXEMPT:
        errors = ode_errors(name, (64, 128))
        yield shortfall(f"{name}, the ODE", slopes(errors)[0], row.order)
        yield Finding(f"{name}, the ODE: largest error with 128 steps", errors[-1], "of data of size 1")
    if ("local order", name) not in EXEMPT:
        yield shortfall(f"{name}, one step", slopes(local_errors(name))[-1], row.rule_order + 1)
    if ("spread", name) not in EXEMPT:
        yield shortfall(f"{name}, mean and variance", slopes(spread_errors(name, (64, 128)))[0], row.order)


def shortfall(what: str, measured: float, declared: float) -> Finding:
    """How much a measured order lacks of the declared one; faster is no failure."""
    return Finding(f"{what}: order {declared:g} declared, missed by", max(0.0, declared - measured), "orders", FARTHEST)


def line(name: str) -> Line:
    """Error against evaluations."""
    spent = [SAMPLERS[name].evaluations(geometric(20.0, 0.1, n), VE_PATH) or n for n in STEPS]
    return Line(name, list(zip(map(float, spent), ode_errors(name, STEPS), strict=True)))


def main(names: Sequence[str]) -> None:
    """Measure, write and print."""
    source = origin(COMMAND)
    found = [claim(finding, source) for name in names for finding in findings(name)]
    record(ROOT / "evidence/samplers.json", found)
    page = chart([line(name) for name in SHOWN], Axis("evaluations", True), Axis("largest error", True), (640, 480))
    save_png(page, ROOT / "evidence/samplers-orders.png")
    failed = [entry.claim for entry in found if entry.holds is False]
    exempt = sum(len(names) - len(rows(law, list(names))) for law in ("order", "local order", "spread"))
    print(f"{len(found)} figures of {len(names)} samplers; {exempt} exempt; do not hold: {', '.join(failed) or 'none'}")


if __name__ == "__main__":
    main(sorted(SAMPLERS))
