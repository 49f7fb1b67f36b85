"""Reads a released ``scheduler_config.json``: the path, what the network predicts, and the levels it is meant to visit.

The file names a class of diffusers; what matters in it are facts, and every class reads them with its own defaults
(``classes.py``). Files that cannot be obeyed are refused with the reason.

Known differences, on purpose (docs/reference/files.md has all): DDIM and PNDM step to the row visited next, where
diffusers steps by T // n rows and lands beside it with "linspace", and with "trailing" unless n divides T; zero
terminal SNR is exact with every class, where diffusers' Euler, DPM-Solver and UniPC stop at alpha = 2^-12. PNDM is
read with skip_prk_steps only, as every Stable Diffusion has it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

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
from safelight.core.schedules.clocks import beta_sigma
from safelight.core.schedules.positions import lcm
from safelight.errors import ConfigError, RequestError
from safelight.families.sd.classes import (
    CLASSES,
    DPM,
    IRRELEVANT,
    NEUTRAL,
    OTHERS,
    READ,
    REFUSED,
    SINGLE,
    SPREADS,
    SWITCHES,
    Reading,
)

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

_PREDICTIONS = {"epsilon": "eps", "sample": "x0", "v_prediction": "v"}
_SPREAD: dict[str, Callable[..., list[Level]]] = {"karras": karras, "exponential": exponential, "beta": beta_sigma}
_CLOCKS = (1e-6, 1e6)
"""From where to where sigma_min and sigma_max may lie."""
_LONGEST = 100_000
"""Rows of the longest training table; every real one has 1000."""
_SCALINGS = (1e-3, 1e3)
"""From where to where timestep_scaling may lie."""
_FEW = 15
"""Runs of fewer steps than this end with steps of lower order where lower_order_final says so."""


@dataclass(frozen=True)
class Plan:
    """What a model's ``scheduler_config.json`` asks for.

    Attributes:
        path: the noise path that the network was trained on.
        prediction: kind of the network, see ``core/prediction.py``.
        sampler: row of SAMPLERS for the class that the file names; options: what the file changes in it.
        grid, spacing, offset: which rows are visited, see ``classes.py``.
        spread: "karras", "exponential", "beta", or "" for the rows themselves.
        labels: what the network is told at levels of a spread: "keep" the label, "round" it or "cut" its fraction.
        clocks: (sigma_min, sigma_max) of the spread where the file states them.
        final: the last level: clean, or the cleanest trained one.
        original: how many steps the teacher of a distilled network took.
        fewest: steps below which the file asks for another order of the last step, which is not done here.
    """

    path: VP
    prediction: str
    sampler: str
    grid: str
    spacing: str
    options: Mapping[str, float | str] = field(default_factory=dict)
    offset: int = 0
    spread: str = ""
    labels: str = "keep"
    clocks: tuple[float | None, float | None] = (None, None)
    final: Level = CLEAN
    original: int = 50
    fewest: int = 1

    def levels(self, n: int) -> list[Level]:
        """The n + 1 levels that the file asks for.

        Raises:
            RequestError: n is not between 1 and the length of the training table (distilled: of the teacher's run), or
            the file asks for a last step of another order in so few.
        """
        if n < self.fewest:
            raise RequestError(
                f"the model's scheduler_config.json lowers the order of the last step in runs below {self.fewest} "
                f"steps (lower_order_final), which is not done here; take {self.fewest} or more, or name a --schedule"
            )
        if self.grid == "distilled":
            return [*lcm(self.path, n, self.original)[:-1], self.final]
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
        levels = _SPREAD[self.spread](self.path, n, sigma_min=low or 0.0, sigma_max=high or 0.0)
        return [*(level._replace(t=self._told(level.t)) for level in levels[:-1]), self.final]

    def _told(self, t: float) -> float:
        """What the network is told. Rounding leaves diffusers' noisiest label just below its row, so a cut loses it."""
        if self.labels == "cut":
            return float(min(int(t), self.path.steps - 2))
        return float(round(t)) if self.labels == "round" else t

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


def read_of(folder: Path, config: Mapping[str, Any]) -> Plan:
    """The plan of the model in a folder; see `read`, whose messages here begin with its place."""
    try:
        return read(config)
    except ConfigError as error:
        raise ConfigError(f"{folder / 'scheduler'}: {error}") from error


def read(config: Mapping[str, Any]) -> Plan:
    """The plan in a ``scheduler_config.json``.

    Args:
        config: the file's object.

    Raises:
        ConfigError: an unknown class or key, or a value that asks for something this program does not do.
    """
    name = config.get("_class_name")
    if isinstance(name, str) and name in REFUSED:
        raise ConfigError(f"scheduler_config.json names {name!r}, which cannot be meant here: {REFUSED[name]}")
    if not isinstance(name, str) or name not in CLASSES:
        raise ConfigError(f"scheduler_config.json names {name!r}; known are {', '.join(sorted(CLASSES))}")
    rule = CLASSES[name]
    _refuse(config, rule)
    path = _path(config, rule)
    sampler, options = _solver(name, config)
    final = _final(rule, config, path)
    spread = _spread_named(rule, config)
    return Plan(
        path=path,
        prediction=_choose(config, "prediction_type", "epsilon", _PREDICTIONS),
        sampler=sampler,
        options=options,
        grid=rule.grid,
        spacing=_choose(config, "timestep_spacing", rule.spacing, {w: w for w in ("leading", "linspace", "trailing")}),
        offset=_whole(config, "steps_offset", 0, (0, path.steps - 1)),
        spread=spread,
        labels=_labels(name, rule, config, spread),
        clocks=_clocks(config),
        final=final,
        original=_whole(config, "original_inference_steps", 50, (1, path.steps)),
        fewest=_fewest(name, config, final),
    )


def _refuse(config: Mapping[str, Any], rule: Reading) -> None:
    """Raise ConfigError for a key that is not known, or a value that asks for something that is not done here."""
    for key, value in config.items():
        if key in SWITCHES and not isinstance(value, bool | None):
            raise ConfigError(f"scheduler_config.json: {key} = {value!r} is neither true nor false")
        allowed = {**NEUTRAL, **rule.needs}.get(key)
        if allowed is not None:
            if value not in allowed:
                raise ConfigError(f"scheduler_config.json: {key} = {value!r} is not supported")
        elif not key.startswith("_") and key not in READ and key not in IRRELEVANT:
            raise ConfigError(f"scheduler_config.json: unknown key {key!r}")
    if rule.clips is not None and config.get("clip_sample", rule.clips) is not False:
        # Absent means true to two classes. It is for pixels; latents reach far beyond 1.
        raise ConfigError(
            "scheduler_config.json: clip_sample must be there and false; clipped latents are not supported"
        )
    variance = config.get("variance_type")
    known = ("fixed_small", "fixed_small_log", "fixed_large", "learned_range")
    if variance is not None and variance not in known:
        # To its paper's code what "learned" says is a logarithm, to diffusers the variance itself.
        reason = "has two meanings; known is learned_range" if variance == "learned" else "is not supported"
        raise ConfigError(f"scheduler_config.json: variance_type = {variance!r} {reason}")


def _path(config: Mapping[str, Any], rule: Reading) -> VP:
    steps = _whole(config, "num_train_timesteps", 1000, (2, _LONGEST))
    start, end = _number(config, "beta_start", rule.betas[1]), _number(config, "beta_end", rule.betas[2])
    betas = config.get("trained_betas")
    kind = config.get("beta_schedule", rule.betas[0])
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
    """The row of SAMPLERS, and its options.

    DPM-Solver's order 3 is no row, for diffusers' is wrong. The class itself stands for it, which is refused where a
    picture is asked for without naming a sampler: everything else in the file is good.
    """
    if name == "PNDMScheduler" and config.get("skip_prk_steps", False) is not True:
        raise ConfigError("scheduler_config.json: PNDM needs skip_prk_steps true; its first steps are not known")
    flags = {key: config[key] for key in ("algorithm_type", "solver_order", "solver_type") if key in config}
    for key, others in OTHERS.get(name, {}).items():
        if isinstance(flags.get(key), str):
            flags[key] = others.get(flags[key], flags[key])
    try:
        row, options = solver(name, flags)
    except RequestError as error:
        kind = flags.get("algorithm_type", "dpmsolver++")
        if name == DPM and flags.get("solver_order") == 3 and kind in ("dpmsolver++", "sde-dpmsolver++"):
            return f"{name}(solver_order=3, algorithm_type={kind!r})", {}
        raise ConfigError(f"scheduler_config.json: {error}") from None
    if name == "DDPMScheduler" and config.get("variance_type") in ("fixed_large", "learned_range"):
        options["variance"] = config["variance_type"]
    if name == "DEISMultistepScheduler" and config.get("lower_order_final", True):
        options["final"] = "lowered"
    if name == "LCMScheduler" and (scaling := _number(config, "timestep_scaling", 10.0)) != 10.0:
        if not _SCALINGS[0] <= scaling <= _SCALINGS[1]:
            raise ConfigError(f"scheduler_config.json: timestep_scaling = {scaling!r} is not from 0.001 to 1000")
        options["boundary"] = scaling
    return row, options


def _spread_named(rule: Reading, config: Mapping[str, Any]) -> str:
    asked = [word for key, word in SPREADS.items() if config.get(key)] if rule.spreads else []
    if len(asked) > 1:
        raise ConfigError(f"scheduler_config.json asks for both {' and '.join(asked)} sigmas; it can have one")
    return asked[0] if asked else ""


def _labels(name: str, rule: Reading, config: Mapping[str, Any], spread: str) -> str:
    """What becomes of the labels: DPM-Solver and its kin tell the network whole ones."""
    if spread == "karras" and not (name == DPM and config.get("beta_schedule") == "squaredcos_cap_v2"):
        return rule.karras
    return "cut" if rule.grid == "spare" else "keep"


def _final(rule: Reading, config: Mapping[str, Any], path: VP) -> Level:
    if rule.end == "set_alpha_to_one":
        return CLEAN if config.get("set_alpha_to_one", rule.to_one) else path.level(0)
    if rule.end == "final_sigmas_type":
        ends = {"zero": "zero", "sigma_min": "sigma_min"}
        return CLEAN if _choose(config, "final_sigmas_type", "zero", ends) == "zero" else path.level(0)
    return CLEAN if rule.end == "clean" else path.level(0)


def _fewest(name: str, config: Mapping[str, Any], final: Level) -> int:
    """From how many steps on a last step that leaves noise is of the order that the file names.

    A step to the clean end is of order 1 in any case.

    Raises:
        ConfigError: never is it.
    """
    if not final.sigma or config.get("solver_order", 2) == 1 or name not in (DPM, SINGLE):
        return 1
    lowers = config.get("lower_order_final", name == DPM)
    key = "euler_at_final" if name == DPM else "lower_order_final"
    if config.get(key):
        raise ConfigError(f"scheduler_config.json: {key} = true is not supported with final_sigmas_type = 'sigma_min'")
    return _FEW if lowers and name == DPM else 1


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
