"""The plan of the default model, made so small that all its stages run in seconds."""

from __future__ import annotations

import sys
from multiprocessing import current_process
from pathlib import Path

from safelight.train.figurines import plan, stages
from safelight.train.figurines.plan import Plan
from safelight.train.run import Clock
from safelight.weights.hash import sha256

FITS = ("words_fit", "vae_fit", "decoder_fit", "unet_fit")
FIT = ("steps=2", "batch=4", "warmup=1", "decay=constant", "log_every=1", "save_every=2", "precision=fp32")
SHAPES = (
    *("data.count=8", "data.size=32", "data.workers=1"),
    *("words.width=16", "words.layers=1", "words.heads=2"),
    *("vae.channels=[8, 8, 16]", "vae.groups=4", "vae.crop=16"),
    *("unet.channels=[8, 16]", "unet.heads=[2]", "unet.groups=4", "unet_fit.sample_every=0"),
)
FOREVER = ("words_fit.steps=100000", "words_fit.save_every=1")


def tiny(*changes: str) -> Plan:
    """The small plan, with further changes."""
    return plan.read(None, [*(f"{name}.{change}" for name in FITS for change in FIT), *SHAPES, *changes])


def finish(run: Path, small: Plan) -> None:
    """All stages in order."""
    clock = Clock(None)
    for stage in (
        stages.render(run, small),
        stages.learn_words(run, small, clock),
        stages.learn_vae(run, small, clock),
        stages.learn_decoder(run, small, clock),
        stages.learn_unet(run, small, clock, "cpu"),
    ):
        for _ in stage:
            pass


def average(run: Path, part: str) -> str:
    """The hash of a network's averaged weights."""
    return sha256(run / part / "average.safetensors")


def kind_of_process() -> str:
    """How the process that this runs in was started."""
    return type(current_process()).__name__


if __name__ == "__main__":
    for _ in stages.learn_words(Path(sys.argv[1]), tiny(*FOREVER), Clock(None)):
        pass
