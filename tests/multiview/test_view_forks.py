"""Networks of two domains load from their released folders, strictly, in the words of the forks that made them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from safelight.errors import ConfigError, RequestError, WeightsError
from safelight.families.sd.model import UNet, UNetConfig
from safelight.multiview.checkpoints import build, load_views, stock
from safelight.multiview.guess import guessing
from safelight.multiview.layouts import layout
from safelight.multiview.network import ViewNetwork
from safelight.multiview.presets import preset
from safelight.multiview.second import Second, seconded
from safelight.nn.ports import Ports
from safelight.weights.variants import tables_of
from tests.parity.domains import asked, config, reference, tiny, written
from tests.parity.networks import difference, randomise

NAMES = ("wonder3d", "era3d", "era3d-ortho", "facelift")


@pytest.mark.parametrize("name", NAMES)
def test_a_released_folder_is_read_and_written_back_under_its_names(name: str, tmp_path: Path) -> None:
    net = load_views(written(name, tmp_path), tiny(name))
    assert not net.training and net.domains == len(tiny(name).domains)
    with torch.no_grad():
        assert difference(net(*asked(tiny(name))), reference(name)(*asked(tiny(name)))) <= 1e-9
    back, wanted = stock(net), reference(name).tensors()
    assert back.keys() == wanted.keys() and all(torch.equal(back[key], wanted[key]) for key in wanted)


def test_names_are_those_of_the_public_code() -> None:
    names = reference("wonder3d").tensors().keys()
    for place in ("down_blocks.0.attentions.1", "mid_block.attentions.0", "up_blocks.1.attentions.2"):
        for leaf in ("norm_joint_mid.bias", "attn_joint_mid.to_q.weight", "attn_joint_mid.to_out.0.bias"):
            assert f"{place}.transformer_blocks.0.{leaf}" in names


@pytest.mark.parametrize("name", ["era3d"])
@pytest.mark.parametrize("harm", ["missing", "renamed", "bent", "more"])
def test_a_tensor_that_is_missing_renamed_bent_or_too_many_is_refused(name: str, harm: str, tmp_path: Path) -> None:
    second = tiny(name).second["name"]
    words = [f"norm_{second}.weight", f"attn_{second}.to_k.weight", f"attn_{second}.to_out.0.bias"]
    words += ["elevation_regressor.blocks.2.linear1.weight", "camera_embedding.linear_2.bias"] * bool(
        tiny(name).guesses
    )
    for number, word in enumerate([*words, "class_embedding.linear_1.weight"]):
        held = reference(name).tensors()
        key = next(each for each in held if each.endswith(word))
        value = held[key] if harm == "more" else held.pop(key)
        if harm == "renamed":
            held[key.replace(second, f"{second}_twice") if second in key else f"{key}.not"] = value
        if harm == "bent":
            held[key] = value[:-1].clone()
        if harm == "more":
            held[key.replace(word, f"not.{word}")] = value.clone()
        with pytest.raises((WeightsError, ConfigError)) as refused:
            load_views(written(name, tmp_path / str(number), held), tiny(name))
        assert str(tmp_path) in str(refused.value) and word.split(".")[0] in str(refused.value), (word, refused.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cd_attention_mid": False}, "cd_attention_mid = False; Wonder3D.* has True"),
        ({"joint_attention_twice": False}, "joint_attention_twice = False"),
        ({"cd_attention_last": True}, "cd_attention_last = True"),
        ({"sparse_mv_attention": True}, "sparse_mv_attention = True"),
        ({"mvcd_attention": True}, "mvcd_attention = True"),
        ({"num_views": 4}, "num_views = 4; Wonder3D.* has 6"),
        ({"projection_class_embeddings_input_dim": 6}, "projection_class_embeddings_input_dim = 6"),
        ({"selfattn_block": "custom"}, "unknown key 'selfattn_block'"),
        ({"mid_block_type": "UNetMidBlock2D"}, "mid_block_type = 'UNetMidBlock2D' is not supported"),
        ({"down_block_types": 3}, "down_block_types = "),
        ({"_class_name": "UNet3DConditionModel"}, "UNet3DConditionModel"),
    ],
)
def test_what_a_folder_says_of_itself_must_be_so(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        load_views(written("wonder3d", tmp_path, **change), tiny("wonder3d"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"regress_elevation": False}, "regress_elevation = False; Era3D.* has True"),
        ({"num_regress_blocks": 4}, "num_regress_blocks = 4; Era3D.* has 3"),
        ({"selfattn_block": "custom"}, "selfattn_block = custom"),
        ({"cd_attention_mid": True}, "cd_attention_mid = True"),
        ({"use_dino": True}, "use_dino = True"),
    ],
)
def test_what_era3ds_folder_says_of_itself_must_be_so(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        load_views(written("era3d", tmp_path, **change), tiny("era3d"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"selfattn_block": "self_rowwise"}, "selfattn_block = self_rowwise; FaceLift.* has custom"),
        ({"sparse_mv_attention": False}, "sparse_mv_attention = False"),
        ({"regress_elevation": True}, "regress_elevation = True; FaceLift.* has False"),
        ({"num_regress_blocks": 3}, "unknown key 'num_regress_blocks'"),
    ],
)
def test_what_facelifts_folder_says_of_itself_must_be_so(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        load_views(written("facelift", tmp_path, **change), tiny("facelift"))


def test_what_is_told_is_a_picture_or_cameras_and_a_text_or_one_a_view() -> None:
    told = tiny("era3d")
    net = build(told, reference("era3d").tensors(), config(told), layout("joint-domain"))
    x, t, cond = asked(told)
    with torch.no_grad():
        same = replace(cond, context=cond.context[:, :1].expand_as(cond.context))
        assert torch.equal(net(x, t, same), net(x, t, replace(cond, context=cond.context[:, 0])))
    for change, message in (
        ({"embedding": None}, "need embedding of shape"),
        ({"embedding": torch.zeros(2, 9)}, r"embedding of these views is \[2, 10\]"),
        ({"cameras": torch.zeros(2, 6, 10)}, "reads no cameras"),
        ({"context": cond.context[:, 1:]}, r"context of these views is \[2, 6, any, 32\]"),
    ):
        with pytest.raises(RequestError, match=message):
            net(x, t, replace(cond, **change))
    told = tiny("wonder3d")
    x, t, cond = asked(told)
    with pytest.raises(RequestError, match="reads no embedding"):
        build(told, reference("wonder3d").tensors(), config(told), layout("dense"))(
            x, t, replace(cond, embedding=torch.zeros(2, 10))
        )


def test_a_fork_is_no_folder_of_another_preset(tmp_path: Path) -> None:
    place = written("wonder3d", tmp_path)
    with pytest.raises(ConfigError, match=r"UNetMV2DConditionModel, which MVDream.* is not"):
        load_views(place, preset("mvdream"))


def test_a_second_self_attention_changes_no_bit_until_it_learns() -> None:
    told = tiny("wonder3d")
    unet = UNet(UNetConfig.from_dict(config(told)))
    randomise(unet)
    x, t, cond = asked(told)
    plain = ViewNetwork(unet.double(), layout("dense"), domains=2).eval()
    with torch.no_grad():
        wanted = plain(x, t, cond)
    second = Second("joint_mid", layout("joint-domain"))
    net = ViewNetwork(seconded(unet, "joint_mid"), layout("dense"), domains=2, second=second)
    got = net(x, t, cond)
    assert torch.equal(got, wanted)
    got.square().mean().backward()
    layer = unet.get_submodule("mid_block.attentions.0.transformer_blocks.0.attn_joint_mid.to_out.0")
    grad = layer.get_parameter("weight").grad
    assert grad is not None and bool(grad.abs().sum() > 0)
    with pytest.raises(RequestError, match="does not go with them"):
        net(x, t, cond, Ports(between=lambda name, y: y))


def test_domains_reach_each_other_in_the_second_self_attention_alone() -> None:
    told = tiny("wonder3d")
    net = build(told, reference("wonder3d").tensors(), config(told), layout("dense"))
    x, t, cond = asked(told)
    other = x.clone()
    other[:, :, 3:] += 1.0
    with torch.no_grad():
        assert difference(net(other, t, cond)[:, :, :3], net(x, t, cond)[:, :, :3]) > 1e-6
        net.second = None
        assert torch.equal(net(other, t, cond)[:, :, :3], net(x, t, cond)[:, :, :3])


# At full size, with no memory


SD1 = {"class_embed_type": "projection", "projection_class_embeddings_input_dim": 10}
SD2 = {"attention_head_dim": (5, 10, 20, 20), "cross_attention_dim": 1024, "use_linear_projection": True,
       "class_embed_type": "projection", "projection_class_embeddings_input_dim": 2048}  # fmt: skip
PLAIN = {"wonder3d": 859_520_964 + (10 + 1 + 1280 + 1) * 1280, "era3d": 865_910_724 + (2048 + 1 + 1280 + 1) * 1280}
PLAIN["facelift"] = PLAIN["era3d-ortho"] = PLAIN["era3d"]
"""Stable Diffusion's own numbers, and those of a perceptron from what is told to 1280 to 1280."""
SECONDS = sum(count * (4 * width * width + 3 * width) for width, count in ((320, 5), (640, 5), (1280, 6)))
GUESS = 2 * ((2560 + 1) * 1280 + 6 * (1280 + 1) * 1280 + 1281) + (4 + 1 + 1280 + 1) * 1280


@pytest.mark.parametrize(
    ("name", "sizes"), [("wonder3d", SD1), ("era3d", SD2), ("era3d-ortho", SD2), ("facelift", SD2)]
)
def test_a_released_network_has_its_size(name: str, sizes: dict[str, Any]) -> None:
    told = preset(name)
    with torch.device("meta"):
        unet = UNet(UNetConfig(in_channels=8, **sizes))
        unet = seconded(unet, told.second["name"]) if told.second else unet
        unet = guessing(unet, told.guesses, 2) if told.guesses else unet
    net = build(told, dict(unet.state_dict()), {}, layout(told.layout))
    wanted = PLAIN[name] + 4 * 320 * 9 + (SECONDS if told.second else 0) + (GUESS if told.guesses else 0)
    assert sum(parameter.numel() for parameter in net.parameters()) == wanted
    known = tables_of("sd").header(tables_of("sd").variant(name), "unet")
    assert {each: tuple(tensor.shape) for each, tensor in stock(net).items()} == known
