"""What a row of the table of samplers says: what a name computes, what is known of it, and what others call it.

Names are compatibility, functions are mathematics: several rows may be one function with other options.
``order`` is the order to which a whole run converges (for stochastic rows: of mean and variance), ``rule_order``
that of one step with an exact history; the first step or the last may make the run's lower.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from safelight.errors import RequestError, UnknownNameError

if TYPE_CHECKING:
    from torch import Tensor

    from safelight.core.path import Level, Path
    from safelight.core.run import Noise, Run

Option = float | str
Options = Mapping[str, Option]


RANGES: dict[str, tuple[float, float]] = {
    "atol": (1e-9, 1.0),
    "boundary": (0.0, 1e6),
    "eta": (0.0, 10.0),
    "gamma": (-10.0, 10.0),
    "order": (1.0, 4.0),
    "r": (0.01, 1.0),
    "rtol": (1e-9, 1.0),
    "s_churn": (0.0, math.inf),
    "s_noise": (0.0, 10.0),
    "s_tmax": (0.0, math.inf),
    "s_tmin": (0.0, math.inf),
}
"""From where to where an option that is a number may go; far beyond what draws anything."""
WHOLE = frozenset({"order"})
"""Options that are whole numbers."""
DRIVEN = {"s_noise": ("eta", "s_churn"), "s_tmin": ("s_churn",), "s_tmax": ("s_churn",), "window": ("eta",)}
"""Options that only change what one of others does."""


def once(levels: Sequence[Level], path: Path) -> int:
    """One evaluation per step."""
    return len(levels) - 1


@dataclass(frozen=True)
class Names:
    """What other programs call a sampler; several spellings of one program may mean the same."""

    a1111: tuple[str, ...] = ()
    comfyui: tuple[str, ...] = ()
    diffusers: tuple[str, ...] = ()
    k_diffusion: tuple[str, ...] = ()
    sd_cpp: tuple[str, ...] = ()

    @property
    def all(self) -> tuple[str, ...]:
        """Every spelling, without the program that it comes from."""
        spelled = (*self.a1111, *self.comfyui, *self.diffusers, *self.k_diffusion, *self.sd_cpp)
        return tuple(dict.fromkeys(spelled))


@dataclass(frozen=True)
class Sampler:
    """One row of the table.

    Attributes:
        name: in our own spelling.
        function: (x, levels, noise, *, path, **options) -> Run.
        order, rule_order: see the module.
        options: every option that the function takes, with this row's value.
        stochastic: whether it draws noise with these options.
        evaluations: (levels, path) -> how often the network is asked; None where only the run can tell.
        paper: where it comes from.
        names: what other programs call it.
        noise: ``fresh`` draws anew for every step; ``path`` reads one path per picture, so that more steps come closer
            to one picture, and so that overlapping intervals share their noise (see ``core/noise.py``).
        uncond: whether it needs the unguided answer beside the guided one.
        instead: the row of the correct mathematics, where this one reproduces a known error of other programs.
    """

    name: str
    function: Callable[..., Run]
    order: int
    rule_order: int
    paper: str
    options: Options = field(default_factory=dict)
    stochastic: bool = False
    evaluations: Callable[[Sequence[Level], Path], int | None] = once
    names: Names = Names()
    noise: str = "fresh"
    uncond: bool = False
    instead: str = ""

    @property
    def aliases(self) -> tuple[str, ...]:
        """Every name but our own."""
        return tuple(name for name in self.names.all if name != self.name)

    def bind(self, path: Path, options: Options | None = None) -> Bound:
        """This sampler on a path, with some options changed.

        Raises:
            UnknownNameError: an option that the sampler does not have. RequestError: a number out of its range.
        """
        for name, value in (options or {}).items():
            if name not in self.options:
                raise UnknownNameError(f"option of {self.name}", name, self.options)
            if isinstance(self.options[name], str):
                continue  # a word, which the function knows or refuses
            if isinstance(value, str):
                raise RequestError(f"option {name} of {self.name} is a number, not {value!r}")
            low, high = RANGES[name]
            if not low <= value <= high:
                raise RequestError(f"option {name} of {self.name} must lie between {low:g} and {high:g}, not {value:g}")
            if name in WHOLE and value != int(value):
                raise RequestError(f"option {name} of {self.name} is a whole number, not {value:g}")
        whole = {**self.options, **(options or {})}
        whole.update({name: int(whole[name]) for name in WHOLE & whole.keys()})
        if "s_tmin" in whole and float(whole["s_tmin"]) > float(whole["s_tmax"]):
            raise RequestError(f"option s_tmin of {self.name} is above s_tmax, so nothing lies between them")
        return Bound(self, path, whole)

    def idle(self, options: Options) -> str | None:
        """The first of these changes that cannot do anything, with the others as they are, or None."""
        whole = {**self.options, **options}
        for name, drivers in DRIVEN.items():
            drivers = tuple(driver for driver in drivers if driver in whole)
            if name in options and options[name] != self.options[name] and not any(whole[each] for each in drivers):
                return f"option {name} of {self.name} does nothing at {drivers[0]} 0; raise that or leave it out"
        return None


@dataclass(frozen=True)
class Bound:
    """A sampler with its path and options: a ``Solver``."""

    sampler: Sampler
    path: Path
    options: Options

    def __call__(self, x: Tensor, levels: Sequence[Level], noise: Noise) -> Run:
        """Start a run from x at levels[0]."""
        return self.sampler.function(x, levels, noise, path=self.path, **self.options)

    @property
    def uncond(self) -> bool:
        """Whether a run needs the unguided answer beside the guided one."""
        return self.sampler.uncond

    def evaluations(self, levels: Sequence[Level]) -> int | None:
        """How often a run over these levels asks the network; None where only the run can tell."""
        return self.sampler.evaluations(levels, self.path)
