"""A set of views begins with the noise of its views, and with as much of given ones as its first level keeps."""

from __future__ import annotations

import torch

from safelight.core.guidance import Unguided
from safelight.core.path import vp_scaled_linear
from safelight.core.samplers.table import find
from safelight.core.schedule import trailing
from safelight.multiview.network import Conditions
from safelight.multiview.sets import Apart, run

PATH = vp_scaled_linear()


def test_the_start_is_what_the_first_level_makes_of_given_views_and_noise() -> None:
    noise, levels = Apart(3, (4, 2, 2), range(3)), trailing(PATH, 4)
    told, begun = {"cond": Conditions(torch.zeros(1, 1, 8))}, torch.randn(1, 4, 3, 2, 2)
    for first in range(4):
        top = levels[first]
        given = (noise, levels[first:], find("ddim").bind(PATH), told, Unguided())
        assert torch.equal(run(*given).x, top.sigma * noise.start())
        assert torch.equal(run(*given, begun=begun).x, top.alpha * begun + top.sigma * noise.start())
