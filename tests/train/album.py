"""A small folder of pictures with captions, and trainings on it that take moments."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from safelight.generate.pipe import Pipe, load
from safelight.train import checkpoint
from safelight.train.own import plan as plans
from safelight.train.own.course import Course, entries_of
from safelight.train.run import Clock
from tests.models import tiny

SIZES = ((32, 32), (40, 40), (64, 20), (20, 64))
FIT = ("steps=4", "batch=2", "lr=0.01", "warmup=1", "decay=constant", "save_every=2", "log_every=1")
OWN = {
    "lora": ("lora.rank=2", "lora.alpha=1.0"),
    "controlnet": ("controlnet.widths=[4, 8, 8]",),
    "ip-adapter": ("ip_adapter.edge=32", "ip_adapter.patch=8", "ip_adapter.width=16", "ip_adapter.layers=2"),
    "textual-inversion": ("textual_inversion.word=<mira>", "textual_inversion.vectors=2", "data.trigger=<mira>"),
}


def write_pictures(folder: Path, sizes: Sequence[tuple[int, int]] = SIZES) -> Path:
    """Pictures of these sizes that depend on nothing but their number, each with a caption and a control."""
    (folder / "control").mkdir(parents=True)
    for number, size in enumerate(sizes):
        rng = np.random.default_rng(number)
        for name in (f"{number}.png", f"control/{number}.png"):
            pixels = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
            Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC).save(folder / name)
        (folder / f"{number}.txt").write_text(f"a person with {('green', 'red')[number % 2]} hair\n", "utf-8")
    return folder


def pipe(kind: str = "sd1") -> Pipe:
    """A tiny model to teach; a new one each time, since teaching changes it."""
    return load(str(tiny(kind)), device="cpu", dtype="float32", threads=1)


def course(what: str, run: Path, pictures: Path, *changes: str, kind: str = "sd1") -> Course:
    """A small training."""
    plan = plans.read(what, None, [*(f"fit.{change}" for change in FIT), *OWN[what], *changes])
    return Course(run, pipe(kind), plan, entries_of(what, pictures, None, plan))


def learn(what: str, run: Path, pictures: Path, *changes: str, kind: str = "sd1") -> dict[str, Tensor]:
    """Learn to the end, or go on; all tensors of the last checkpoint."""
    for _ in course(what, run, pictures, *changes, kind=kind).learn(Clock(None)):
        pass
    found = checkpoint.latest(run / "checkpoints")
    assert found is not None
    return {name: tensor.clone() for name, tensor in found.tensors.items()}


if __name__ == "__main__":
    learn(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), "fit.steps=100000", "fit.save_every=1")
