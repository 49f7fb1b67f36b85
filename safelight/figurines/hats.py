"""Hats: closed from every side, all sitting at the same brim."""

from __future__ import annotations

import numpy as np

from safelight.figurines.build import Build
from safelight.figurines.palette import HAT, INK, WHITE, darker
from safelight.figurines.person import Person
from safelight.figurines.shapes import Decal, Shape, Vector, ball, frustum


def hat(person: Person, build: Build) -> list[Shape]:
    """The solids of a person's hat; none for a bare head."""
    if person.hat == "none":
        return []
    make = {"beanie": _beanie, "top hat": _top_hat, "crown": _crown, "party hat": _party_hat}[person.hat]
    return make(build, HAT[person.hat_color])


def _beanie(build: Build, color: Vector) -> list[Shape]:
    low, high = build.brim - 0.07, build.brim + 0.15
    wide = 1.12 * build.across(low)
    ratio = (build.y / build.x) * 1.03
    ribs = Decal(lambda p: np.mod(np.arctan2(p[:, 0], -p[:, 1]) * 3.5, 1.0) < 0.25, darker(color, 0.70), "hat")
    dome = (build.x * 1.13, build.y * 1.14, build.z * 1.16)
    return [
        ball((0, 0, 0.02), dome, color, "hat", keep=lambda p: p[:, 2] > high),
        frustum((0, 0, low), (0, 0, high), (wide, wide * ratio), darker(color, 0.86), "hat", decals=[ribs]),
        ball((0, 0, 1.16 * build.z + 0.12), (0.20, 0.20, 0.19), WHITE, "hat"),
    ]


def _top_hat(build: Build, color: Vector) -> list[Shape]:
    low = build.brim
    wide = build.across(low) * 1.04
    deep = wide * build.y / build.x * 1.02
    top = min(build.z + 0.60, 1.48)
    band = Decal(lambda p: p[:, 2] < low + 0.24, INK, "hat")
    return [
        frustum((0, 0, low - 0.04), (0, 0, low + 0.04), (wide + 0.36, deep + 0.36), color, "hat"),
        frustum((0, 0, low), (0, 0, top), (wide, deep), color, "hat", taper=0.06, decals=[band]),
    ]


def _crown(build: Build, color: Vector) -> list[Shape]:
    low = build.brim - 0.02
    wide = build.across(low) * 1.08
    deep = wide * build.y / build.x * 1.04
    high = build.z + 0.42

    def turns(p: np.ndarray) -> np.ndarray:
        return np.mod(np.arctan2(p[:, 0], -p[:, 1]) * (8 / (2 * np.pi)), 1.0)

    def points(p: np.ndarray) -> np.ndarray:
        return p[:, 2] < high - 0.40 + 0.78 * np.abs(turns(p) - 0.5)

    def gems(p: np.ndarray) -> np.ndarray:
        return (np.abs(turns(p) - 0.5) < 0.17) & (np.abs(p[:, 2] - low - 0.18) < 0.075)

    jewels = [Decal(gems, WHITE, "hat")]
    lining = (build.x * 1.04, build.y * 1.05, build.z * 1.06)
    return [
        frustum((0, 0, low), (0, 0, high), (wide, deep), color, "hat", taper=0.12, keep=points, decals=jewels),
        ball((0, 0, 0), lining, darker(color, 0.62), "hat", keep=lambda p: p[:, 2] > low),
    ]


def _party_hat(build: Build, color: Vector) -> list[Shape]:
    low, tip = build.brim, min(build.z + 0.64, 1.44)
    wide = build.across(low) * 1.02
    deep = wide * build.y / build.x * 1.02

    def dots(p: np.ndarray) -> np.ndarray:
        return np.mod((p[:, 2] - low) / 0.34 + np.arctan2(p[:, 0], -p[:, 1]) / (2 * np.pi), 1.0) < 0.34

    return [
        frustum((0, 0, low), (0, 0, tip), (wide, deep), color, "hat", taper=-0.94, decals=[Decal(dots, WHITE, "hat")]),
        ball((0, 0, tip), (0.15, 0.15, 0.15), WHITE, "hat"),
    ]
