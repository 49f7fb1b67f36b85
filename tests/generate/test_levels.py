"""Which levels a request visits, what its recipe keeps of them, and that they come back from it."""

from __future__ import annotations

import math
from typing import Any

import pytest

from safelight.core.path import CLEAN
from safelight.core.schedule import SCHEDULES
from safelight.errors import RequestError
from safelight.generate.levels import visit
from safelight.generate.recipe import Recipe
from safelight.generate.reproduce import differing, request_of
from safelight.generate.request import Request
from tests.generate.scenes import PROMPT, picture, pipe

PATH = pipe().model.path
ASKED: dict[str, dict[str, Any]] = {
    "a row with options": {"schedule": "karras", "schedule_options": {"rho": 5, "sigma_min": "0.1"}, "steps": 4},
    "a transform of the model's own": {"schedule_options": {"shift": 0.7}, "steps": 4},
    "a kept noise": {"schedule": "trailing", "schedule_options": {"last": "0.05"}, "steps": 4},
    "a first level": {"schedule": "karras", "schedule_options": {"first": 2.0}, "steps": 9, "image": picture()},
    "a list of sigmas": {"schedule": "14.6,3,0.5,0"},
    "a list of timesteps": {"schedule": "timesteps: 900,500,100"},
    "a list of levels": {"schedule": [PATH.level(900), PATH.level(300), CLEAN]},
    "a list over an image": {"schedule": "14.6,6,3,0.5,0", "image": picture(), "strength": 0.5},
    "a class with flags": {"sampler": "DPMSolverMultistepScheduler(solver_type='heun', use_karras_sigmas=True)"},
    "a class whose flags lay the grid": {"sampler": "DDIMScheduler(timestep_spacing='leading', steps_offset=1)"},
    "a published list": {"schedule": "ays", "schedule_options": {"model": "sd15"}, "steps": 10},
}


@pytest.mark.parametrize("case", ASKED)
def test_levels_come_back_from_the_recipe_to_the_last_bit(case: str) -> None:
    request = Request(PROMPT, **ASKED[case])
    settled = pipe().settle(request)
    recipe = Recipe.from_json(pipe().recipe(settled).json())
    again = pipe().settle(request_of(recipe, request.image))
    assert again.levels == settled.levels
    assert again.request.steps == settled.request.steps
    assert list(differing(recipe, pipe().recipe(again))) == []


def test_a_request_visits_what_the_schedule_lays() -> None:
    options = {"rho": 5.0, "sigma_min": 0.1}
    settled = pipe().settle(Request(PROMPT, **ASKED["a row with options"]))
    assert settled.levels == SCHEDULES["karras"](PATH, 4, options)
    assert settled.laid == {**SCHEDULES["karras"].whole, **options}
    assert [level.t for level in pipe().settle(Request(PROMPT, schedule="timesteps: 900,500,100")).levels[:-1]] == [
        *(900, 500, 100)
    ]


def test_a_first_level_is_where_an_image_begins_and_the_steps_stay_those_of_the_whole() -> None:
    settled = pipe().settle(Request(PROMPT, **ASKED["a first level"]))
    assert math.isclose(PATH.clock(settled.levels[0]), 2.0)
    assert settled.request.steps == 9 and 1 < len(settled.levels) < 10
    assert settled.request.strength is None


def test_flags_of_a_class_change_the_samplers_options() -> None:
    settled = pipe().settle(Request(PROMPT, **ASKED["a class with flags"]))
    assert (settled.sampler.sampler.name, settled.schedule) == ("dpmpp_2m", "karras")
    assert settled.sampler.options["rule"] == "heun"
    assert pipe().settle(Request(PROMPT, **ASKED["a class whose flags lay the grid"])).laid["offset"] == 1.0


def test_a_list_says_how_many_steps_there_are() -> None:
    assert pipe().settle(Request(PROMPT, schedule="14.6,3,0.5,0")).request.steps == 3
    over = pipe().settle(Request(PROMPT, **ASKED["a list over an image"]))
    assert (over.request.steps, len(over.levels)) == (4, 3)


def test_the_customary_text_names_the_schedule_as_a1111_does() -> None:
    def word(**asked: Any) -> str:
        text = pipe().recipe(pipe().settle(Request(PROMPT, **asked))).parameters()
        return text.partition("Schedule type: ")[2].partition(", ")[0]

    assert word() == "Automatic"
    assert word(schedule="sgm_uniform") == "SGM Uniform"
    assert word(schedule="karras") == "Karras"
    assert word(schedule="karras", schedule_options={"rho": 5}) == "karras"  # which A1111 has no word for
    assert word(schedule="kl_optimal", schedule_options={"spare": 1, "last": "trained"}) == "KL Optimal"
    assert word(schedule="trailing") == "trailing"


UNFIT: list[tuple[dict[str, Any], str]] = [
    ({"schedule": []}, "not 3 numbers"),
    ({"schedule": [CLEAN]}, "two levels or more"),
    ({"schedule": [PATH.level(3), PATH.level(900), CLEAN]}, "noise must fall"),
    ({"schedule": "14,2,0", "steps": 3}, "leave steps out"),
    ({"schedule": "14,2,0", "sampler": "DPM++ 2M Karras"}, "levels are listed"),
    ({"schedule": "karras", "sampler": "EulerDiscreteScheduler(timestep_spacing='trailing')"}, "give one"),
    ({"schedule": "ays"}, "say for which model"),
    ({"schedule": "gits_cifar10"}, "sigma 80 is not between"),
    ({"schedule_options": {"first": 3.0}}, "give an image"),
    ({"schedule_options": {"first": 3.0}, "image": picture(), "strength": 0.5}, "give one"),
    ({"schedule_options": {"rho": 3.0}}, "option of schedule model"),
    ({"schedule": "lcm", "steps": 60}, "between 1 and 50"),
]


@pytest.mark.parametrize(("asked", "words"), UNFIT, ids=[words for _, words in UNFIT])
def test_levels_that_cannot_be_are_refused(asked: dict[str, Any], words: str) -> None:
    with pytest.raises(RequestError, match=words):
        visit(pipe().model, Request(PROMPT, **asked), asked.get("steps", 20))
