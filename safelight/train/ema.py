"""An average of the weights over the steps, which draws better pictures than the last weights do.

Source: Polyak & Juditsky 1992; the warm-up (1 + step) / (10 + step) as in Tan & Le 2019's released code.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Average:
    """Exponential moving average of a module's parameters, in their own format and on their own device.

    Args:
        module: what is averaged; its present weights are the start.
        decay: weight of the past per step, 0 (the average is the present) to below 1.

    Attributes:
        shadow: the averaged tensors by the names of the parameters.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.shadow: dict[str, Tensor] = {name: p.detach().clone() for name, p in module.named_parameters()}

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        """Take in the weights after step ``step`` (the first is 0)."""
        decay = min(self.decay, (1 + step) / (10 + step))
        named = dict(module.named_parameters())
        now = [named[name].detach() for name in self.shadow]
        torch._foreach_lerp_(list(self.shadow.values()), now, 1 - decay)

    @torch.no_grad()
    def copy_to(self, module: nn.Module) -> None:
        """Put the averaged weights into ``module``."""
        for name, parameter in module.named_parameters():
            parameter.copy_(self.shadow[name])
