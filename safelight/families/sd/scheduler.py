"""Reads a released ``scheduler_config.json``: the path, what the network predicts, and the levels it is meant to visit.

The file names a class of diffusers; what matters in it are facts, and every class reads them with its own defaults:

    grid      classes               meaning
    rows      DDIM, DDPM, PNDM      whole rows of the training table; n points, the cleanest included
    sigmas    Euler, Heun, LMS      the same points, but "linspace" keeps fractions, sigma / alpha linear between rows
    spare     DPM-Solver++, UniPC   whole rows of n + 1 points, the cleanest left out

Known differences, on purpose: DDIM's "trailing" and "linspace" step to the level visited next, where diffusers steps
by T // n rows and lands beside it unless n divides T; zero terminal SNR is exact where diffusers' Euler and DPM-Solver
stop at alpha = 2^-12; DPM-Solver's last step is of order 1 only where it ends clean (lower_order_final is not read).
PNDM is read with skip_prk_steps only, as every Stable Diffusion has it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from safelight.core.names import solver
from safelight.core.path import CLEAN, VP, Level, vp_cosine, vp_from_betas, vp_linear, vp_scaled_linear
from safelight.core.path import zero_terminal_snr as to_zero_terminal_snr
from safelight.core.schedule import (
    exponential,
    karras,
    leading_positions,
    linspace_positions,
    trailing_positions,
    visit,
)
from safelight.errors import ConfigError, RequestError

if TYPE_CHECKING:
    from torch import Tensor


class _Class(NamedTuple):
    """How one class of diffusers reads the file."""

    grid: str
    spacing: str
    alpha_to_one: bool | None = None  # default of set_alpha_to_one; None: the class does not know that key
    final_sigmas: bool = False  # whether it reads final_sigmas_type


_CLASSES = {
    "DDIMScheduler": _Class("rows", "leading", alpha_to_one=True),
    "DDPMScheduler": _Class("rows", "leading"),
    "DPMSolverMultistepScheduler": _Class("spare", "linspace", final_sigmas=True),
    "EulerAncestralDiscreteScheduler": _Class("sigmas", "linspace"),
    "EulerDiscreteScheduler": _Class("sigmas", "linspace", final_sigmas=True),
    "HeunDiscreteScheduler": _Class("sigmas", "linspace"),
    "LMSDiscreteScheduler": _Class("sigmas", "linspace"),
    "PNDMScheduler": _Class("rows", "leading", alpha_to_one=False),
    "UniPCMultistepScheduler": _Class("spare", "linspace", final_sigmas=True),
}

_PREDICTIONS = {"epsilon": "eps", "sample": "x0", "v_prediction": "v"}

# Keys of released files and the one value that changes nothing here; any other value is refused, not ignored.
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "interpolation_type": ("linear",),
    "disable_corrector": ([], None),
    "lambda_min_clipped": (-math.inf, None),
    "predict_x0": (True,),
    "shift_terminal": (None,),
    "solver_p": (None,),
    "thresholding": (False,),
    "timestep_type": ("discrete",),
    "use_beta_sigmas": (False, None),
    "use_dynamic_shifting": (False,),
    "use_flow_sigmas": (False,),
    "use_lu_lambdas": (False,),
    "variance_type": ("fixed_small", None),
}
_READ = frozenset(
    {
        "algorithm_type",
        "beta_end",
        "beta_schedule",
        "beta_start",
        "clip_sample",
        "final_sigmas_type",
        "num_train_timesteps",
        "prediction_type",
        "rescale_betas_zero_snr",
        "set_alpha_to_one",
        "sigma_max",
        "sigma_min",
        "solver_order",
        "solver_type",
        "steps_offset",
        "timestep_spacing",
        "trained_betas",
        "use_exponential_sigmas",
        "use_karras_sigmas",
    }
)
_SWITCHES = frozenset(
    {
        "clip_sample",
        "rescale_betas_zero_snr",
        "set_alpha_to_one",
        "use_exponential_sigmas",
        "use_karras_sigmas",
    }
)
_CLOCKS = (1e-6, 1e6)
"""From where to where sigma_min and sigma_max may lie."""
_LONGEST = 100_000
"""Rows of the longest training table; every real one has 1000."""
# Keys that say how to do what is done differently here, or that matter only to a refused value above.
_IRRELEVANT = frozenset(
    {
        "clip_sample_range",
        "dynamic_thresholding_ratio",
        "euler_at_final",
        "flow_shift",
        "lower_order_final",
        "sample_max_value",
        "skip_prk_steps",
        "time_shift_type",
    }
)


@dataclass(frozen=True)
class Plan:
    """What a model's ``scheduler_config.json`` asks for.

    Attributes:
        path: the noise path that the network was trained on.
        prediction: kind of the network, see ``core/prediction.py``.
        sampler: row of SAMPLERS for the class that the file names; options: what the file changes in it.
        grid, spacing, offset: which rows are visited, see the module.
        spread: "karras", "exponential", or "" for the rows themselves.
        clocks: (sigma_min, sigma_max) of the spread where the file states them.
        final: the last level: clean, or the cleanest trained one.
    """

    path: VP
    prediction: str
    sampler: str
    grid: str
    spacing: str
    options: Mapping[str, float | str] = field(default_factory=dict)
    offset: int = 0
    spread: str = ""
    clocks: tuple[float | None, float | None] = (None, None)
    final: Level = CLEAN

    def levels(self, n: int) -> list[Level]:
        """The n + 1 levels that the file asks for.

        Raises:
            RequestError: n is not between 1 and the length of the training table.
        """
        spare, steps = self.grid == "spare", self.path.steps
        if self.spacing == "leading":
            positions = leading_positions(steps, n, self.offset, spare)
        elif self.spacing == "trailing":
            positions = trailing_positions(steps, n)
        else:
            positions = linspace_positions(steps, n, rounded=self.grid != "sigmas", spare=spare)
        if self.spread:
            return self._spread(n, positions)
        if self.grid == "sigmas":
            return [*(_between(self.path, k) for k in positions), self.final]
        return visit(self.path, positions, self.final)

    def _spread(self, n: int, positions: list[float]) -> list[Level]:
        low, high = self.clocks
        if self.grid == "sigmas":  # Euler and Heun spread between the ends of their spacing, DPM-Solver over the table
            low = self.path.clock(_between(self.path, positions[-1])) if low is None else low
            high = self.path.clock(_between(self.path, positions[0])) if high is None else high
        if self.spread == "karras":
            levels = karras(self.path, n, sigma_min=low or 0.0, sigma_max=high or 0.0)
        else:
            levels = exponential(self.path, n, sigma_min=low or 0.0, sigma_max=high or 0.0)
        if self.grid == "spare":
            # It tells the network whole labels: rounded for karras (fractions are cut for the cosine table), else cut.
            whole = round if self.spread == "karras" and self.path.name != "cosine" else int
            levels = [level._replace(t=float(whole(level.t))) for level in levels]
        return [*levels[:-1], self.final]

    def start(self, noise: Tensor, levels: list[Level]) -> Tensor:
        """The state from which text-to-image begins, given unit noise [1, C, H, W] and the levels to visit.

        Euler and Heun begin with sigma times the noise where their grid reaches the path's end ("linspace",
        "trailing"); all others with the noise itself. The two differ by 0.2 % in Stable Diffusion.
        """
        scaled = self.grid == "sigmas" and self.spacing != "leading"
        return levels[0].sigma * noise if scaled else noise


def _between(path: VP, k: float) -> Level:
    """The level at a fractional row as diffusers' Euler has it: sigma / alpha linear in k."""
    low = int(k)
    if low == k or path.level(low + 1).alpha == 0.0:
        return path.level(k)
    below, above = path.clock(path.level(low)), path.clock(path.level(low + 1))
    return path.at_clock(below + (above - below) * (k - low))._replace(t=k)


