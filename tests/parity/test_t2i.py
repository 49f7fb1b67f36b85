"""T2I-Adapters equal diffusers' on tiny random weights, in released names and in those of the original code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from safelight.adapters.loaded import Loaded
from safelight.adapters.t2i import model
from safelight.adapters.t2i import use as uses
from safelight.adapters.t2i.checkpoints import KEYS, load_t2i
from safelight.adapters.t2i.model import FULL, LIGHT, XL, T2IAdapter, T2IConfig
from safelight.adapters.t2i.use import Added, T2IUse, check_levels
from safelight.adapters.use import Call
from safelight.errors import ConfigError, FileError, WeightsError
from safelight.families.sd.model import Added as model_added
from safelight.nn.ports import Ports
from safelight.weights.load import Unfilled, read
from safelight.weights.save import save
from tests.parity.networks import (
    BARS,
    CROSS_DOWN,
    CROSS_UP,
    DOWN,
    SD1,
    SDXL,
    UP,
    difference,
    random,
    randomise,
    unet_inputs,
    unets,
)

NETS: dict[str, dict[str, Any]] = {
    "full": {"channels": [16, 32], "adapter_type": FULL},
    "full, grey, one block": {"channels": [16, 32, 32], "in_channels": 1, "num_res_blocks": 1, "adapter_type": FULL},
    "xl": {"channels": [16, 32, 64, 64], "downscale_factor": 16, "adapter_type": XL},
    "light": {"channels": [16, 32], "num_res_blocks": 3, "adapter_type": LIGHT},
}
SIZES = {"full": (48, 40), "full, grey, one block": (72, 40), "xl": (48, 80), "light": (72, 40)}


def nets(name: str, dtype: torch.dtype = torch.float64) -> tuple[T2IAdapter, nn.Module]:
    theirs = diffusers.T2IAdapter(**NETS[name])
    randomise(theirs)
    ours = T2IAdapter(T2IConfig.from_dict(dict(theirs.config)))
    ours.load_state_dict(theirs.state_dict())
    return ours.to(dtype).eval(), theirs.to(dtype).eval()


def shown(name: str, dtype: torch.dtype = torch.float64) -> Tensor:
    """Two rows of a picture whose grid is odd at some level."""
    return random(2, NETS[name].get("in_channels", 3), *SIZES[name], seed=5, dtype=dtype).sigmoid()


def error(name: str, dtype: torch.dtype = torch.float64) -> float:
    ours, theirs = nets(name, dtype)
    with torch.no_grad():
        said, wanted = ours(shown(name, dtype)), theirs(shown(name, dtype))
    return max(difference(mine, each) for mine, each in zip(said, wanted, strict=True))


@pytest.mark.parametrize("dtype", BARS, ids=str)
@pytest.mark.parametrize("name", NETS)
def test_what_it_says_equals_the_reference(name: str, dtype: torch.dtype) -> None:
    assert error(name, dtype) <= BARS[dtype]


@pytest.mark.parametrize("name", NETS)
def test_levels_are_said_in_the_sizes_that_are_announced(name: str) -> None:
    ours, _ = nets(name)
    cells = 2**ours.config.first  # so many cells along an edge, halved before and in the adapter, are one at the end
    edge = 8 * cells
    picture = random(1, ours.config.in_channels, *(edge // cells * ours.config.downscale_factor,) * 2)
    with torch.no_grad():
        said = [(each.shape[1], each.shape[-1]) for each in ours(picture)]
    assert said == [(width, edge // 2**halvings) for width, halvings in ours.config.levels]


@pytest.mark.parametrize(
    ("raw", "parameters", "tensors"),
    [
        pytest.param({}, 77_369_280, 38, id="full"),
        pytest.param({"in_channels": 1}, 77_000_640, 38, id="full, grey"),
        pytest.param({"adapter_type": XL, "downscale_factor": 16}, 79_028_160, 38, id="xl"),
        pytest.param(
            {"adapter_type": LIGHT, "channels": [320, 640, 1280], "num_res_blocks": 4}, 18_689_200, 80, id="light"
        ),
    ],
)
def test_full_size_networks_have_the_released_counts(raw: dict[str, Any], parameters: int, tensors: int) -> None:
    with torch.device("meta"), Unfilled():
        network = T2IAdapter(T2IConfig.from_dict(raw))
    with torch.device("meta"):
        theirs = diffusers.T2IAdapter(**raw)
    assert {k: v.shape for k, v in network.state_dict().items()} == {k: v.shape for k, v in theirs.state_dict().items()}
    assert (sum(p.numel() for p in network.parameters()), len(network.state_dict())) == (parameters, tensors)


# At the U-Net

THREE = {"block_out_channels": (32, 64, 64), "attention_head_dim": (2, 4, 4), "layers_per_block": 1}
PLACES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "full": (
        {
            **SD1,
            **THREE,
            "down_block_types": (CROSS_DOWN, CROSS_DOWN, DOWN),
            "up_block_types": (UP, CROSS_UP, CROSS_UP),
        },
        {"channels": [32, 64, 64], "downscale_factor": 4},
    ),
    "light": (
        {
            **SD1,
            **THREE,
            "down_block_types": (CROSS_DOWN, CROSS_DOWN, DOWN),
            "up_block_types": (UP, CROSS_UP, CROSS_UP),
        },
        {"channels": [32, 64], "downscale_factor": 4, "adapter_type": LIGHT},
    ),
    "xl, with the middle": (
        {
            **SDXL,
            **THREE,
            "transformer_layers_per_block": (1, 1, 2),
            "down_block_types": (DOWN, CROSS_DOWN, CROSS_DOWN),
            "up_block_types": (CROSS_UP, CROSS_UP, UP),
        },
        {"channels": [32, 64, 64, 64], "downscale_factor": 8, "adapter_type": XL},
    ),
}


def drawn_apart(name: str) -> float:
    """How far what a U-Net predicts with an adapter is from what the reference's does."""
    config, adapter = PLACES[name]
    unet, reference = unets(config)
    theirs = diffusers.T2IAdapter(**adapter)
    randomise(theirs)
    net = T2IAdapter(T2IConfig.from_dict(adapter))
    net.load_state_dict(theirs.state_dict())
    net, theirs = net.double(), theirs.double()
    check_levels("it", net.config, unet.config)
    asked, picture = unet_inputs(config, side=24), random(1, 3, 96, 96).sigmoid()
    told = {"text_embeds": asked["pooled"], "time_ids": asked["times"]} if "pooled" in asked else None
    x, t, context = asked["x"], asked["t"], asked["context"]
    added = model_added(asked["pooled"], asked["times"]) if told else None
    with torch.no_grad():
        use = T2IUse(Loaded(net, "it"), Image.new("RGB", (96, 96)))
        aid = Added(use, tuple(net(picture)), len(unet.down_blocks), [])
        ports = aid.ports(Call(x, t, None, lambda *_: x), torch.tensor([True, True]), Ports())
        given = [each.expand(2, -1, -1, -1).clone() for each in theirs(picture)]
        wanted = reference(x, t, context, added_cond_kwargs=told, down_intrablock_additional_residuals=given).sample
        return difference(unet(x, t, context, added=added, ports=ports), wanted)


