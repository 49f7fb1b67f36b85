"""Files of control networks: every layout gives the same network, everything else is refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from torch import Tensor, nn

from safelight.adapters.controlnet.checkpoints import load_controlnet
from safelight.errors import ConfigError, FileError, WeightsError
from safelight.families.sd.convert import part_to_file
from safelight.weights.folder import Index
from safelight.weights.load import read
from safelight.weights.save import save
from tests.parity.networks import randomise

NET: dict[str, Any] = {
    "block_out_channels": (32, 64),
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "layers_per_block": 1,
    "cross_attention_dim": 768,
    "attention_head_dim": 8,
    "conditioning_embedding_out_channels": (8, 16, 16),
}
WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def net() -> nn.Module:
    made = diffusers.ControlNetModel(**NET)
    randomise(made)
    return made


@pytest.fixture(scope="module")
def places(net: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same network in every layout."""
    root = tmp_path_factory.mktemp("control")
    net.save_pretrained(root / "folder")
    alone, whole, bare = root / "alone.safetensors", root / "whole.safetensors", root / "bare.safetensors"
    save(read(root / "folder" / WEIGHTS), alone)
    part_to_file(root / "folder", whole, Index(root / "folder", "", {}, {}))
    save({name.removeprefix("control_model."): tensor for name, tensor in read(whole).items()}, bare)
    return {"folder": root / "folder", "alone": alone, "whole": whole, "bare": bare}


@pytest.mark.parametrize("layout", ["folder", "alone", "whole", "bare"])
def test_every_layout_gives_the_same_network(layout: str, net: nn.Module, places: dict[str, Path]) -> None:
    loaded = load_controlnet(places[layout])
    assert not loaded.training
    assert loaded.config.attention_head_dim in (8, (8, 8))
    wanted = net.state_dict()
    assert loaded.state_dict().keys() == wanted.keys()
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in loaded.state_dict().items())


@pytest.mark.parametrize("layout", ["folder", "alone", "whole", "bare"])
@pytest.mark.parametrize(
    "spoil",
    [
        lambda tensors, name: tensors.pop(name),
        lambda tensors, name: tensors.update({name + "_of_another": tensors.pop(name)}),
        lambda tensors, name: tensors.update({name: tensors[name][..., None]}),
        lambda tensors, name: tensors.update(extra=torch.zeros(3)),
    ],
    ids=["dropped", "renamed", "reshaped", "added"],
)
def test_a_tensor_that_does_not_fit_is_refused_by_name(
    layout: str, spoil: Any, places: dict[str, Path], tmp_path: Path
) -> None:
    source = places[layout]
    folder = source.is_dir()
    tensors: dict[str, Tensor] = dict(read(source / WEIGHTS if folder else source))
    name = next(name for name in tensors if name.endswith(("controlnet_down_blocks.1.weight", "zero_convs.1.0.weight")))
    spoil(tensors, name)
    place = tmp_path / "spoiled.safetensors"
    if folder:
        place = tmp_path
        (tmp_path / "config.json").write_bytes((source / "config.json").read_bytes())
    save(tensors, tmp_path / WEIGHTS if folder else place)
    with pytest.raises(FileError, match=r"\n +(missing|unexpected|shape) ") as caught:
        load_controlnet(place)
    assert str(place) in str(caught.value)


def test_a_model_is_no_control_network(tmp_path: Path) -> None:
    unet = diffusers.UNet2DConditionModel(
        **{key: NET[key] for key in NET if key != "conditioning_embedding_out_channels"},
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    )
    unet.save_pretrained(tmp_path / "unet")
    with pytest.raises(WeightsError, match="is no ControlNet; it holds unet"):
        load_controlnet(tmp_path / "unet" / WEIGHTS)
    with pytest.raises(ConfigError, match=r"config\.json: .* a ControlNetModel is expected"):
        load_controlnet(tmp_path / "unet")


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="nothing"):
        load_controlnet(tmp_path / "nothing.safetensors")
    with pytest.raises(FileError, match=r"config\.json"):
        load_controlnet(tmp_path)
