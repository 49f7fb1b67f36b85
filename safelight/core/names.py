"""What other programs call a sampler on a schedule, read and written: A1111, ComfyUI, diffusers, stable-diffusion.cpp.

The names stand in the rows of SAMPLERS and SCHEDULES. Here are the rest: names that mean a row with other options in
one program than in the next, and the flags of diffusers' classes. ``read`` and ``write`` are each other's inverse.
Without a program, as in a command, ``understood`` takes a name of any.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from safelight.core import schedule
from safelight.core.samplers.row import Option
from safelight.core.samplers.table import SAMPLERS, split
from safelight.core.schedule import SCHEDULES
from safelight.errors import RequestError, UnknownNameError

Flags = Mapping[str, Option | bool]


@dataclass(frozen=True)
class Pair:
    """A sampler on a schedule.

    Attributes:
        sampler: row of SAMPLERS. schedule: row of SCHEDULES, or None for the levels that a model's files ask for.
        options: changes of the sampler's options. laid: changes of the schedule's.
    """

    sampler: str
    schedule: str | None = None
    options: Mapping[str, Option] = field(default_factory=dict)
    laid: Mapping[str, Option] = field(default_factory=dict)


PROGRAMS = ("a1111", "comfyui", "sd_cpp")
"""Programs that name a sampler and a schedule in one word each; diffusers has classes with flags."""
_AUTOMATIC = ("automatic", "")
_QUIRKS: dict[tuple[str, str], tuple[str, Mapping[str, Option]]] = {
    ("a1111", "Align Your Steps"): ("ays", {"spare": 0.0}),
    ("a1111", "KL Optimal"): ("kl_optimal", {"spare": 1.0, "last": "trained"}),
}
"""A schedule's name in one program -> the row and the options that it has there and nowhere else."""
_TRAILING = ("sd_cpp", "ddim_trailing")
"""A sampler's name that holds its schedule."""


def understood(sampler: str, schedule_name: str | None = None) -> Pair:
    """What a person wrote, in the spelling of any program.

    Args:
        sampler: such as ``euler_a``, "DPM++ 2M Karras", or a class of diffusers with its flags,
            ``DPMSolverMultistepScheduler(algorithm_type='sde-dpmsolver++', use_karras_sigmas=True)``.
        schedule_name: a name of a schedule; None where nothing is said of it.

    Raises:
        UnknownNameError: a name that no program knows. RequestError: two schedules at once.
    """
    if "(" in sampler:
        pair = read_diffusers(*_call(sampler))
    else:
        row, named = split(sampler)
        pair = Pair(row.name, "trailing" if sampler.strip().lower() == _TRAILING[1] else named)
    if schedule_name is None or schedule_name.strip().lower() in _AUTOMATIC:
        return pair
    found = schedule.find(schedule_name)
    if pair.schedule and (found != pair.schedule):
        raise RequestError(
            f"the sampler's name says schedule {pair.schedule!r}, the schedule {schedule_name!r}; give one"
        )
    return Pair(pair.sampler, found, pair.options, pair.laid)


def read(program: str, sampler: str, schedule_name: str = "") -> Pair:
    """What a program's two names mean.

    Args:
        program: one of PROGRAMS. schedule_name: empty or "Automatic" where the program decides.

    Raises:
        UnknownNameError: that program has no such name; lists its nearest.
    """
    _program(program)
    if (program, sampler) == _TRAILING and schedule_name.lower() in _AUTOMATIC:
        return Pair("ddim", "trailing")
    rows = {name: row.name for row in SAMPLERS.values() for name in getattr(row.names, program)}
    if sampler not in rows:
        raise UnknownNameError(f"sampler of {program}", sampler, rows)
    if schedule_name.lower() in _AUTOMATIC:
        return Pair(rows[sampler])
    if quirk := _QUIRKS.get((program, schedule_name)):
        return Pair(rows[sampler], quirk[0], {}, quirk[1])
    grids = {name: row.name for row in SCHEDULES.values() for name in getattr(row.names, program)}
    if schedule_name not in grids:
        raise UnknownNameError(f"schedule of {program}", schedule_name, grids)
    return Pair(rows[sampler], grids[schedule_name])