def read(config: Mapping[str, Any]) -> Plan:
    """The plan in a ``scheduler_config.json``.

    Args:
        config: the file's object.

    Raises:
        ConfigError: an unknown class or key, or a value that asks for something this program does not do.
    """
    name = config.get("_class_name")
    if not isinstance(name, str) or name not in _CLASSES:
        raise ConfigError(f"scheduler_config.json names {name!r}; known are {', '.join(sorted(_CLASSES))}")
    rule = _CLASSES[name]
    for key, value in config.items():
        if key in _SWITCHES and not isinstance(value, bool | None):
            raise ConfigError(f"scheduler_config.json: {key} = {value!r} is neither true nor false")
        if key in _NEUTRAL:
            if value not in _NEUTRAL[key]:
                raise ConfigError(f"scheduler_config.json: {key} = {value!r} is not supported")
        elif not key.startswith("_") and key not in _READ and key not in _IRRELEVANT:
            raise ConfigError(f"scheduler_config.json: unknown key {key!r}")
    path = _path(config)
    sampler, options = _solver(name, config)
    if rule.grid == "rows" and name != "PNDMScheduler" and config.get("clip_sample", True) is not False:
        # Absent means true to these two classes. It is for pixels; latents reach far beyond 1.
        raise ConfigError(
            "scheduler_config.json: clip_sample must be there and false; clipped latents are not supported"
        )
    return Plan(
        path=path,
        prediction=_choose(config, "prediction_type", "epsilon", _PREDICTIONS),
        sampler=sampler,
        options=options,
        grid=rule.grid,
        spacing=_choose(config, "timestep_spacing", rule.spacing, {w: w for w in ("leading", "linspace", "trailing")}),
        offset=_whole(config, "steps_offset", 0, (0, path.steps - 1)),
        spread=_spread_named(name, config),
        clocks=_clocks(config),
        final=_final(rule, config, path),
    )


