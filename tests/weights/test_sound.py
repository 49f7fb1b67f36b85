"""A number that is none is found by the name of its tensor."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from safelight.weights.sound import unsound


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float8_e5m2])
def test_the_first_tensor_with_no_number_is_named(value: float, dtype: torch.dtype) -> None:
    module = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    assert unsound(module) is None
    tensor = module[1].weight.data.to(dtype)
    tensor[2:] = torch.tensor([value]).to(dtype)
    module[1].weight = nn.Parameter(tensor, requires_grad=False)
    assert unsound(module) == "1.weight"
