"""The driver's questions about views, answered by a network that draws them.

Axes: W rows of a call, [W, Z, V, h, w] latents: a set of views is one state, as a film is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from safelight.core.path import Level
from safelight.core.prediction import denoised_rows
from safelight.core.sample import Evaluate

Predict = Callable[[Tensor, Tensor, Any], Tensor]
"""(noisy views [W, Z, V, h, w], labels [W], a record of W rows) -> the network's output, like the views."""


def evaluator(predict: Predict, prediction: str, like: Tensor) -> Evaluate:
    """What answers `safelight.core.sample`: rows of views, one level and one condition each -> x0.

    Args:
        prediction: what the network's output is, see `safelight.core.prediction`.
        like: a weight of the network: of its device and number format. The state keeps its own.
    """

    @torch.no_grad()
    def evaluate(x: Tensor, levels: Sequence[Level], conds: Sequence[Any]) -> Tensor:
        seen = x.to(like.device, like.dtype)
        told = conds[0].cat(conds[1:]).to(seen)
        t = torch.tensor([level.t for level in levels], dtype=torch.float32, device=like.device)
        return denoised_rows(prediction, x, predict(seen, t, told).to(x.device, x.dtype), levels)

    return evaluate
