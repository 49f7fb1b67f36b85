"""Files of MV-Adapters: every name is taken or refused, sizes are the released ones, and inspect knows them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from torch import Tensor

from safelight.adapters.t2i.checkpoints import is_t2i
from safelight.errors import WeightsError
from safelight.families.sd.model import UNet, UNetConfig
from safelight.multiview.mv_adapter.file import load_mv_adapter
from safelight.multiview.mv_adapter.model import MvAdapter, layers_of, trunk_for
from safelight.weights.dialects import adapter
from safelight.weights.load import Unfilled
from safelight.weights.save import save
from tests.headers.references import SD2, SDXL
from tests.parity.mv_adapters import BASES, KINDS, case, shapes

FIRST = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.processor"
FULL: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "sd21": (SD2, {"downscale_factor": 8}),
    "sdxl": (SDXL, {"downscale_factor": 16, "adapter_type": "full_adapter_xl"}),
}
COUNTS = {
    ("sd21", False): (118, 127_496_320, 510),
    ("sd21", True): (198, 177_070_400, 708),
    ("sdxl", False): (388, 490_923_200, 1960),
    ("sdxl", True): (738, 900_606_400, 3600),
}
"""Base, whether it reads references -> tensors, parameters, and megabytes of the released file, in float32."""


def written(place: Path, tensors: dict[str, Tensor]) -> Path:
    save({name: tensor.contiguous().clone() for name, tensor in tensors.items()}, place / "mvadapter.safetensors")
    return place / "mvadapter.safetensors"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("base", BASES)
def test_a_released_file_is_loaded_name_for_name(base: str, kind: str, tmp_path: Path) -> None:
    here = case(base, kind)
    path = written(tmp_path, here.weights)
    found = load_mv_adapter(path, here.ours)
    assert found.state_dict().keys() == here.weights.keys()
    assert all(torch.equal(value, here.weights[name]) for name, value in found.state_dict().items())
    assert (found.refers, found.training, any(p.requires_grad for p in found.parameters())) == (
        here.refers,
        False,
        False,
    )
    load_mv_adapter(path, here.ours, refers=here.refers)
    with pytest.raises(WeightsError, match="the preset is for one that does"):
        load_mv_adapter(path, here.ours, refers=not here.refers)


@pytest.mark.parametrize("refers", [False, True])
@pytest.mark.parametrize("base", FULL)
def test_full_sizes_are_those_of_the_released_files(base: str, refers: bool) -> None:
    config, trunk = FULL[base]
    with torch.device("meta"), Unfilled():
        unet = UNet(UNetConfig.from_dict(config))
        network = MvAdapter(layers_of(unet), trunk_for(unet.config), refers=refers)
    with torch.device("meta"):
        theirs = shapes(diffusers.UNet2DConditionModel(**config), diffusers.T2IAdapter(6, **trunk), refers=refers)
    assert {name: tuple(value.shape) for name, value in network.state_dict().items()} == theirs
    tensors, parameters, megabytes = COUNTS[base, refers]
    count = sum(p.numel() for p in network.parameters())
    assert (len(theirs), count) == (tensors, parameters)
    assert 4 * count / 1e6 == pytest.approx(megabytes, rel=0.01), "as large as what is released"


def bent(name: str) -> dict[str, tuple[dict[str, Tensor | None], str]]:
    """What is wrong with a file -> tensors that are put in or (None) taken out, and what is said."""
    strange, flat = torch.zeros(3), torch.zeros(32, 16)
    return {
        "a tensor too many": ({f"{name}.to_x_mv.weight": strange}, "unexpected  .*to_x_mv"),
        "attn2 has branches": ({f"{name.replace('attn1', 'attn2')}.to_q_ref.weight": strange}, "unexpected  .*attn2"),
        "the encoder's own name": ({"cond_encoder.adapter.conv_in.weight": strange}, "unexpected  cond_encoder"),
        "a bias is missing": ({f"{name}.to_out_mv.0.bias": None}, "missing     .*to_out_mv.0.bias"),
        "half a reference": ({f"{name}.to_v_ref.weight": None}, "missing     .*to_v_ref"),
        "the trunk is missing": ({"adapter.body.1.in_conv.weight": None}, "missing     adapter.body.1"),
        "another shape": ({f"{name}.to_k_mv.weight": flat}, "shape       .*to_k_mv.* is 32×16, not 32×32"),
        "three channels": ({"adapter.conv_in.weight": torch.zeros(32, 192, 3, 3)}, "shape       adapter.conv_in"),
        "a layer is missing": ({f"{name}.to_q_mv.weight": None}, "Stable Diffusion 2.1 has 16, XL has 70"),
        "no number": ({f"{name}.to_q_mv.weight": torch.full((32, 32), torch.nan)}, "holds what is no number"),
    }


@pytest.mark.parametrize("what", bent(FIRST))
def test_every_name_is_taken_or_refused(what: str, tmp_path: Path) -> None:
    here, (changes, told) = case("sd21", "i2mv"), bent(FIRST)[what]
    tensors = {name: value for name, value in {**here.weights, **changes}.items() if value is not None}
    with pytest.raises(WeightsError, match=told) as caught:
        load_mv_adapter(written(tmp_path, tensors), here.ours)
    assert "mvadapter.safetensors" in str(caught.value)


def test_a_file_for_another_base_or_of_another_kind_is_refused_with_the_reason(tmp_path: Path) -> None:
    small, large = case("sd21", "t2mv"), case("sdxl", "t2mv")
    with pytest.raises(WeightsError, match="choose the file for this one"):
        load_mv_adapter(written(tmp_path, large.weights), small.ours)
    with pytest.raises(WeightsError, match="is no MV-Adapter"):
        load_mv_adapter(written(tmp_path, dict(small.trunk.state_dict())), small.ours)


def test_a_file_says_what_it_is(tmp_path: Path) -> None:
    here = case("sd21", "t2mv")
    found = adapter({name: tuple(value.shape) for name, value in here.weights.items()})
    assert found is not None and (found.kind, found.changes) == ("mv-adapter", ("unet",))
    assert not is_t2i(written(tmp_path, here.weights))
    assert is_t2i(written(tmp_path, dict(here.trunk.state_dict())))
