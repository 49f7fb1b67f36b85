"""Where a picture's noise comes from: chosen, recorded, drawn again, and refused where it would be a guess."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch

from safelight.core.kinds import KINDS
from safelight.core.path import vp_scaled_linear
from safelight.core.samplers.table import SAMPLERS
from safelight.core.schedule import SCHEDULES
from safelight.errors import ImageError, RequestError, SafelightError
from safelight.generate import image as task
from safelight.generate.pipe import Drawn
from safelight.generate.recipe import Recipe
from safelight.generate.reproduce import differing, redraw
from safelight.generate.request import Request
from safelight.generate.settle import draws
from tests.generate.scenes import PROMPT, mask, picture, pipe


def drawn(**asked: Any) -> Drawn:
    (one,) = pipe().draw(Request(PROMPT, **{"seed": 3, "sampler": "euler_ancestral", "steps": 3, **asked}))
    return one


def same(a: Drawn, b: Drawn) -> bool:
    return torch.equal(a.latents, b.latents)


@pytest.mark.parametrize("name", sorted(name for name, row in SAMPLERS.items() if row.stochastic))
def test_a_sampler_that_draws_takes_its_rows_kind_and_either_of_ours(name: str) -> None:
    # Restart draws on its way up only, and that a path does afresh too.
    for kind in (None, "fresh", *(("path",) if name != "restart_heun" else ())):
        settled = pipe().settle(Request(PROMPT, sampler=name, steps=6, schedule="simple", noise=kind))
        assert settled.noise == (kind or SAMPLERS[name].noise)


def test_a_sampler_that_draws_nothing_is_recorded_as_fresh_whatever_its_row_says() -> None:
    assert pipe().settle(Request(PROMPT, sampler="euler")).noise == "fresh"
    still = Request(PROMPT, sampler="dpmpp_2m_sde", options={"eta": 0.0})
    assert SAMPLERS["dpmpp_2m_sde"].noise == "path" and pipe().settle(still).noise == "fresh"


def test_each_kind_is_another_picture_that_is_drawn_again_from_its_recipe() -> None:
    pictures = [drawn(noise=kind) for kind in KINDS] + [drawn(noise="a1111", ensd=31337)]
    for one in pictures:
        recipe = Recipe.from_json(one.recipe.json())
        again = redraw(recipe, pipe())
        assert same(one, again) and list(differing(recipe, again.recipe)) == []
    # A1111 goes on with its generator as diffusers does.
    assert same(pictures[2], pictures[6]) and same(pictures[3], pictures[7])
    assert len({each.latents.numpy().tobytes() for each in pictures}) == len(pictures) - 2


def test_a_variation_is_drawn_again_and_goes_from_one_picture_to_another() -> None:
    for kind in ("fresh", "path"):
        one, other = drawn(noise=kind), drawn(noise=kind, seed=8)
        assert same(drawn(noise=kind, variation=(8, 0.0)), one)
        assert same(drawn(noise=kind, variation=(8, 1.0)), other)
        mixed = drawn(noise=kind, variation=(8, 0.25))
        assert not same(mixed, one) and not same(mixed, other)
        recipe = Recipe.from_json(mixed.recipe.json())
        again = redraw(recipe, pipe())
        assert same(mixed, again) and list(differing(recipe, again.recipe)) == []


def test_a_variation_of_an_image_begins_between_two_noises() -> None:
    asked = {"image": picture(), "mask": mask(), "strength": 0.8, "sampler": "ddim", "steps": 4}
    one, other, mixed = drawn(**asked), drawn(**asked, seed=8), drawn(**asked, variation=(8, 0.5))
    assert same(drawn(**asked, variation=(8, 1.0)), other)
    assert not same(mixed, one) and not same(mixed, other)


def test_variations_of_one_picture_keep_its_seed_and_count_their_own() -> None:
    series = Request(PROMPT, seed=3, variation=(2**40, 0.2)).series(3)
    assert [(one.seed, one.variation) for one in series] == [(3, (2**40 + i, 0.2)) for i in range(3)]
    assert [one.seed for one in Request(PROMPT, seed=3, variation=(9, 0.0)).series(2)] == [3, 4]
    together = pipe().draw(Request(PROMPT, seed=3, variation=(8, 0.2), sampler="ddpm", steps=3, noise="path"), 3)
    for i, one in enumerate(together):
        assert same(one, drawn(variation=(8 + i, 0.2), sampler="ddpm", noise="path"))


def test_variations_read_their_prompt_once(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[object] = []
    ours = task.read
    monkeypatch.setattr(task, "read", lambda *asked: read.append(asked) or ours(*asked))
    pipe().draw(Request(PROMPT, seed=3, variation=(8, 0.2), steps=1), 3)
    assert len(read) == 1


def test_strangers_of_other_kinds_change_nothing() -> None:
    requests = [
        Request(PROMPT, seed=3, sampler="euler_ancestral", steps=3, noise=kind) for kind in ("path", "comfyui", "a1111")
    ]
    for together, kind in zip(pipe().draw_many(requests), ("path", "comfyui", "a1111")):
        assert same(together, drawn(noise=kind))


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"noise": "brown"}, "unknown noise 'brown'"),
    ({"noise": "path", "sampler": "euler"}, "noise 'path' does nothing: euler draws no noise"),
    ({"noise": "a1111", "ensd": 2, "sampler": "euler"}, "ensd does nothing"),
    ({"ensd": 2}, "ensd belongs to noise 'a1111' or noise 'a1111-gpu', not to noise 'fresh'"),
    ({"noise": "comfyui", "image": picture()}, "for pictures from text only"),
    ({"noise": "diffusers", "sampler": "dpmpp_2m_sde"}, "other programs draw for dpmpp_2m_sde is not known"),
    ({"noise": "a1111", "sampler": "dpmpp_sde"}, "other programs draw for dpmpp_sde is not known"),
    ({"noise": "a1111", "sampler": "euler", "options": {"s_churn": 2}}, "other programs draw for euler is not known"),
    ({"noise": "comfyui", "variation": (3, 0.5)}, "knows no variations"),
    ({"variation": (3, 1.5)}, "between 0 and 1, not 1.5"),
    ({"variation": (2**64, 0.5)}, "64 bits"),
]


@pytest.mark.parametrize(("asked", "words"), REFUSED, ids=[words for _, words in REFUSED])
def test_noise_that_would_be_a_guess_or_do_nothing_is_refused(asked: dict[str, Any], words: str) -> None:
    with pytest.raises(SafelightError, match=words) as caught:
        pipe().settle(Request(PROMPT, **{"sampler": "euler_ancestral", **asked}))
    assert isinstance(caught.value, RequestError)


def test_recipes_from_before_there_were_kinds_mean_fresh_noise() -> None:
    for sampler in ("euler_ancestral", "dpmpp_2m_sde"):
        raw = json.loads(drawn(sampler=sampler, noise="fresh").recipe.json())
        for name in ("noise", "ensd", "variation"):
            del raw[name]
        assert same(redraw(Recipe.from_json(json.dumps(raw)), pipe()), drawn(sampler=sampler, noise="fresh"))


def test_a_damaged_kind_or_variation_is_an_error_of_the_picture() -> None:
    raw = json.loads(drawn().recipe.json())
    for name, value in (("noise", 3), ("ensd", "x"), ("variation", 7), ("variation", [1, "x"]), ("variation", [1])):
        with pytest.raises(ImageError, match="damaged"):
            Recipe.from_json(json.dumps({**raw, name: value}))


def test_the_text_for_other_programs_says_what_they_need() -> None:
    told = replace(drawn().recipe, noise="a1111-gpu", ensd=31337, variation=(77, 0.25)).parameters()
    for part in ("Variation seed: 77", "Variation seed strength: 0.25", "ENSD: 31337", "RNG: NV"):
        assert f"{part}, " in told
    plain = drawn(noise="comfyui-gpu").recipe.parameters()
    assert "RNG: CPU" in plain and "Variation" not in plain and "ENSD" not in plain


def test_a_run_is_asked_beforehand_for_which_steps_it_draws() -> None:
    path = vp_scaled_linear()
    levels = SCHEDULES["simple"](path, 4)
    assert list(draws(SAMPLERS["euler_ancestral"].bind(path), levels)) == list(pairwise(levels))[:-1]
    assert list(draws(SAMPLERS["euler"].bind(path), levels)) == []
