"""``safelight doctor``: versions, devices, threads, where files live, and a one-second self-test."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from safelight import __version__

# The first five are needed; the others only for what their names say.
LIBRARIES = {
    "torch": "", "numpy": "", "pillow": "", "tokenizers": "", "rich": "",
    "diffusers": "bench and its references", "transformers": "bench and its references",
}  # fmt: skip
VARIABLES = (
    "SAFELIGHT_DEVICE", "SAFELIGHT_DTYPE", "SAFELIGHT_THREADS", "SAFELIGHT_CACHE", "HF_HOME", "HF_HUB_CACHE",
    "XDG_CACHE_HOME", "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS",
)  # fmt: skip


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of ``doctor``."""
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of lines")


def run(args: argparse.Namespace) -> int:
    """Print what was found; 1 if a check of the self-test failed."""
    found = examine()
    if args.json:
        print(json.dumps(found, indent=2))
    else:
        print("\n".join(lines(found)))
    return 0 if all(check["ok"] for check in found["selftest"]) else 1


def examine() -> dict[str, Any]:
    """Everything that ``doctor`` says, as plain values for JSON."""
    import os
    import platform
    from dataclasses import asdict

    from safelight.runtime.device import describe, devices, pick
    from safelight.runtime.folders import folders
    from safelight.runtime.selftest import selftest

    place = pick()
    return {
        "safelight": __version__,
        "python": f"{platform.python_version()} at {sys.executable}",
        "system": f"{platform.system()} {platform.machine()}",
        "libraries": {name: _version(name) for name in LIBRARIES},
        "devices": [describe(device) for device in devices()],
        "place": str(place),
        "threads": place.threads,
        "folders": {name: str(path) for name, path in asdict(folders()).items()},
        "environment": {name: os.environ[name] for name in VARIABLES if name in os.environ},
        "selftest": [asdict(finding) for finding in selftest(devices())],
    }


def lines(found: dict[str, Any]) -> list[str]:
    """``examine``'s answer for a person."""
    rows = [("safelight", found["safelight"]), ("python", found["python"]), ("system", found["system"])]
    for name, version in found["libraries"].items():
        purpose = f" (only for {LIBRARIES[name]})" if LIBRARIES[name] and version is None else ""
        rows.append((name, version or f"not installed{purpose}"))
    rows += [("device", device) for device in found["devices"]]
    rows.append(("computes on", found["place"]))
    rows += list(found["folders"].items())
    rows += list(found["environment"].items())
    for check in found["selftest"]:
        verdict = "ok" if check["ok"] else "WRONG"
        rows.append((check["name"], f"{verdict} on {check['device']}: {check['detail']} ({check['seconds']:.2f} s)"))
    wrong = sum(not check["ok"] for check in found["selftest"])
    rows.append(("self-test", f"{wrong} wrong: do not trust pictures drawn here" if wrong else "all well"))
    width = max(len(name) for name, _ in rows)
    return [f"{name:<{width}}  {value}" for name, value in rows]


def _version(name: str) -> str | None:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(name)
    except PackageNotFoundError:
        return None
