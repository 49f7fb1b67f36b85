"""More views than a network is to draw at once: at every step they are parted anew, and each group is drawn as a set.

A view reads a few others at a step, and other ones at the next, so that all come to agree; a call costs what so few
views cost. Axes: W rows, V views, [W, Z, V, h, w] latents. Sources: Watson et al. 2210.04628 (3DiM), stochastic
conditioning: what a view reads is drawn anew at every step; Taubner et al. 2412.12093 (CAP4D): so are those that are
drawn together.
"""

from __future__ import annotations

import torch
from torch import Tensor

from safelight.core.noise import key
from safelight.errors import RequestError
from safelight.multiview.answer import Predict
from safelight.multiview.network import Conditions

GRAIN = 1e-3
"""Labels closer than this have the same groups: a last bit of another machine's logarithm must not matter."""


def groups(seed: int, label: float, views: int, slots: int) -> list[list[int]]:
    """Numbers of views, each once, by chance in as few groups as there can be, of sizes that differ by 1 at most.

    A function of its arguments alone.

    Args:
        label: of the level, as the network calls it. slots: the most views of a group, 1 and up.
    """
    chance = torch.Generator().manual_seed(key(seed, "slots", round(label / GRAIN)))
    parts = torch.randperm(views, generator=chance).tensor_split(-(-views // slots))
    return [sorted(part.tolist()) for part in parts]


def parted(predict: Predict, seed: int, slots: int) -> Predict:
    """The same network, asked about at most so many views at once; about no more than that, it is the network itself.

    Args:
        seed: of the set: another set is asked by another function.

    Raises:
        RequestError: in a call, rows of several levels, whose views would be parted in several ways.
    """

    def asked(x: Tensor, t: Tensor, told: Conditions) -> Tensor:
        views = x.shape[2]
        if views <= slots:
            return predict(x, t, told)
        label, *others = t.tolist()
        if any(other != label for other in others):
            raise RequestError("views that are parted into groups are drawn one set after the other, not together")
        said: dict[int, Tensor] = {}
        for group in groups(seed, label, views, slots):
            at = torch.tensor(group, device=x.device)
            said |= zip(group, predict(x[:, :, at], t, told.only(at)).unbind(2))
        return torch.stack([said[view] for view in range(views)], 2)

    return asked
