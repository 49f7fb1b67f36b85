"""What can be asked for, and what each wrong question is told."""

from __future__ import annotations

import math
from typing import Any

import pytest

from safelight.errors import PromptError, RequestError, SafelightError, UnknownNameError
from safelight.generate.request import Request
from tests.generate.scenes import PROMPT, mask, picture, pipe

WRONG: list[tuple[dict[str, Any], str]] = [
    ({"steps": 0}, "between 1 and 1000, not 0"),
    ({"steps": 1001}, "between 1 and 1000, not 1001"),
    ({"guidance": math.nan}, "finite number, not nan"),
    ({"guidance": math.inf}, "finite number, not inf"),
    ({"rescale": 1.5}, "between 0 and 1, not 1.5"),
    ({"rescale": math.nan}, "between 0 and 1, not nan"),
    ({"seed": 2**64}, "does not fit in 64 bits"),
    ({"size": (0, 32)}, "not 0x32"),
    ({"size": (32, 8200)}, "not 32x8200"),
    ({"strength": 0.5}, "needs an image"),
    ({"mask": mask()}, "needs an image"),
    ({"image": picture(), "strength": 1.01}, "between 0 and 1, not 1.01"),
    ({"image": picture(), "strength": math.nan}, "between 0 and 1, not nan"),
    ({"image": picture(), "mask": mask(16)}, "16x16 pixels and the image 32x32"),
    ({"skip": -1}, "0 or more"),
    ({"rows": 65}, "between 0 and 64, not 65"),
    ({"prompt": "a \0 b"}, "no text"),
    ({"negative": "a \udcff b"}, "no text"),
]


@pytest.mark.parametrize(("asked", "words"), WRONG, ids=[words for _, words in WRONG])
def test_a_request_that_cannot_be_is_refused_with_what_is_wrong(asked: dict[str, Any], words: str) -> None:
    with pytest.raises(RequestError, match=words):
        Request(**{"prompt": PROMPT, **asked})


def test_bytes_that_are_no_text_are_an_error_of_the_prompt() -> None:
    with pytest.raises(PromptError):
        Request("\udcff")


UNFIT: list[tuple[dict[str, Any], str]] = [
    ({"sampler": "eular"}, "unknown sampler 'eular'; the nearest known: euler"),
    ({"schedule": "karas"}, "unknown schedule 'karas'; the nearest known: karras"),
    ({"sampler": "DPM++ 2M Karras", "schedule": "simple"}, "give one"),
    ({"options": {"etta": 0.5}}, "unknown option of ddim 'etta'; the nearest known: eta"),
    ({"options": {"eta": "much"}}, "option eta of ddim is a number, not 'much'"),
    ({"options": {"eta": math.nan}}, "is a number, not nan"),
    ({"options": {"eta": -1}}, "option eta of ddim must lie between 0 and 10, not -1"),
    ({"sampler": "dpmpp_2m_sde", "options": {"eta": "inf"}}, "between 0 and 10, not inf"),
    (
        {"sampler": "euler", "options": {"s_churn": -100}},
        "option s_churn of euler must lie between 0 and inf, not -100",
    ),
    ({"sampler": "euler_ancestral", "options": {"s_noise": -0.1}}, "between 0 and 10, not -0.1"),
    ({"sampler": "heun", "options": {"s_churn": 1, "s_tmin": 3, "s_tmax": 2}}, "s_tmin of heun is above s_tmax"),
    ({"options": {"s_noise": 0.9}}, "option s_noise of ddim does nothing at eta 0; raise that or leave it out"),
    (
        {"sampler": "euler", "options": {"s_churn": 1, "s_tmin": 900}},
        "option s_churn of euler does nothing: no level below pure noise",
    ),
    (
        {"sampler": "euler", "options": {"s_churn": 1}, "noise": "path", "schedule": "simple"},
        "noise 'path' does nothing: euler draws no noise on its way down",
    ),
    (
        {"sampler": "restart_heun", "noise": "path", "schedule": "simple", "steps": 9},
        "noise 'path' does nothing: restart_heun draws no noise on its way down",
    ),
    ({"sampler": "euler", "options": {"s_tmin": 0.5}}, "option s_tmin of euler does nothing at s_churn 0"),
    ({"sampler": "dpmpp_2m", "options": {"rule": "trapezium"}}, "unknown rule"),
    ({"negative": "green", "guidance": 1.0}, "negative prompt does nothing at guidance 1"),
    ({"rescale": 0.5, "guidance": 1.0}, "rescale does nothing at guidance 1"),
    ({"image": picture(), "strength": 0.0}, "no step to run"),
    ({"image": picture(), "strength": 0.2, "steps": 4}, "raise the strength or the steps"),
    ({"skip": 3}, "3 layers cannot be skipped; this model's text encoder allows 2"),
    ({"size": (32, 33)}, "height 33 is not a multiple of 4"),
]


