"""Names of whole pairs, a sampler on a schedule, in other programs: both ways, for every row."""

from __future__ import annotations

import inspect

import diffusers
import pytest

from safelight.core.names import (
    PROGRAMS,
    SOLVERS,
    Pair,
    read,
    read_diffusers,
    solver,
    understood,
    write,
    write_diffusers,
)
from safelight.core.samplers.table import SAMPLERS
from safelight.core.schedule import SCHEDULES
from safelight.errors import RequestError, UnknownNameError

QUIRKY = {"ays": {"spare": 0.0}, "kl_optimal": {"spare": 1.0, "last": "trained"}}


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_name_of_a_program_is_read_and_every_row_is_written_as_what_it_reads(program: str) -> None:
    samplers = [(row, getattr(row.names, program)) for row in SAMPLERS.values()]
    grids = [(row, getattr(row.names, program)) for row in SCHEDULES.values()]
    euler = getattr(SAMPLERS["euler"].names, program)[0]
    for row, spellings in samplers:
        for spelling in spellings:
            assert read(program, spelling).sampler == row.name
            assert understood(spelling).sampler == row.name
        if spellings and spellings[0] != "ddim_trailing":
            assert write(program, Pair(row.name)) == (spellings[0], "Automatic")
            assert read(program, *write(program, Pair(row.name))) == Pair(row.name)
        elif not spellings:
            with pytest.raises(UnknownNameError, match=f"{program} name of sampler"):
                write(program, Pair(row.name))
    for grid, spellings in grids:
        laid = QUIRKY.get(grid.name, {}) if program == "a1111" else {}
        pair = Pair("euler", grid.name, {}, laid)
        for spelling in spellings:
            assert read(program, euler, spelling) == pair
            assert understood("euler", spelling).schedule == grid.name
        if spellings:
            assert read(program, *write(program, pair)) == pair
        else:
            with pytest.raises(UnknownNameError, match=f"{program} name of schedule"):
                write(program, pair)


def test_names_that_hold_a_schedule() -> None:
    assert understood("DPM++ 2M Karras") == Pair("dpmpp_2m", "karras")
    assert understood("ddim_trailing") == Pair("ddim", "trailing")
    assert read("sd_cpp", "ddim_trailing") == Pair("ddim", "trailing")
    assert understood("Euler a", "Automatic") == Pair("euler_ancestral")
    assert understood("DPM++ 2M Karras", "karras") == Pair("dpmpp_2m", "karras")
    with pytest.raises(RequestError, match="give one"):
        understood("DPM++ 2M Karras", "simple")


def test_one_name_means_different_grids_in_different_programs() -> None:
    assert read("a1111", "Euler", "KL Optimal").laid != read("comfyui", "euler", "kl_optimal").laid
    assert write("a1111", Pair("euler", "kl_optimal", {}, QUIRKY["kl_optimal"]))[1] == "KL Optimal"
    with pytest.raises(RequestError, match="a1111 has no name for kl_optimal"):
        write("a1111", Pair("euler", "kl_optimal"))
    assert write("a1111", Pair("euler", "ays", {}, {"model": "sdxl", "spare": 0.0}))[1] == "Align Your Steps"
    assert write("sd_cpp", Pair("euler", "ays", {}, {"model": "sdxl"})) == ("euler", "ays")


def test_what_a_program_has_no_word_for_is_refused_with_the_nearest() -> None:
    with pytest.raises(RequestError, match="rho=5"):
        write("comfyui", Pair("euler", "karras", {}, {"rho": 5}))
    with pytest.raises(RequestError, match=r"eta=0\.5"):
        write("comfyui", Pair("ddim", None, {"eta": 0.5}))
    with pytest.raises(UnknownNameError, match="Karras"):
        read("a1111", "Euler", "Karas")
    with pytest.raises(UnknownNameError, match="Euler"):
        read("a1111", "Eular")
    with pytest.raises(UnknownNameError, match="comfyui"):
        read("comfy", "euler")
    with pytest.raises(UnknownNameError, match="gits_cifar10"):
        understood("euler", "gits")  # lists that their authors did not publish
    with pytest.raises(UnknownNameError):
        read("sd_cpp", "euler", "bong_tangent")


def pairs() -> list[Pair]:
    """Every row that diffusers has a class for, on schedules that its flags can mean and on some that they cannot."""
    rows = {row for _, _, row, _ in SOLVERS} | {row.name for row in SAMPLERS.values() if row.names.diffusers}
    laid: list[dict[str, float | str]] = [{}, {"spare": 1.0}, {"rounded": 1.0}, {"spare": 1.0, "rounded": 1.0}]
    laid += [{"offset": 1.0}, {"last": "trained"}]
    grids = [None, *SCHEDULES]
    return [Pair(row, grid, {}, options) for row in sorted(rows) for grid in grids for options in laid]


