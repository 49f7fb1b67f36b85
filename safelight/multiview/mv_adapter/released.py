"""The released checkpoints of MV-Adapter by name, and their network. The facts stand in ``released.toml``."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path as File
from typing import Any, Final

from safelight.core.path import Path
from safelight.core.schedules.transforms import moved
from safelight.errors import UnknownNameError
from safelight.families.sd.model import UNet
from safelight.multiview.mv_adapter.across import across
from safelight.multiview.mv_adapter.file import load_mv_adapter
from safelight.multiview.mv_adapter.network import MvNetwork
from safelight.multiview.mv_adapter.use import AS_TRAINED, Strength

FILE: Final = File(__file__).with_name("released.toml")


@dataclass(frozen=True)
class Released:
    """One checkpoint; every field is explained in ``released.toml``."""

    name: str
    title: str
    source: str
    file: str
    base: str
    refers: bool
    across: str
    maps: str
    rig: str
    size: int
    guidance: float
    steps: int
    prompt: str
    negative: str
    divided: float
    growing: bool
    unconditional: Mapping[str, str]
    background: float
    framed: float
    code: str
    weights: str
    commercial: bool
    verified: str
    unverified: str
    note: str

    def path(self, base: Path) -> Path:
        """The noise path on which it was trained, and is to draw, from its base's."""
        return moved(base, math.sqrt(self.divided), growing=self.growing)

    def load(self, path: File, unet: UNet, strength: Strength = AS_TRAINED, *, pickles: bool = False) -> MvNetwork:
        """Its network over sets of views, from its file and the U-Net of its base, or of a model made of that.

        Raises:
            WeightsError: see `load_mv_adapter`; also a file that reads a reference where this does not, or the
                other way round.
        """
        adapter = load_mv_adapter(path, unet, refers=self.refers, pickles=pickles)
        return MvNetwork(unet, adapter, across(self.across), strength)


def released(name: str) -> Released:
    """The checkpoint of that name; UnknownNameError names the nearest."""
    if name not in every():
        raise UnknownNameError("checkpoint of MV-Adapter", name, every())
    return every()[name]


@cache
def every() -> Mapping[str, Released]:
    """All of them, by name."""
    tables: dict[str, dict[str, Any]] = tomllib.loads(FILE.read_text(encoding="utf-8"))
    shared = tables.pop("all")
    return {name: Released(name=name, **{**shared, **row}) for name, row in tables.items()}