def write(program: str, pair: Pair) -> tuple[str, str]:
    """A program's names for a sampler and a schedule; the latter "Automatic" where the pair leaves it open.

    Raises:
        UnknownNameError: the program has no name for one of them; lists the nearest rows for which it has.
        RequestError: an option that no name of the program means.
    """
    _program(program)
    if pair.options:
        raise RequestError(
            f"{program} has no name for {pair.sampler} with {_told(pair.options)}; leave the options out"
        )
    sampler = next(iter(getattr(SAMPLERS[pair.sampler].names, program)), None)
    if sampler is None:
        raise UnknownNameError(
            f"{program} name of sampler",
            pair.sampler,
            [n for n, row in SAMPLERS.items() if getattr(row.names, program)],
        )
    if pair.schedule is None:
        return sampler, "Automatic"
    laid = {name: value for name, value in pair.laid.items() if name != "model"}  # which the program sees for itself
    for (owner, name), (row, quirk) in _QUIRKS.items():
        if owner == program and (row, quirk) == (pair.schedule, laid):
            return sampler, name
    quirky = [row for (owner, _), (row, _) in _QUIRKS.items() if owner == program]
    if laid or pair.schedule in quirky:
        raise RequestError(
            f"{program} has no name for {pair.schedule} with {_told(pair.laid) or 'these options'}; pass the levels on"
        )
    grid = next(iter(getattr(SCHEDULES[pair.schedule].names, program)), None)
    if grid is None:
        raise UnknownNameError(
            f"{program} name of schedule",
            pair.schedule,
            [n for n, row in SCHEDULES.items() if getattr(row.names, program)],
        )
    return sampler, grid


def _program(program: str) -> None:
    if program not in PROGRAMS:
        raise UnknownNameError("program", program, PROGRAMS)


def _told(options: Mapping[str, Option]) -> str:
    return ", ".join(f"{name}={value}" for name, value in options.items())


DPM, UNIPC, DEIS = "DPMSolverMultistepScheduler", "UniPCMultistepScheduler", "DEISMultistepScheduler"
SINGLE = "DPMSolverSinglestepScheduler"
_PLUS = {"algorithm_type": "dpmsolver++"}
SOLVERS: tuple[tuple[str, Flags, str, Mapping[str, Option]], ...] = (
    (DPM, {"algorithm_type": "dpmsolver++", "solver_order": 2, "solver_type": "midpoint"}, "dpmpp_2m", {}),
    (DPM, {"algorithm_type": "dpmsolver++", "solver_order": 2, "solver_type": "heun"}, "dpmpp_2m", {"rule": "heun"}),
    (DPM, {"algorithm_type": "sde-dpmsolver++", "solver_order": 2, "solver_type": "midpoint"}, "dpmpp_2m_sde", {}),
    (DPM, {"algorithm_type": "sde-dpmsolver++", "solver_order": 2, "solver_type": "heun"}, "dpmpp_2m_sde_heun", {}),
    (DPM, {"algorithm_type": "dpmsolver++", "solver_order": 1}, "ddim", {}),
    (DPM, {"algorithm_type": "sde-dpmsolver++", "solver_order": 1}, "ddpm", {}),
    (UNIPC, {"solver_order": 2, "solver_type": "bh2"}, "unipc2_bh2", {}),
    (UNIPC, {"solver_order": 3, "solver_type": "bh2"}, "unipc_bh2", {}),
    (UNIPC, {"solver_order": 3, "solver_type": "bh1"}, "unipc", {}),
    (UNIPC, {"solver_order": 2, "solver_type": "bh1"}, "unipc2_bh2", {"rule": "bh1"}),
    (UNIPC, {"solver_order": 1, "solver_type": "bh2"}, "unipc2_bh2", {"order": 1.0}),
    (UNIPC, {"solver_order": 1, "solver_type": "bh1"}, "unipc2_bh2", {"order": 1.0, "rule": "bh1"}),
    (DEIS, {"solver_order": 2}, "deis_log", {"order": 2.0}),
    (DEIS, {"solver_order": 3}, "deis_log", {}),
    (DEIS, {"solver_order": 1}, "deis_log", {"order": 1.0}),
    (SINGLE, {**_PLUS, "solver_order": 2, "solver_type": "midpoint"}, "dpm_singlestep", {}),
    (SINGLE, {**_PLUS, "solver_order": 2, "solver_type": "heun"}, "dpm_singlestep", {"rule": "heun"}),
    (SINGLE, {**_PLUS, "solver_order": 3, "solver_type": "midpoint"}, "dpm_singlestep", {"order": 3.0}),
    (SINGLE, {**_PLUS, "solver_order": 3, "solver_type": "heun"}, "dpm_singlestep", {"order": 3.0, "rule": "heun"}),
    (SINGLE, {**_PLUS, "solver_order": 1}, "dpm_singlestep", {"order": 1.0}),
)
"""Classes of diffusers whose flags choose the row, with its options; a class's first line is its default.

Third order of DPM-Solver is not here: diffusers' has a term of half its size, and of the wrong sign with noise.
"""
SPARE = (DPM, UNIPC, DEIS, SINGLE, "SASolverScheduler")
"""Classes that lay one point more and leave the cleanest out."""
FRACTIONS = (
    *("EulerDiscreteScheduler", "EulerAncestralDiscreteScheduler", "HeunDiscreteScheduler", "LMSDiscreteScheduler"),
    *("KDPM2DiscreteScheduler", "KDPM2AncestralDiscreteScheduler", "DPMSolverSDEScheduler"),
)
"""Classes whose "linspace" keeps the fractions of rows."""
ROWS = ("DDIMScheduler", "DDPMScheduler", "PNDMScheduler")
"""Classes that visit whole rows, the cleanest included."""
SPREADS = {"use_karras_sigmas": "karras", "use_exponential_sigmas": "exponential", "use_beta_sigmas": "beta_sigma"}
_SPACINGS = ("leading", "linspace", "trailing")
_SPACED = {*SPARE, *FRACTIONS, *ROWS} - {SINGLE}
_FLAGS: dict[str, set[str]] = {
    **dict.fromkeys(("timestep_spacing", "steps_offset"), _SPACED),
    **dict.fromkeys(SPREADS, {*SPARE, *FRACTIONS, "FlowMatchEulerDiscreteScheduler"} - {FRACTIONS[1]}),
    "final_sigmas_type": {DPM, UNIPC, SINGLE, "EDMEulerScheduler", "EulerDiscreteScheduler"},
    "original_inference_steps": {"LCMScheduler", "TCDScheduler"},
    **{flag: {line[0] for line in SOLVERS if flag in line[1]} for line in SOLVERS for flag in line[1]},
}
"""Flags that are understood, and the classes that have them."""
_WHOLE = ("original_inference_steps", "solver_order", "steps_offset")
_TOLD = {bool: "True or False", int: "a whole number", str: "a word"}