@pytest.mark.parametrize(("asked", "words"), UNFIT, ids=[words for _, words in UNFIT])
def test_what_does_not_fit_the_model_is_refused_with_what_to_do(asked: dict[str, Any], words: str) -> None:
    with pytest.raises(SafelightError, match=words.replace("+", r"\+")) as caught:
        pipe().draw(Request(PROMPT, **asked))
    assert isinstance(caught.value, RequestError | UnknownNameError)
    assert "\n" not in str(caught.value)


def test_a_series_counts_its_seeds_and_stays_within_64_bits() -> None:
    assert [one.seed for one in Request(PROMPT, seed=-2).series(3)] == [-2, -1, 0]
    for count in (0, 100_001):
        with pytest.raises(RequestError, match="number of pictures"):
            Request(PROMPT).series(count)
    with pytest.raises(RequestError, match="64 bits"):
        Request(PROMPT, seed=2**64 - 1).series(2)


def test_the_largest_seed_of_other_programs_draws() -> None:
    (drawn,) = pipe().draw(Request(PROMPT, seed=2**64 - 1, steps=2))
    assert drawn.recipe.seed == 2**64 - 1


def test_options_that_do_something_pass_and_so_do_those_left_as_they_are() -> None:
    for sampler, options in (
        ("ddim", {"eta": 0.5, "s_noise": 0.9}),
        ("ddim", {"s_noise": 1.0}),
        ("ddpm", {"s_noise": 0.9}),
    ):
        assert pipe().settle(Request(PROMPT, sampler=sampler, options=options)).sampler.options["s_noise"]


@pytest.mark.parametrize("name", ["Euler a", "k_euler_ancestral", "EulerAncestralDiscreteScheduler"])
def test_samplers_are_known_by_the_names_of_other_programs(name: str) -> None:
    assert pipe().settle(Request(PROMPT, sampler=name)).sampler.sampler.name == "euler_ancestral"


def test_an_old_name_of_two_is_a_sampler_and_a_schedule() -> None:
    settled = pipe().settle(Request(PROMPT, sampler="DPM++ 2M Karras"))
    assert (settled.sampler.sampler.name, settled.schedule) == ("dpmpp_2m", "karras")


def test_numbers_may_come_as_text_as_the_command_line_has_them() -> None:
    settled = pipe().settle(Request(PROMPT, sampler="euler", options={"s_churn": "0.5", "s_tmax": "inf"}))
    assert settled.sampler.options["s_churn"] == 0.5 and settled.sampler.options["s_tmax"] == math.inf


def test_what_is_left_open_is_the_models_own() -> None:
    settled = pipe().settle(PROMPT)
    assert (settled.request.steps, settled.guidance, settled.size) == (4, 3.0, (32, 32))
    assert (settled.sampler.sampler.name, settled.schedule, settled.task) == ("ddim", "model", "text")
