"""Find the number in a network's weights that is none: a damaged file draws nothing, and should say why."""

from __future__ import annotations

from torch import nn


def unsound(module: nn.Module) -> str | None:
    """The name of the first tensor that holds an infinite number or one that is none; None where all are sound.

    Reads every number, so it is asked only once something went wrong.
    """
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point() and not tensor.float().isfinite().all():
            return name
    return None
