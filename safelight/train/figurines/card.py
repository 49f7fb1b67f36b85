"""What people should know of a model of ours, before they trust it: read from the run that made it."""

from __future__ import annotations

import platform
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from safelight.figurines.attributes import ATTRIBUTES
from safelight.train.figurines.plan import Plan
from safelight.train.journal import read

STAGES = ("text", "vae", "decoder", "unet")


def card(run: Path, plan: Plan) -> dict[str, Any]:
    """The card of a run: what was learned from what, for how long, on what machine, and where it ends.

    Scores are added by ``safelight evaluate figurines --card``, since a run does not judge itself.
    """
    learned = {stage: history(run / stage / "log.jsonl") for stage in STAGES}
    return {
        "what": "draws people of the toy world from plain English, 128x128; a Stable Diffusion in small",
        "data": f"{plan.data.count} portraits rendered by safelight.figurines (split train, seed {plan.data.seed}), "
        f"{len(ATTRIBUTES)} attributes, captions drawn anew in every step; no photographs, no people",
        "licence": "Apache-2.0, weights and data",
        "training": {
            stage: f"{steps} steps, {hours:.2f} hours" for stage, (steps, hours) in learned.items() if steps
        },
        "machine": machine(),
        "limits": "knows only the words of its captions ('safelight generate' names the others); one person, from the "
        "front, on one plain background",
    }


def machine() -> str:
    """What this machine computes with, in words."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"{platform.machine()}, {torch.get_num_threads()} threads"


def history(log: Path) -> tuple[int, float]:
    """Steps that a log tells of, and the hours they took; (0, 0) without a log.

    A log holds every tenth step or so: each line stands for those since the line before it.
    """
    if not log.exists():
        return 0, 0.0
    lines = read(log)
    seconds = sum(b["seconds"] * (b["step"] - a["step"]) for a, b in pairwise([{"step": 0}, *lines]))
    return (lines[-1]["step"] if lines else 0), seconds / 3600