def solver(name: str, flags: Flags) -> tuple[str, dict[str, Option]]:
    """The row of SAMPLERS that a class of diffusers means with these flags, and its options.

    Raises:
        UnknownNameError: no such class. RequestError: a combination that is no row.
    """
    lines = [line for line in SOLVERS if line[0] == name]
    if not lines:
        classes = {each: row.name for row in SAMPLERS.values() for each in row.names.diffusers}
        if name not in classes:
            raise UnknownNameError("class of diffusers", name, classes)
        return classes[name], {}
    whole = {**lines[0][1], **{flag: value for flag, value in flags.items() if flag in lines[0][1]}}
    for _, needed, row, options in lines:
        if all(whole[flag] == value for flag, value in needed.items()):
            return row, dict(options)
    told = ", ".join(f"{flag} {value!r}" for flag, value in whole.items())
    if name == DPM and whole["solver_order"] == 3:
        own = "adams3_sde" if whole["algorithm_type"] == "sde-dpmsolver++" else "adams3"
        raise RequestError(
            f"{name} with {told} is not drawn: diffusers' order 3 has a term of half its size, with noise of the wrong "
            f"sign; name a sampler: {own} is that order as it should be, dpmpp_2m the usual one"
        )
    raise RequestError(f"{name} with {told} is not supported; take another order, or a sampler by our own name")


def read_diffusers(name: str, flags: Flags) -> Pair:
    """What a class of diffusers means with these flags.

    Raises:
        UnknownNameError: no such class or flag. RequestError: a value that is no row.
    """
    row, options = solver(name, flags)
    known = [flag for flag, classes in _FLAGS.items() if name in classes]
    for flag in flags:
        if flag not in known:
            raise UnknownNameError(f"flag of {name}", flag, known or ["none"])
        kind = bool if flag in SPREADS else int if flag in _WHOLE else str
        if type(flags[flag]) is not kind:
            raise RequestError(f"flag {flag} of {name} is {_TOLD[kind]}, not {flags[flag]!r}")
    grid, laid = _grid(name, flags)
    final = flags.get("final_sigmas_type", "zero")
    if final not in ("zero", "sigma_min"):
        raise RequestError(f"final_sigmas_type is zero or sigma_min, not {final!r}")
    if final == "sigma_min":
        laid = {**laid, "last": "trained"}
    return Pair(row, grid, options, laid)


