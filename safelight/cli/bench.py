"""``safelight bench``: measures speed and memory against opponents and prints one JSON line per case."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from pathlib import Path

from safelight.errors import FileError

DEFAULT = "figurines"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of ``bench``."""
    parser.add_argument("cases", nargs="*", metavar="CASE", help="what to measure; all by default (see --list)")
    parser.add_argument("--runs", type=int, metavar="N", help="runs that count, 1 to 1000; by default the case's own")
    parser.add_argument("--list", action="store_true", help="say what can be measured, and measure nothing")
    parser.add_argument(
        "-m",
        "--model",
        metavar="MODEL",
        default=DEFAULT,
        help="the model that is loaded and draws, by name or folder; figures of others are not kept",
    )
    parser.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        help="append the lines to this file; by default a checkout keeps them in benchmarks/results and, where "
        "something is promised, in evidence",
    )


def run(args: argparse.Namespace) -> int:
    """Measure case after case; 1 if a promise was not kept."""
    from safelight.evaluate import bench
    from safelight.evaluate.evidence import claim, record
    from safelight.evaluate.origin import checkout, origin
    from safelight.weights.folder import typed

    cases = [bench.find(name) for name in dict.fromkeys(args.cases)] or list(bench.CASES.values())
    if args.list:
        width = max(len(case.name) for case in cases)
        print("\n".join(f"{case.name:<{width}}  {case.subject}, against {case.opponent}" for case in cases))
        return 0
    output = typed(args.output) if args.output else None
    if output and (output.is_dir() or not output.parent.is_dir()):
        raise FileError(f"{output}: cannot be written; choose another place with -o")
    root = None if args.output or args.model != DEFAULT else checkout()
    claims = []
    try:
        for case in cases:
            runs = case.runs if args.runs is None else args.runs
            source = origin(_command(case.name, runs, args.model))
            line, findings = bench.measure(case, runs, args.model, source)
            text = json.dumps(vars(line), ensure_ascii=False)
            print(text, flush=True)
            if root:
                _append(root / "benchmarks/results" / f"{case.name}.jsonl", text)
            if output:
                _append(output, text)
            claims += [claim(finding, source) for finding in findings]
    finally:  # what was measured is kept where a later case fails; not earlier: writing loads torch (see `record`)
        if root and claims:
            record(root / "evidence/speed.json", claims)
    for entry in claims:
        verdict = "holds" if entry.holds else "DOES NOT HOLD"
        print(f"{entry.claim} {entry.value:g} {entry.unit} ({entry.bar}): {verdict}", file=sys.stderr)
    return 0 if all(entry.holds for entry in claims) else 1


def _command(case: str, runs: int, model: str) -> str:
    words = ["safelight", "bench", case, "--runs", str(runs)]
    return shlex.join(words if model == DEFAULT else [*words, "-m", Path(model).name])


def _append(place: Path, text: str) -> None:
    try:
        with place.open("a", encoding="utf-8") as file:
            file.write(text + "\n")
    except OSError as error:
        raise FileError(f"{place}: cannot be written ({error.strerror or error}); choose another place") from None