def test_what_is_written_for_diffusers_is_read_again_and_its_class_knows_the_flags() -> None:
    done = set()
    for pair in pairs():
        try:
            name, flags = write_diffusers(pair)
        except RequestError:
            continue
        assert read_diffusers(name, flags) == pair
        taken = inspect.signature(getattr(diffusers, name).__init__).parameters
        assert set(flags) <= set(taken), (name, flags)
        done.add((pair.sampler, pair.schedule))
    wanted = {("euler", "karras"), ("euler", "trailing"), ("dpmpp_2m", "beta_sigma"), ("ddim", "leading")}
    wanted |= {("unipc_bh2", "exponential"), ("dpmpp_2m_sde_heun", "karras"), ("dpmpp_2m_sde", None)}
    assert wanted <= done
    assert {sampler for sampler, _ in done} >= {row.name for row in SAMPLERS.values() if row.names.diffusers}


def test_defaults_of_the_classes_whose_flags_choose_are_their_own() -> None:
    for name, flags, _, _ in {line[0]: line for line in reversed(SOLVERS)}.values():
        taken = inspect.signature(getattr(diffusers, name).__init__).parameters
        assert {flag: taken[flag].default for flag in flags} == flags


def test_a_class_with_flags_is_understood() -> None:
    text = "DPMSolverMultistepScheduler(algorithm_type='sde-dpmsolver++', use_karras_sigmas=True)"
    assert understood(text) == Pair("dpmpp_2m_sde", "karras")
    assert understood("EulerDiscreteScheduler(timestep_spacing='trailing')") == Pair("euler", "trailing")
    assert understood("DDIMScheduler()", "karras") == Pair("ddim", "karras")
    assert read_diffusers("DPMSolverMultistepScheduler", {"timestep_spacing": "linspace"}).laid == {
        "spare": 1.0,
        "rounded": 1.0,
    }
    assert read_diffusers("EulerDiscreteScheduler", {"timestep_spacing": "linspace"}).laid == {}
    leading = {"timestep_spacing": "leading", "steps_offset": 1}
    assert read_diffusers("DDIMScheduler", leading).laid == {"offset": 1.0}
    # SDXL's file: the grid is spread over the whole path, not over the part that "leading" visits.
    assert read_diffusers("EulerDiscreteScheduler", {**leading, "use_karras_sigmas": True}) == Pair("euler", "karras")
    assert solver("DPMSolverMultistepScheduler", {"solver_order": 1}) == ("ddim", {})


WRONG = {
    "EularScheduler()": "EulerDiscreteScheduler",
    "EulerDiscreteScheduler(karras=True)": "use_karras_sigmas",
    "EulerDiscreteScheduler(use_karras_sigmas=True, use_beta_sigmas=True)": "it can have one",
    "EulerAncestralDiscreteScheduler(use_karras_sigmas=True)": "flag of EulerAncestral",
    "EulerDiscreteScheduler(timestep_spacing='wide')": "timestep_spacing",
    "EulerDiscreteScheduler(final_sigmas_type='one')": "zero or sigma_min",
    "DPMSolverSinglestepScheduler(timestep_spacing='linspace')": "flag of DPMSolverSinglestep",
    "DPMSolverMultistepScheduler(solver_order=3)": "name a sampler: adams3 ",
    "DPMSolverMultistepScheduler(algorithm_type='sde-dpmsolver++', solver_order=3)": "name a sampler: adams3_sde ",
    "EulerDiscreteScheduler(use_karras_sigmas='False')": "use_karras_sigmas .* is True or False, not 'False'",
    "DDIMScheduler(timestep_spacing='leading', steps_offset='x')": "steps_offset .* is a whole number, not 'x'",
    "LCMScheduler(original_inference_steps=2.5)": "is a whole number, not 2.5",
    "EulerDiscreteScheduler(": "no class with flags",
    "EulerDiscreteScheduler(1)": "no class with flags",
    "EulerDiscreteScheduler(**x)": "no class with flags",
    "EulerDiscreteScheduler(x=open('y'))": "no class with flags",
    "a.b(c=1)": "no class with flags",
}


@pytest.mark.parametrize("text", WRONG)
def test_classes_and_flags_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(RequestError, match=WRONG[text]):
        understood(text)