def _grid(name: str, flags: Flags) -> tuple[str | None, dict[str, Option]]:
    asked = [SPREADS[flag] for flag in SPREADS if flags.get(flag)]
    if len(asked) > 1:
        raise RequestError(f"{name} is asked for {' and '.join(asked)} sigmas; it can have one")
    if asked:
        return asked[0], {}
    if "original_inference_steps" in flags:
        return "lcm", {"original": float(flags["original_inference_steps"])}
    if "timestep_spacing" not in flags:
        return None, {}
    spacing = str(flags["timestep_spacing"])
    if spacing not in _SPACINGS:
        raise UnknownNameError("timestep_spacing", spacing, _SPACINGS)
    laid: dict[str, Option] = {"spare": 1.0} if name in SPARE and spacing != "trailing" else {}
    if spacing == "leading" and flags.get("steps_offset"):
        laid["offset"] = float(flags["steps_offset"])
    if spacing == "linspace" and name not in FRACTIONS:
        laid["rounded"] = 1.0
    return spacing, laid


def write_diffusers(pair: Pair) -> tuple[str, dict[str, Option | bool]]:
    """The class of diffusers for a pair, and its flags; those at their defaults are left out.

    Raises:
        UnknownNameError: diffusers has no class for the sampler; lists the nearest rows for which it has. RequestError:
            the class cannot do that schedule, or an option.
    """
    for name, flags in _classes(pair):
        for grid in _grids(name):
            both = {**flags, **grid}
            if read_diffusers(name, both) == pair:
                return name, both
    rows = {row for _, _, row, _ in SOLVERS} | {row.name for row in SAMPLERS.values() if row.names.diffusers}
    if pair.sampler not in rows:
        raise UnknownNameError("diffusers class of sampler", pair.sampler, rows)
    raise RequestError(
        f"diffusers has no flags for {pair.sampler} on {pair.schedule} with "
        f"{_told({**pair.options, **pair.laid}) or 'these options'}; pass the levels on"
    )


def _classes(pair: Pair) -> Iterable[tuple[str, dict[str, Option | bool]]]:
    flagged = {name for name, *_ in SOLVERS}
    for name in SAMPLERS[pair.sampler].names.diffusers:
        if name not in flagged:
            yield name, {}
    for name, flags, row, options in SOLVERS:
        if (row, options) == (pair.sampler, pair.options):
            default = next(line[1] for line in SOLVERS if line[0] == name)
            yield name, {flag: value for flag, value in flags.items() if value != default[flag]}


def _grids(name: str) -> Iterable[dict[str, Option | bool]]:
    ends: tuple[dict[str, Option | bool], ...] = ({}, {"final_sigmas_type": "sigma_min"})
    spaced = name in _SPACED
    for end in ends if name in _FLAGS["final_sigmas_type"] else ends[:1]:
        yield {**end}
        for spacing in _SPACINGS if spaced else ():
            yield {"timestep_spacing": spacing, **end}
        if spaced:
            yield {"timestep_spacing": "leading", "steps_offset": 1, **end}
        # Spread between the path's ends; over "leading" other ends would be inherited.
        over: dict[str, Option | bool] = {"timestep_spacing": "linspace"} if spaced else {}
        yield from (
            {**over, flag: True, **end} for flag, classes in _FLAGS.items() if flag in SPREADS and name in classes
        )
    if name in _FLAGS["original_inference_steps"]:
        yield {"original_inference_steps": 50}


def _call(text: str) -> tuple[str, Flags]:
    """A class and its flags from ``Class(flag=value, ...)``; nothing is evaluated but plain values.

    Raises:
        RequestError: another form.
    """
    try:
        call = ast.parse(text.strip(), mode="eval").body
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name) or call.args:
            raise ValueError
        flags = {word.arg: ast.literal_eval(word.value) for word in call.keywords if word.arg}
        if len(flags) != len(call.keywords) or not all(
            isinstance(value, int | float | str) for value in flags.values()
        ):
            raise ValueError
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise RequestError(
            f"{text!r} is no class with flags; write such as EulerDiscreteScheduler(flag=True)"
        ) from None
    return call.func.id, flags