def _path(config: Mapping[str, Any]) -> VP:
    steps = _whole(config, "num_train_timesteps", 1000, (2, _LONGEST))
    start, end = _number(config, "beta_start", 1e-4), _number(config, "beta_end", 0.02)
    betas = config.get("trained_betas")
    kind = config.get("beta_schedule", "linear")
    if not 0.0 < start <= end < 1.0:
        raise ConfigError(f"scheduler_config.json: no noise path has {steps} steps and betas from {start} to {end}")
    if betas is not None:
        if not isinstance(betas, list) or len(betas) > _LONGEST:
            raise ConfigError(f"scheduler_config.json: trained_betas is no list of up to {_LONGEST} variances")
        path = _trained(betas)
    elif kind == "linear":
        path = vp_linear(start, end, steps)
    elif kind == "scaled_linear":
        path = vp_scaled_linear(start, end, steps)
    elif kind == "squaredcos_cap_v2":
        path = vp_cosine(steps)
    else:
        raise ConfigError(f"scheduler_config.json: beta_schedule = {kind!r} is not supported")
    return to_zero_terminal_snr(path) if config.get("rescale_betas_zero_snr", False) else path


def _trained(betas: Any) -> VP:
    try:
        return vp_from_betas([float(beta) for beta in betas], "trained_betas")
    except (TypeError, ValueError, RequestError) as error:
        raise ConfigError(f"scheduler_config.json: trained_betas is not a list of variances: {error}") from error


def _solver(name: str, config: Mapping[str, Any]) -> tuple[str, dict[str, float | str]]:
    if name == "PNDMScheduler" and config.get("skip_prk_steps", False) is not True:
        raise ConfigError("scheduler_config.json: PNDM needs skip_prk_steps true; its first steps are not known")
    try:
        return solver(name, config)
    except RequestError as error:
        raise ConfigError(f"scheduler_config.json: {error}") from None


def _spread_named(name: str, config: Mapping[str, Any]) -> str:
    if name in ("DDIMScheduler", "DDPMScheduler", "EulerAncestralDiscreteScheduler", "PNDMScheduler"):
        return ""
    asked = [word for word in ("karras", "exponential") if config.get(f"use_{word}_sigmas")]
    if len(asked) > 1:
        raise ConfigError("scheduler_config.json asks for both karras and exponential sigmas; it can have one")
    return asked[0] if asked else ""


def _final(rule: _Class, config: Mapping[str, Any], path: VP) -> Level:
    if rule.alpha_to_one is not None:
        return CLEAN if config.get("set_alpha_to_one", rule.alpha_to_one) else path.level(0)
    if rule.final_sigmas:
        ends = {"zero": "zero", "sigma_min": "sigma_min"}
        return CLEAN if _choose(config, "final_sigmas_type", "zero", ends) == "zero" else path.level(0)
    return CLEAN


def _choose(config: Mapping[str, Any], key: str, default: str, known: Mapping[str, str]) -> str:
    value = config.get(key, default)
    if not isinstance(value, str) or value not in known:
        raise ConfigError(f"scheduler_config.json: {key} = {value!r}; known are {', '.join(sorted(known))}")
    return known[value]


def _number(config: Mapping[str, Any], key: str, default: float) -> float:
    value = config.get(key, default)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ConfigError(f"scheduler_config.json: {key} = {value!r} is not a number")
    return value


def _whole(config: Mapping[str, Any], key: str, default: int, within: tuple[int, int]) -> int:
    value = _number(config, key, default)
    if value != int(value) or not within[0] <= value <= within[1]:
        raise ConfigError(
            f"scheduler_config.json: {key} = {value!r} is no whole number from {within[0]} to {within[1]}"
        )
    return int(value)


def _clocks(config: Mapping[str, Any]) -> tuple[float | None, float | None]:
    low, high = (None if config.get(key) is None else _number(config, key, 0.0) for key in ("sigma_min", "sigma_max"))
    if not _CLOCKS[0] <= (low or _CLOCKS[0]) <= (high or _CLOCKS[1]) <= _CLOCKS[1] or 0.0 in (low, high):
        raise ConfigError(f"scheduler_config.json: no noise goes from sigma_max = {high!r} down to sigma_min = {low!r}")
    return low, high
