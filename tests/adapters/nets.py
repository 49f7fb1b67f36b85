"""Tiny control networks for the tiny models of the tests, with random weights, in the reference's folders."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import diffusers
import torch
from torch import nn

from tests.models import UNETS
from tests.parity.networks import randomise

HINT = {"conditioning_embedding_out_channels": (8, 16, 16)}
UNION = {"num_trans_channel": 16, "num_trans_head": 2, "num_proj_channel": 16, "num_control_type": 6}


def config_of(kind: str) -> dict[str, Any]:
    """The configuration of a control network for a tiny model; one that repaints has a plain one's."""
    left_out = ("sample_size", "up_block_types", "in_channels")
    return {**{key: value for key, value in UNETS[kind].items() if key not in left_out}, **HINT}


@cache
def folder(kind: str, seed: int = 0, union: bool = False, pooled: bool = False) -> Path:
    """The released folder of one."""
    place = Path(tempfile.mkdtemp(prefix="safelight-control-"))
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    net(kind, seed, union, pooled).save_pretrained(place)
    return place


def net(kind: str, seed: int = 0, union: bool = False, pooled: bool = False) -> nn.Module:
    """The reference's network, in float32."""
    config = {**config_of(kind), **(UNION if union else {}), "global_pool_conditions": pooled}
    made = (diffusers.ControlNetUnionModel if union else diffusers.ControlNetModel)(**config)
    randomise(made, 100 + seed)
    return made


@cache
def reference(kind: str, seed: int = 0, union: bool = False, pooled: bool = False) -> Any:
    """The same in float64, from the folder."""
    read = diffusers.ControlNetUnionModel if union else diffusers.ControlNetModel
    return read.from_pretrained(folder(kind, seed, union, pooled), torch_dtype=torch.float64)


T2I: dict[str, dict[str, Any]] = {
    "sd1": {"channels": [16, 32], "downscale_factor": 4},
    "sdxl": {"channels": [16, 32], "downscale_factor": 8, "adapter_type": "full_adapter_xl"},
}


@cache
def t2i_folder(kind: str, seed: int = 0) -> Path:
    """The released folder of a T2I-Adapter for a tiny model."""
    made = diffusers.T2IAdapter(**T2I["sd1" if kind == "sd2" else kind])
    randomise(made, 200 + seed)
    place = Path(tempfile.mkdtemp(prefix="safelight-t2i-"))
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    made.save_pretrained(place)
    return place
