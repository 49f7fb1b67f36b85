"""CFG++ as a user meets it: its own default scale, both branches at every scale, and refusals."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch

from safelight.core.samplers.table import SAMPLERS
from safelight.core.steps import ratio
from safelight.errors import RequestError
from safelight.generate.pipe import Drawn
from safelight.generate.request import Request
from tests.generate.scenes import PROMPT, mask, picture, pipe

NAMES = sorted(name for name, row in SAMPLERS.items() if row.uncond)


def drawn(**asked: Any) -> Drawn:
    (one,) = pipe().draw(Request(PROMPT, **{"seed": 3, "sampler": "euler_cfg_pp", "steps": 3, **asked}))
    return one


@pytest.mark.parametrize("name", NAMES)
def test_both_branches_are_asked_even_at_guidance_one(name: str) -> None:
    asked = {"sampler": name, "guidance": 1.0}
    assert not torch.equal(drawn(**asked).latents, drawn(**asked, negative="a red hat").latents)
    assert pipe().settle(Request(PROMPT, **asked)).rows == 2
    assert pipe().settle(Request(PROMPT, guidance=1.0)).rows == 1


def test_the_models_own_guidance_is_translated_and_ones_own_is_not() -> None:
    plain = pipe().settle(Request(PROMPT)).guidance
    for steps in (1, 5, 20, 50):
        settled = pipe().settle(Request(PROMPT, sampler="euler_cfg_pp", steps=steps))
        means = [1.0 / (1.0 - ratio(s, t)) for s, t in pairwise(settled.levels)]
        assert settled.guidance * sum(means) / len(means) == pytest.approx(plain, rel=1e-2)
    assert pipe().settle(Request(PROMPT, sampler="euler_cfg_pp", guidance=5.0)).guidance == 5.0


def test_kept_pixels_come_back_and_a_recipe_draws_the_same_again() -> None:
    asked = {"image": picture(), "mask": mask(), "strength": 1.0}
    one, again = drawn(**asked), drawn(**asked)
    assert torch.equal(one.latents, again.latents)
    assert one.image.crop((16, 0, 32, 32)).tobytes() == picture().crop((16, 0, 32, 32)).tobytes()


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(RequestError, match=r"CFG\+\+ guides at every step"):
        drawn(interval=(0.3, 5.0))
    with pytest.raises(RequestError, match="rescale does nothing at guidance 1"):
        drawn(guidance=1.0, rescale=0.5)