@pytest.mark.parametrize("name", PLACES)
def test_the_unet_draws_with_it_as_the_reference_does(name: str) -> None:
    assert drawn_apart(name) <= 1e-9


def test_the_middle_forgotten_turns_the_comparison_red(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uses, "own", lambda rows, mine: 0 * mine)
    assert drawn_apart("xl, with the middle") > 1e-6


# Files


class OriginalBlock(nn.Module):
    """A residual block as the original code names it."""

    def __init__(self, channels: int, out: int, down: bool, second: int) -> None:
        super().__init__()
        self.down = down
        if channels != out:
            self.in_conv = nn.Conv2d(channels, out, 1)
        self.block1, self.block2 = nn.Conv2d(out, out, 3, 1, 1), nn.Conv2d(out, out, second, 1, second // 2)

    def forward(self, x: Tensor) -> Tensor:
        x = F.avg_pool2d(x, 2, 2, ceil_mode=True) if self.down else x
        x = self.in_conv(x) if hasattr(self, "in_conv") else x
        return x + self.block2(F.relu(self.block1(x)))


class OriginalFull(nn.Module):
    """The original full adapter of Stable Diffusion 1, or of XL: residual blocks from end to end."""

    def __init__(self, channels: list[int], folded: int, halved: tuple[int, ...]) -> None:
        super().__init__()
        self.folded = folded
        self.conv_in = nn.Conv2d(3 * folded**2, channels[0], 3, padding=1)
        ins = [channels[0], *channels]
        self.body = nn.ModuleList(
            OriginalBlock(ins[level] if not j else width, width, level in halved and not j, 1)
            for level, width in enumerate(channels)
            for j in range(2)
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        x, made = self.conv_in(F.pixel_unshuffle(x, self.folded)), []
        for block in self.body:
            x = block(x)
            made.append(x)
        return made[1::2]


class OriginalLevel(nn.Module):
    """A level of the original light adapter."""

    def __init__(self, channels: int, out: int, down: bool) -> None:
        super().__init__()
        self.down = down
        self.in_conv, self.out_conv = nn.Conv2d(channels, out // 4, 1), nn.Conv2d(out // 4, out, 1)
        self.body = nn.Sequential(*(OriginalBlock(out // 4, out // 4, False, 3) for _ in range(4)))

    def forward(self, x: Tensor) -> Tensor:
        return self.out_conv(self.body(self.in_conv(F.avg_pool2d(x, 2, 2, ceil_mode=True) if self.down else x)))


class OriginalLight(nn.Module):
    def __init__(self, widths: tuple[int, ...] = (16, 32, 64, 64)) -> None:
        super().__init__()
        ins = (3 * 64, *widths)
        self.body = nn.ModuleList(OriginalLevel(i, o, k > 0) for k, (i, o) in enumerate(zip(ins, widths)))

    def forward(self, x: Tensor) -> list[Tensor]:
        return model.in_turn(self.body, F.pixel_unshuffle(x, 8))


ORIGINALS = {
    "full": (lambda: OriginalFull([16, 32, 64, 64], 8, (1, 2, 3)), FULL),
    "xl": (lambda: OriginalFull([16, 32, 64, 64], 16, (2,)), XL),
    "light": (OriginalLight, LIGHT),
}


@pytest.mark.parametrize("name", ORIGINALS)
def test_files_of_the_original_code_say_the_same(name: str, tmp_path: Path) -> None:
    build, kind = ORIGINALS[name]
    theirs = build()
    randomise(theirs)
    save(theirs.state_dict(), tmp_path / "net.safetensors")
    ours, picture = load_t2i(tmp_path / "net.safetensors"), random(1, 3, 96, 64, dtype=torch.float32).sigmoid()
    assert ours.config.adapter_type == kind
    with torch.no_grad():
        pairs = zip(ours(picture), theirs(picture), strict=True)
        assert max(difference(mine, wanted) for mine, wanted in pairs) <= 1e-6


@pytest.mark.parametrize(
    ("build", "raw"),
    [
        (lambda: OriginalFull([320, 640, 1280, 1280], 8, (1, 2, 3)), {}),
        (lambda: OriginalFull([320, 640, 1280, 1280], 16, (2,)), {"adapter_type": XL, "downscale_factor": 16}),
        (
            lambda: OriginalLight((320, 640, 1280, 1280)),
            {"adapter_type": LIGHT, "channels": [320, 640, 1280], "num_res_blocks": 4},
        ),
    ],
    ids=["full", "xl", "light"],
)
def test_original_names_of_full_size_are_the_released_ones_both_ways(build: Any, raw: dict[str, Any]) -> None:
    with torch.device("meta"), Unfilled():
        theirs, ours = build().state_dict(), T2IAdapter(T2IConfig.from_dict(raw)).state_dict()
    table = KEYS.parts["light" if raw.get("adapter_type") == LIGHT else "full"]
    plan = table.to_ours(theirs)
    assert not plan.left
    assert {move.ours[0]: theirs[move.theirs].shape for move in plan.moves} == {k: v.shape for k, v in ours.items()}
    back = table.to_theirs(ours)
    assert not back.left and {move.theirs for move in back.moves} == theirs.keys()


def written(name: str, layout: str, place: Path) -> tuple[Path, Path]:
    """Where a network is, and its file of weights."""
    if layout == "original":
        net = ORIGINALS[name][0]()
        randomise(net)
        save(net.state_dict(), place / "net.safetensors")
        return place / "net.safetensors", place / "net.safetensors"
    net = diffusers.T2IAdapter(**NETS[name])
    randomise(net)
    net.save_pretrained(place / "net")
    stored = place / "net" / "diffusion_pytorch_model.safetensors"
    return (place / "net" if layout == "folder" else stored), stored


@pytest.mark.parametrize("layout", ["folder", "alone"])
@pytest.mark.parametrize("name", NETS)
def test_released_files_are_read_with_and_without_their_folder(name: str, layout: str, tmp_path: Path) -> None:
    place, stored = written(name, layout, tmp_path)
    loaded, tensors = load_t2i(place), read(stored)
    assert not loaded.training
    assert loaded.config == T2IConfig.from_dict(NETS[name])
    assert all(torch.equal(tensor, tensors[key]) for key, tensor in loaded.state_dict().items())


@pytest.mark.parametrize("layout", ["folder", "alone", "original"])
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
@pytest.mark.parametrize("name", ["full", "xl", "light"])
def test_a_tensor_that_does_not_fit_is_refused_by_name(name: str, layout: str, spoil: Any, tmp_path: Path) -> None:
    place, stored = written(name, layout, tmp_path)
    tensors = {key: tensor.clone() for key, tensor in read(stored).items()}
    spoil(tensors, next(key for key in tensors if key.endswith("block2.weight")))
    save(tensors, stored)
    with pytest.raises(FileError, match=r"\n +(missing|unexpected|shape) ") as caught:
        load_t2i(place)
    assert str(place) in str(caught.value)


def test_what_is_no_adapter_is_refused(tmp_path: Path) -> None:
    save({"body.weight": torch.zeros(3)}, tmp_path / "other.safetensors")
    with pytest.raises(WeightsError, match=r"other\.safetensors: is no T2I-Adapter; its first tensor is body\.weight"):
        load_t2i(tmp_path / "other.safetensors")
    with pytest.raises(FileError, match="nothing"):
        load_t2i(tmp_path / "nothing.safetensors")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"adapter_type": "style_adapter"}, "full_adapter, full_adapter_xl, light_adapter"),
        ({"adapter_type": XL, "channels": [16, 32, 64, 32]}, "widens no more"),
        ({"adapter_type": LIGHT, "channels": [10]}, "multiples of 4"),
        ({"channels": []}, "channels"),
        ({"downscale_factor": 0}, "downscale_factor"),
        ({"depth": 3}, "depth"),
        ({"_class_name": "ControlNetModel"}, "_class_name"),
    ],
)
def test_a_configuration_that_means_another_network_is_refused(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        T2IConfig.from_dict(changed)


# Mistakes that ports make


def floor_halved(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, 2, 2)


def activated_twice(block: model.Resnet, x: Tensor) -> Tensor:
    return x + F.relu(block.block2(F.relu(block.block1(x))))


@pytest.mark.parametrize(
    ("where", "attribute", "wrong"),
    [
        (model, "halved", floor_halved),
        (model.Resnet, "forward", activated_twice),
        (model.T2IAdapter, "forward", lambda net, x: net.adapter(F.pixel_unshuffle(x.flip(1), 8))),
    ],
    ids=["odd grids cut", "one activation more", "channels turned round"],
)
def test_a_mistake_turns_the_comparison_red(
    monkeypatch: pytest.MonkeyPatch, where: Any, attribute: str, wrong: Any
) -> None:
    monkeypatch.setattr(where, attribute, wrong)
    assert error("full") > 1e-6
