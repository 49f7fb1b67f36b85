"""Levels that were published as numbers, stretched to any number of steps, and levels that a user writes down.

The published lists lay n points, the cleanest included; between them log(clock) is linear. Sources: align your steps,
Sabour et al. 2404.14507 (rows and sigmas of its project page, as diffusers has them); GITS, Chen et al. 2405.11326 (the
list in its authors' repository, for CIFAR-10). Other GITS lists were not published by their authors, so none are here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from safelight.core.path import CLEAN, VP, Level, Path
from safelight.core.samplers.row import Names
from safelight.core.schedules.positions import check
from safelight.core.schedules.row import Schedule, falling
from safelight.errors import RequestError, UnknownNameError

AYS_ROWS: dict[str, tuple[int, ...]] = {
    "sd15": (999, 850, 736, 645, 545, 455, 343, 233, 124, 24, 0),
    "sdxl": (999, 845, 730, 587, 443, 310, 193, 116, 53, 13, 0),
}
AYS_SIGMAS: dict[str, tuple[float, ...]] = {
    "svd": (700.0, 54.5, 15.886, 7.977, 4.248, 1.789, 0.981, 0.403, 0.173, 0.034, 0.002),
}
GITS_SIGMAS: dict[str, tuple[float, ...]] = {
    "cifar10": (80.0, 10.9836, 3.8811, 1.584, 0.5666, 0.1698, 0.002),
}
_ROUNDED = 1e-3
"""Published sigmas are rounded: so little above the path's end, relatively, means the end itself."""
_WRITTEN = 0.02
"""Levels that a person writes are rounded: so little beside the path, relatively, means on it."""


def ays(path: Path, n: int, model: str = "") -> list[Level]:
    """Align your steps: levels found for one model; ten steps are the list itself, others are interpolated.

    Args:
        n: 1 to 1000.
        model: sd15, sdxl or svd; there is no default, for a list is worse than none on another model.

    Raises:
        RequestError: no model, a path without the table of 1000 rows (sd15, sdxl), or a path of lesser range (svd).
        UnknownNameError: another model.
    """
    known = sorted([*AYS_ROWS, *AYS_SIGMAS])
    if not model:
        raise RequestError(f"say for which model: option model of schedule ays is one of {', '.join(known)}")
    if model in AYS_SIGMAS:
        return _stretched(path, n, [_at(path, sigma) for sigma in AYS_SIGMAS[model]])
    if model not in AYS_ROWS:
        raise UnknownNameError("model of schedule ays", model, known)
    if not isinstance(path, VP) or path.steps != 1000 or math.isinf(path.clock(path.ends[0])):
        raise RequestError(
            f"the levels of {model} are rows of a table of 1000 that ends above pure noise; this is none"
        )
    return _stretched(path, n, [path.level(k) for k in AYS_ROWS[model]])


def gits_cifar10(path: Path, n: int) -> list[Level]:
    """GITS's levels for CIFAR-10 on EDM's path; six steps are the list itself."""
    return _stretched(path, n, [_at(path, sigma) for sigma in GITS_SIGMAS["cifar10"]])


def _at(path: Path, sigma: float) -> Level:
    """The level at a reading of the clock that was written by hand.

    Raises:
        RequestError: no number, below 0, or above the path's noisiest.
    """
    top = path.ends[0]
    end = path.clock(top)
    if not 0.0 <= sigma <= end * (1.0 + _ROUNDED):
        raise RequestError(f"sigma {sigma:g} is not between 0 and {end:.6g}, the noisiest that the network knows")
    if sigma == 0.0:
        return CLEAN
    return top if sigma >= end else path.at_clock(sigma)


