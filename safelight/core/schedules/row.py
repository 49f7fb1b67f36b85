"""What a row of the table of schedules says, and how its options and the transforms of its levels are settled.

A row's function lays the grid; what is done to the levels afterwards is the same for all (``TRANSFORMS``), and so is
what must hold of the result: exactly n steps, each with less noise than the one before, none above what the network
was trained on. ``sigma`` in an option is the path's clock: sigma / alpha on VP and VE paths, sigma on a flow.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from safelight.core.path import CLEAN, Level, Path
from safelight.core.samplers.row import Names, Option, Options
from safelight.core.schedules import transforms
from safelight.errors import RequestError, UnknownNameError

TRANSFORMS: Options = {"first": 0.0, "last": "clean", "shift": 0.0, "spare": 0.0, "terminal": 0.0}
"""Options that every schedule has, with the values that change nothing.

first: begin at this sigma, for a picture to start from. last: the level at which to stop, ``clean``, ``trained`` (the
cleanest that the network saw) or a sigma. shift: of the whole path; a flow's own is replaced. spare: 1 lays one level
more and leaves the cleanest out, so that the last step is as long as the others. terminal: where a flow's last network
call lies, by stretching all of them.
"""

RANGES: dict[str, tuple[float, float]] = {
    "a": (0.05, 50.0),
    "b": (0.05, 50.0),
    "beta": (0.01, 20.0),
    "first": (0.0, 1e6),
    "linear_steps": (0, 10_000),
    "mu": (-20.0, 20.0),
    "offset": (0, 100_000),
    "original": (1, 100_000),
    "rho": (0.1, 100.0),
    "rounded": (0, 1),
    "shift": (0.0, 1e4),
    "sigma_max": (0.0, 1e6),
    "sigma_min": (0.0, 1e6),
    "spare": (0, 1),
    "terminal": (0.0, 0.999),
    "threshold": (1e-6, 0.999),
}
"""From where to where an option may go; whole numbers where the ends are."""


@dataclass(frozen=True)
class Schedule:
    """One row of the table.

    Attributes:
        name: in our own spelling.
        function: (path, n, **options) -> n + 1 levels, the last one clean.
        source: where the grid comes from.
        options: every option that the function takes, with this row's value; it may set transforms, too.
        names: what other programs call it. diffusers' are flags of its classes, such as ``use_karras_sigmas=True``.
    """

    name: str
    function: Callable[..., list[Level]]
    source: str
    options: Options = field(default_factory=dict)
    names: Names = field(default_factory=Names)

    @property
    def whole(self) -> dict[str, Option]:
        """Every option with its value, those of the transforms included."""
        return {**TRANSFORMS, **self.options}

    def __call__(self, path: Path, n: int, options: Mapping[str, Option] | None = None) -> list[Level]:
        """The n + 1 levels, noisiest first.

        Raises:
            UnknownNameError: an option that the schedule does not have. RequestError: n or an option out of its range,
            or levels that do not lie on the path, one cleaner than the other.
        """
        whole = {**self.whole, **checked(self.name, self.whole, options or {})}
        own = {name: value for name, value in whole.items() if name not in TRANSFORMS}
        spare = bool(whole["spare"])
        levels = self.function(path, n + spare, **own)
        return transformed(path, [*levels[:n], CLEAN] if spare else levels, whole)


def checked(schedule: str, known: Options, options: Mapping[str, Option]) -> dict[str, Option]:
    """The options as numbers where numbers are meant.

    Args:
        schedule: for errors. known: every option with its value. options: those that were asked for.

    Raises:
        UnknownNameError: not one of the known. RequestError: no number, or one out of its range.
    """
    taken: dict[str, Option] = {}
    for name, value in options.items():
        if name not in known:
            raise UnknownNameError(f"option of schedule {schedule}", name, known)
        if isinstance(known[name], str):
            taken[name] = value
            continue
        number, (low, high) = _number(value), RANGES[name]
        whole = isinstance(low, int)
        if not low <= number <= high or (whole and number != int(number)):
            kind = "a whole number" if whole else "a number"
            raise RequestError(
                f"option {name} of schedule {schedule} must be {kind} from {low:g} to {high:g}, not {value!r}"
            )
        taken[name] = number
    return taken


def _number(value: Option) -> float:
    try:
        return float(value)
    except ValueError:
        return math.nan


def transformed(path: Path, levels: Sequence[Level], options: Mapping[str, Option]) -> list[Level]:
    """The levels after what TRANSFORMS asks for (but spare, which lays the grid), each checked by ``falling``.

    Raises:
        RequestError: a transform that this path or this list does not allow.
    """
    done = list(levels)
    if shift := float(options["shift"]):
        done = transforms.shifted_to(path, done, shift)
    if terminal := float(options["terminal"]):
        done = transforms.stretch_terminal(path, done, terminal)
    if options["last"] != "clean":
        done = transforms.keep_noise(done, _last(path, options["last"]))
    if first := float(options["first"]):
        done = transforms.start_at(done, path.at_clock(first))
    return falling(path, done)


def _last(path: Path, value: Option) -> Level:
    if value == "trained":
        return path.ends[1]
    sigma = _number(value)
    if not 0.0 < sigma < math.inf:
        raise RequestError(f"option last is clean, trained or a sigma above 0, not {value!r}")
    return path.at_clock(sigma)


def falling(path: Path, levels: Iterable[Level]) -> list[Level]:
    """The levels as a list, if a sampler can walk along it.

    Raises:
        RequestError: fewer than two levels, one that is no number, one that is not cleaner than the one before, or one
            above the noisiest that the network was trained on.
    """
    done = list(levels)
    if len(done) < 2:
        raise RequestError("a schedule needs two levels or more: where to begin and where to end")
    for level in done:
        if not all(math.isfinite(value) for value in level) or min(level.alpha, level.sigma) < 0.0:
            raise RequestError(f"a level of a schedule is made of finite numbers, alpha and sigma not below 0: {level}")
    top = path.ends[0]
    if done[0].lam < top.lam - 1e-9:
        raise RequestError(
            f"the schedule begins at sigma {path.clock(done[0]):.6g}, and the network knows at most "
            f"{path.clock(top):.6g}; begin there or below"
        )
    for place, (above, below) in enumerate(pairwise(done), 1):
        if not above.lam < below.lam:
            raise RequestError(
                f"noise must fall from level to level, but after sigma {path.clock(above):.6g} comes "
                f"{path.clock(below):.6g} (level {place}); order them, take fewer steps or other options"
            )
        if not (above.t > below.t or place == len(done) - 1):
            raise RequestError(
                f"the network calls sigma {path.clock(above):.6g} and {path.clock(below):.6g} by one name "
                f"(t = {above.t:g}); end at {path.clock(path.ends[1]):.6g} or take fewer steps"
            )
    return done
