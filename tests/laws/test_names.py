"""Laws of the names of samplers and schedules."""

from __future__ import annotations

import inspect

import pytest
import torch

from safelight.core import schedule
from safelight.core.path import vp_scaled_linear
from safelight.core.samplers.table import SAMPLERS, find, split
from safelight.errors import RequestError, UnknownNameError


def test_every_alias_finds_its_own_row_in_any_spelling() -> None:
    owners: dict[str, str] = {}
    for row in SAMPLERS.values():
        for alias in (row.name, *row.aliases):
            assert owners.setdefault(alias, row.name) == row.name
            for spelling in (alias, alias.lower(), alias.upper(), alias.replace(" ", "_"), f" {alias} "):
                assert find(spelling) is row, spelling


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("Euler a", "euler_ancestral"),
        ("k_euler_ancestral", "euler_ancestral"),
        ("euler_a", "euler_ancestral"),
        ("DPM++ 2M", "dpmpp_2m"),
        ("dpm++2m", "dpmpp_2m"),
        ("DPM++ 2M SDE", "dpmpp_2m_sde"),
        ("HeunDiscreteScheduler", "heun"),
        ("DDIM", "ddim"),
    ],
)
def test_names_of_other_programs_are_known(spelling: str, name: str) -> None:
    assert find(spelling).name == name


@pytest.mark.parametrize(
    ("spelling", "name", "grid"),
    [
        ("DPM++ 2M Karras", "dpmpp_2m", "karras"),
        ("DPM++ 2M SDE Karras", "dpmpp_2m_sde", "karras"),
        ("DPM++ 2M SDE Heun Exponential", "dpmpp_2m_sde_heun", "exponential"),
        ("Euler a", "euler_ancestral", None),
        ("Euler SGM Uniform", "euler", "sgm_uniform"),
        ("euler_ancestral", "euler_ancestral", None),
        ("heun_karras", "heun", "karras"),
    ],
)
def test_a_name_that_holds_a_schedule_is_split(spelling: str, name: str, grid: str | None) -> None:
    row, found = split(spelling)
    assert (row.name, found) == (name, grid)


def test_unknown_names_list_the_nearest_known() -> None:
    with pytest.raises(UnknownNameError, match="euler_a"):
        find("euler_b")
    with pytest.raises(UnknownNameError, match=r"DPM|dpm"):
        split("dpmpp 2 Karras")
    with pytest.raises(UnknownNameError):
        find("DPM 2M")  # the pluses are part of the name
    with pytest.raises(UnknownNameError, match="karras"):
        schedule.find("karas")


def test_schedules_are_found_in_other_spellings() -> None:
    assert schedule.find("SGM Uniform") == "sgm_uniform"
    assert schedule.find("normal") == "linspace"
    assert schedule.find("Karras") == "karras"
    owners: dict[str, str] = {}
    for row in schedule.SCHEDULES.values():
        for alias in (row.name, *row.names.all):
            assert owners.setdefault(alias, row.name) == row.name, "no name means two grids"
            for spelling in (alias, alias.upper(), alias.replace("_", " "), f" {alias} "):
                assert schedule.find(spelling) == row.name, spelling


def test_a_row_names_every_option_of_its_function() -> None:
    for row in SAMPLERS.values():
        taken = inspect.signature(row.function).parameters.values()
        # What a partial settles makes the row; it is no option of it.
        settled = {"path", *getattr(row.function, "keywords", ())}
        own = {p.name for p in taken if p.kind is p.KEYWORD_ONLY and p.name not in settled}
        assert own == set(row.options), row.name


def test_an_option_that_a_sampler_lacks_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="option of heun"):
        SAMPLERS["heun"].bind(vp_scaled_linear(), {"eta": 1.0})


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("adams3", {"rule": "trapezoid"}),
        ("lms", {"over": "time"}),
        ("lms", {"rule": "bh1"}),
        ("lms", {"final": "never"}),
        ("sa_solver", {"mode": "pepe"}),
        ("sa_solver", {"window": "middle"}),
        ("sa_solver_p2c2", {"window": "middle"}),
        ("unipc", {"rule": "bh3"}),
        ("ipndm_v", {"over": "steps"}),
        ("deis", {"over": "log"}),
    ],
)
def test_words_that_an_option_does_not_know_are_refused_before_the_first_evaluation(
    name: str, options: dict[str, str]
) -> None:
    path = vp_scaled_linear()
    with pytest.raises(RequestError, match=next(iter(options))):
        next(SAMPLERS[name].bind(path, options)(torch.zeros(1), schedule.karras(path, 3), lambda s, t: torch.zeros(1)))


def test_orders_are_whole_numbers_from_1_to_4() -> None:
    for order in (0, 2.5, 5):
        with pytest.raises(RequestError, match="order"):
            SAMPLERS["adams3"].bind(vp_scaled_linear(), {"order": order})
    assert SAMPLERS["adams3"].bind(vp_scaled_linear(), {"order": 2.0}).options["order"] == 2


def test_numbers_of_options_have_a_range_and_are_no_words() -> None:
    for row in SAMPLERS.values():
        for name, value in row.options.items():
            if not isinstance(value, str):
                for wrong in ("much", float("nan"), -1e300):
                    with pytest.raises(RequestError, match=f"option {name} of {row.name}"):
                        row.bind(vp_scaled_linear(), {name: wrong})
    for name in ("er_sde3", "dpm_singlestep", "dpm_adaptive"):
        with pytest.raises(RequestError, match="order of"):
            next(
                SAMPLERS[name].bind(vp_scaled_linear(), {"order": 4})(
                    torch.zeros(1), schedule.karras(vp_scaled_linear(), 3), lambda s, t: torch.zeros(1)
                )
            )


def test_a_window_for_noise_does_nothing_without_noise() -> None:
    assert SAMPLERS["sa_solver"].idle({"window": "whole"}) is None
    assert "window" in str(SAMPLERS["sa_solver"].idle({"window": "whole", "eta": 0.0}))
