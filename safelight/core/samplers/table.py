"""The table of samplers: what each name computes, what is known of it, and the names that other programs give it.

Names are compatibility, functions are mathematics: several rows may be one function with other options.
``order`` is the order to which a whole run converges (for stochastic rows: of mean and variance), ``rule_order``
that of one step with an exact history; the first step or the last may make the run's lower.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from safelight.core import schedule
from safelight.core.samplers.ancestral import ancestral
from safelight.core.samplers.karras import euler, heun, heun_evaluations
from safelight.core.samplers.multistep import two_step
from safelight.errors import RequestError, UnknownNameError

if TYPE_CHECKING:
    from torch import Tensor

    from safelight.core.path import Level, Path
    from safelight.core.run import Noise, Run

Option = float | str
Options = Mapping[str, Option]


RANGES: dict[str, tuple[float, float]] = {
    "eta": (0.0, 10.0),
    "s_churn": (0.0, math.inf),
    "s_noise": (0.0, 10.0),
    "s_tmax": (0.0, math.inf),
    "s_tmin": (0.0, math.inf),
}
"""From where to where an option that is a number may go; far beyond what draws anything."""
DRIVEN = {"s_noise": ("eta", "s_churn"), "s_tmin": ("s_churn",), "s_tmax": ("s_churn",)}
"""Options that only change what one of others does."""


def _once(levels: Sequence[Level], path: Path) -> int:
    return len(levels) - 1


@dataclass(frozen=True)
class Sampler:
    """One row of the table.

    Attributes:
        name: in our own spelling.
        function: (x, levels, noise, *, path, **options) -> Run.
        order, rule_order: see the module.
        options: every option that the function takes, with this row's value.
        stochastic: whether it draws noise with these options.
        evaluations: (levels, path) -> how often the network is asked.
        paper: where it comes from.
        aliases: spellings of A1111, ComfyUI, diffusers, k-diffusion and stable-diffusion.cpp.
    """

    name: str
    function: Callable[..., Run]
    order: int
    rule_order: int
    paper: str
    options: Options = field(default_factory=dict)
    stochastic: bool = False
    evaluations: Callable[[Sequence[Level], Path], int] = _once
    aliases: tuple[str, ...] = ()

    def bind(self, path: Path, options: Options | None = None) -> Bound:
        """This sampler on a path, with some options changed.

        Raises:
            UnknownNameError: an option that the sampler does not have. RequestError: a number out of its range.
        """
        for name, value in (options or {}).items():
            if name not in self.options:
                raise UnknownNameError(f"option of {self.name}", name, self.options)
            low, high = RANGES.get(name, (-math.inf, math.inf))
            if not isinstance(value, str) and not low <= value <= high:
                raise RequestError(f"option {name} of {self.name} must lie between {low:g} and {high:g}, not {value:g}")
        whole = {**self.options, **(options or {})}
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

    def evaluations(self, levels: Sequence[Level]) -> int:
        """How often a run over these levels asks the network."""
        return self.sampler.evaluations(levels, self.path)


_CHURN: Options = {"s_churn": 0.0, "s_tmin": 0.0, "s_tmax": float("inf"), "s_noise": 1.0}

_ROWS = (
    Sampler(
        name="ddim",
        function=ancestral,
        order=1,
        rule_order=1,
        paper="Song et al. 2010.02502",
        options={"eta": 0.0, "s_noise": 1.0},
        aliases=("DDIM", "DDIMScheduler", "ddim_trailing"),
    ),
    Sampler(
        name="ddpm",
        function=ancestral,
        order=1,
        rule_order=1,
        paper="Ho et al. 2006.11239",
        options={"eta": 1.0, "s_noise": 1.0},
        stochastic=True,
        aliases=("DDPM", "DDPMScheduler"),
    ),
    Sampler(
        name="dpmpp_2m",
        function=two_step,
        order=2,
        rule_order=2,
        paper="Lu et al. 2211.01095",
        options={"eta": 0.0, "rule": "midpoint", "s_noise": 1.0},
        aliases=("DPM++ 2M", "k_dpmpp_2m", "sample_dpmpp_2m", "DPMSolverMultistepScheduler", "dpm++2m"),
    ),
    Sampler(
        name="dpmpp_2m_sde",
        function=two_step,
        order=2,
        rule_order=2,
        paper="Lu et al. 2211.01095",
        options={"eta": 1.0, "rule": "midpoint", "s_noise": 1.0},
        stochastic=True,
        aliases=("DPM++ 2M SDE", "k_dpmpp_2m_sde", "sample_dpmpp_2m_sde", "dpmpp_2m_sde_gpu", "dpm++2m_sde"),
    ),
    Sampler(
        name="dpmpp_2m_sde_heun",
        function=two_step,
        order=2,
        rule_order=2,
        paper="Lu et al. 2211.01095",
        options={"eta": 1.0, "rule": "heun", "s_noise": 1.0},
        stochastic=True,
        aliases=("DPM++ 2M SDE Heun", "dpmpp_2m_sde_heun_gpu"),
    ),
    Sampler(
        name="euler",
        function=euler,
        order=1,
        rule_order=1,
        paper="Karras et al. 2206.00364",
        options=_CHURN,
        aliases=("Euler", "k_euler", "sample_euler", "EulerDiscreteScheduler", "FlowMatchEulerDiscreteScheduler"),
    ),
    Sampler(
        name="euler_ancestral",
        function=ancestral,
        order=1,
        rule_order=1,
        paper="Crowson, k-diffusion; = DDIM (2010.02502) with eta",
        options={"eta": 1.0, "s_noise": 1.0},
        stochastic=True,
        aliases=(
            "Euler a",
            "Euler ancestral",
            "k_euler_a",
            "k_euler_ancestral",
            "sample_euler_ancestral",
            "EulerAncestralDiscreteScheduler",
        ),
    ),
    Sampler(
        name="heun",
        function=heun,
        order=2,
        rule_order=2,
        paper="Karras et al. 2206.00364",
        options=_CHURN,
        evaluations=heun_evaluations,
        aliases=("Heun", "k_heun", "sample_heun", "HeunDiscreteScheduler", "FlowMatchHeunDiscreteScheduler"),
    ),
)

SAMPLERS: dict[str, Sampler] = {row.name: row for row in _ROWS}


def _plain(name: str) -> str:
    """Letters and digits only, so that spaces, case and underscores do not matter; "++" counts as "pp"."""
    return "".join(c for c in name.lower().replace("++", "pp") if c.isalnum())


_NAMES: dict[str, str] = {_plain(alias): row.name for row in _ROWS for alias in (row.name, *row.aliases)}


def find(name: str) -> Sampler:
    """The row that a name stands for, in any of the spellings known.

    Raises:
        UnknownNameError: no such sampler; lists the nearest.
    """
    row = _NAMES.get(_plain(name))
    if row is None:
        raise UnknownNameError("sampler", name, {spelled for each in _ROWS for spelled in (each.name, *each.aliases)})
    return SAMPLERS[row]


def split(name: str) -> tuple[Sampler, str | None]:
    """A1111's old sampler names in two: "DPM++ 2M SDE Karras" is the sampler "DPM++ 2M SDE" on the schedule "karras".

    Returns:
        The row, and a name of SCHEDULES or None where the name says nothing of a schedule.

    Raises:
        UnknownNameError: no such sampler.
    """
    if _plain(name) in _NAMES:
        return find(name), None
    words = name.replace("_", " ").split()
    for cut in range(1, len(words)):
        head, tail = " ".join(words[:cut]), "_".join(words[cut:]).lower()
        tail = schedule.ALIASES.get(tail, tail)
        if tail in schedule.SCHEDULES and _plain(head) in _NAMES:
            return find(head), tail
    return find(name), None