def _stretched(path: Path, n: int, points: Sequence[Level]) -> list[Level]:
    """n of the points, log(clock) linear in their place, and the clean end."""
    check(n, 1000)
    if n == len(points):
        return [*points, CLEAN]
    logs = [math.log(path.clock(level)) for level in points]
    levels = []
    for i in range(n):
        place = i * (len(logs) - 1) / (n - 1) if n > 1 else 0.0
        below = min(int(place), len(logs) - 2)
        part = place - below
        if part == 0.0:
            levels.append(points[below])
        else:
            levels.append(path.at_clock(math.exp(logs[below] + part * (logs[below + 1] - logs[below]))))
    return [*levels, CLEAN]


KINDS = {"sigmas": 1, "timesteps": 1, "levels": 3}
"""Words before the colon of a list, with the numbers that make one level."""


def is_list(text: str) -> bool:
    """Whether a schedule is written out rather than named."""
    return "," in text or ":" in text or text.strip()[:1].isdigit()


def custom(path: Path, text: str) -> list[Level]:
    """The levels that a user wrote down.

        14.6, 7.1, 2.6, 0.5, 0           sigmas, as the path's clock counts them; the last is where it ends, 0 is clean
        sigmas: 14.6, 7.1, 2.6, 0.5, 0   the same
        timesteps: 999, 700, 400, 100    what the network is told, one number for each step; then clean
        levels: 0 1 999, 0.6 0.8 400, 1 0 0    alpha, sigma and t of each, the last being the end

    Raises:
        RequestError: no numbers, or levels that are not on the path or do not fall. UnknownNameError: another word.
    """
    word, colon, rest = text.rpartition(":")
    kind = word.strip().lower() if colon else "sigmas"
    if kind not in KINDS:
        raise UnknownNameError("kind of list", word.strip(), KINDS)
    entries = [_numbers(entry, KINDS[kind]) for entry in rest.split(",")]
    if kind == "levels":
        return falling(path, [_on(path, Level(*entry)) for entry in entries])
    if kind == "timesteps":
        levels = [*(path.level(t) for (t,) in entries), CLEAN]
    else:
        levels = [_at(path, sigma) for (sigma,) in entries]
    return falling(path, levels)


def _on(path: Path, level: Level) -> Level:
    """The level, if it lies on the path, whatever it is called there.

    Raises:
        RequestError: it does not, so the network would be shown a picture of a wrong scale.
    """
    if min(level.alpha, level.sigma) < 0.0:
        return level  # which ``falling`` refuses
    ends = not level.alpha or not level.sigma
    own = path.at(level.lam) if ends or 1e-30 < level.alpha / level.sigma < 1e30 else CLEAN
    pairs = ((level.alpha, own.alpha), (level.sigma, own.sigma))
    if not all(abs(written - right) <= _WRITTEN * right for written, right in pairs):
        raise RequestError(
            f"a level with alpha {level.alpha:g} and sigma {level.sigma:g} does not lie on this network's path; "
            f"with as much noise its alpha is {own.alpha:.4g} and its sigma {own.sigma:.4g}"
        )
    return level


def _numbers(entry: str, count: int) -> list[float]:
    try:
        numbers = [float(word) for word in entry.split()]
    except ValueError:
        numbers = []
    if len(numbers) != count or not all(map(math.isfinite, numbers)):
        each = "a number" if count == 1 else f"{count} numbers"
        raise RequestError(f"{entry.strip()!r} in a list of levels is not {each}; write such as 14.6,7.1,2.6,0.5,0")
    return numbers


def written(levels: Sequence[Level]) -> str:
    """The text from which ``custom`` reads these levels again, to the last bit."""
    return "levels:" + ",".join(f"{level.alpha!r} {level.sigma!r} {level.t!r}" for level in levels)


ROWS = (
    Schedule(
        "ays",
        ays,
        "Sabour et al. 2404.14507",
        {"model": "", "spare": 1.0},
        Names(("Align Your Steps",), ("AlignYourStepsScheduler",), sd_cpp=("ays",)),
    ),
    Schedule("gits_cifar10", gits_cifar10, "Chen et al. 2405.11326", {"spare": 1.0}),
)
"""The rows of this family."""
