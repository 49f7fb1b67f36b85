"""ControlNet equals diffusers' on tiny random weights, zero convolutions included, and drives our U-Net as it does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import diffusers
import pytest
import torch
from torch import Tensor, nn

from safelight.adapters.controlnet.model import ControlNet, ControlNetConfig, Residuals, beside, weighed
from safelight.errors import ConfigError, RequestError
from safelight.families.sd import model
from safelight.families.sd.model import Added
from safelight.nn.ports import Ports
from safelight.weights.load import Unfilled
from tests.parity.networks import BARS, SD1, SD2, SDXL, difference, random, randomise, unet_inputs, unets
from tests.parity.test_counts import SD2 as FULL_SD2
from tests.parity.test_counts import SDXL as FULL_SDXL

HINT = {"conditioning_embedding_out_channels": (8, 16)}


def beside_config(config: dict[str, Any], **changed: Any) -> dict[str, Any]:
    """A ControlNet's configuration for the U-Net of ``config``."""
    left_out = ("sample_size", "up_block_types", "time_cond_proj_dim")
    return {**{k: v for k, v in config.items() if k not in left_out}, **HINT, **changed}


NETS: dict[str, dict[str, Any]] = {
    "sd1": beside_config(SD1),
    "sd2": beside_config(SD2),
    "sdxl": beside_config(SDXL),
    "blue before red": beside_config(SD1, controlnet_conditioning_channel_order="bgr"),
    "averaged": beside_config(SD1, global_pool_conditions=True),
    "one channel, one layer": beside_config(SD1, conditioning_channels=1, layers_per_block=1),
    "told a class": beside_config(SD1, num_class_embeds=50),
}


def nets(config: dict[str, Any], dtype: torch.dtype = torch.float64, seed: int = 0) -> tuple[ControlNet, nn.Module]:
    theirs = diffusers.ControlNetModel(**config)
    randomise(theirs, seed)
    ours = ControlNet(ControlNetConfig.from_dict(dict(theirs.config)))
    ours.load_state_dict(theirs.state_dict())
    return ours.to(dtype).eval(), theirs.to(dtype).eval()


def hint(config: dict[str, Any], dtype: torch.dtype = torch.float64, side: int = 32) -> Tensor:
    return random(2, config.get("conditioning_channels", 3), side, side, seed=7, dtype=dtype).sigmoid()


def say(ours: ControlNet, asked: dict[str, Any], shown: Tensor) -> Residuals:
    told = {name: asked[name] for name in ("pooled", "times", "labels") if name in asked}
    return ours(asked["x"], asked["t"], asked["context"], ours.look(shown), added=Added(**told) if told else None)


def say_reference(theirs: nn.Module, asked: dict[str, Any], shown: Tensor, **options: Any) -> Residuals:
    told = {"text_embeds": asked["pooled"], "time_ids": asked["times"]} if "pooled" in asked else None
    x, t, context = asked["x"], asked["t"], asked["context"]
    labels = asked.get("labels")
    said = theirs(x, t, context, shown, class_labels=labels, added_cond_kwargs=told, **options)
    return Residuals(tuple(said.down_block_res_samples), said.mid_block_res_sample)


def apart(ours: Residuals, theirs: Residuals) -> float:
    """The largest difference of any residual, each relative to its own largest value."""
    pairs = zip([*ours.skips, ours.middle], [*theirs.skips, theirs.middle], strict=True)
    return max(difference(mine, wanted) for mine, wanted in pairs)


@pytest.mark.parametrize("dtype", BARS, ids=str)
@pytest.mark.parametrize("name", NETS)
def test_what_it_says_equals_the_reference(name: str, dtype: torch.dtype) -> None:
    ours, theirs = nets(NETS[name], dtype)
    asked, shown = unet_inputs(NETS[name], dtype), hint(NETS[name], dtype)
    with torch.no_grad():
        assert apart(say(ours, asked, shown), say_reference(theirs, asked, shown)) <= BARS[dtype]


@pytest.mark.parametrize("name", NETS)
def test_names_and_shapes_are_the_released_ones_both_ways(name: str) -> None:
    ours, theirs = nets(NETS[name])
    assert {k: v.shape for k, v in ours.state_dict().items()} == {k: v.shape for k, v in theirs.state_dict().items()}


@pytest.mark.parametrize("guess", [False, True], ids=["plain", "guessing"])
def test_strength_and_guessing_equal_the_reference(guess: bool) -> None:
    ours, theirs = nets(NETS["sd1"])
    asked, shown = unet_inputs(SD1), hint(NETS["sd1"])
    with torch.no_grad():
        said = weighed(say(ours, asked, shown), 0.7, guess=guess)
        wanted = say_reference(theirs, asked, shown, conditioning_scale=0.7, guess_mode=guess)
    assert apart(said, wanted) <= 1e-9


def test_the_unet_draws_with_it_as_the_reference_does() -> None:
    ours, theirs = nets(NETS["sdxl"])
    unet, reference = unets(SDXL)
    asked, shown = unet_inputs(SDXL), hint(NETS["sdxl"])
    told = {"text_embeds": asked["pooled"], "time_ids": asked["times"]}
    x, t, context = asked["x"], asked["t"], asked["context"]
    with torch.no_grad():
        said, wanted = say(ours, asked, shown), say_reference(theirs, asked, shown)
        ports = Ports(residuals=said.skips, mid_residual=said.middle)
        drawn = unet(x, t, context, added=Added(asked["pooled"], asked["times"]), ports=ports)
        given = {"down_block_additional_residuals": wanted.skips, "mid_block_additional_residual": wanted.middle}
        assert difference(drawn, reference(x, t, context, added_cond_kwargs=told, **given).sample) <= 1e-9


def test_rows_do_not_see_each_other() -> None:
    ours, _ = nets(NETS["sdxl"])
    asked, shown = unet_inputs(SDXL), hint(NETS["sdxl"])
    swapped = {name: value.flip(0) for name, value in asked.items()}
    with torch.no_grad():
        flipped = say(ours, swapped, shown.flip(0))
        back = Residuals(tuple(each.flip(0) for each in flipped.skips), flipped.middle.flip(0))
        assert apart(back, say(ours, asked, shown)) <= 1e-12


def test_one_hint_does_for_every_row() -> None:
    ours, _ = nets(NETS["sd1"])
    asked, shown = unet_inputs(SD1), hint(NETS["sd1"])[:1]
    x, t, context = asked["x"], asked["t"], asked["context"]
    with torch.no_grad():
        assert apart(ours(x, t, context, ours.look(shown)), say(ours, asked, shown.expand(2, -1, -1, -1))) <= 1e-12


def test_an_odd_grid_is_said_in_its_own_sizes() -> None:
    ours, theirs = nets(NETS["sd1"])
    asked, shown = {**unet_inputs(SD1), "x": random(2, 4, 9, 13)}, random(2, 3, 18, 26)
    with torch.no_grad():
        assert apart(say(ours, asked, shown), say_reference(theirs, asked, shown)) <= 1e-9


# Beside a U-Net


@pytest.mark.parametrize("config", [SD1, SDXL, {**SD1, "in_channels": 9}], ids=["sd1", "sdxl", "repainting"])
def test_a_fresh_one_adds_nothing_and_learns_everywhere(config: dict[str, Any]) -> None:
    torch.manual_seed(0)
    unet = model.UNet(model.UNetConfig.from_dict(config))
    net = beside(unet, widths=(8, 16))
    assert torch.equal(net.down_blocks[0].resnets[0].conv1.weight, unet.down_blocks[0].resnets[0].conv1.weight)
    assert net.conv_in.weight.data_ptr() != unet.conv_in.weight.data_ptr()
    assert torch.equal(net.conv_in.weight, unet.conv_in.weight[:, :4])
    asked = {**unet_inputs(config, torch.float32), "x": random(2, 4, 16, 16, dtype=torch.float32)}
    said = say(net, asked, hint(NETS["sd1"], torch.float32))
    assert all(not each.any() for each in (*said.skips, said.middle))
    randomise(net)  # what lies behind a zero layer learns once that has moved
    for each in (*(said := say(net, asked, hint(NETS["sd1"], torch.float32))).skips, said.middle):
        each.square().mean().backward(retain_graph=True)
    dead = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not dead


# Released sizes


@pytest.mark.parametrize(
    ("raw", "parameters", "tensors"),
    [
        pytest.param({}, 361_279_120, 340, id="SD 1"),
        pytest.param(FULL_SD2, 364_228_240, 340, id="SD 2"),
        pytest.param(FULL_SDXL, 1_251_014_160, 844, id="SDXL"),
    ],
)
def test_full_size_networks_have_the_released_counts(raw: dict[str, Any], parameters: int, tensors: int) -> None:
    raw = {name: value for name, value in raw.items() if name not in ("sample_size", "up_block_types")}
    with torch.device("meta"), Unfilled():
        network = ControlNet(ControlNetConfig.from_dict(raw))
    with torch.device("meta"):
        theirs = diffusers.ControlNetModel(**{"cross_attention_dim": 768, **raw})
    assert {k: v.shape for k, v in network.state_dict().items()} == {k: v.shape for k, v in theirs.state_dict().items()}
    assert (sum(p.numel() for p in network.parameters()), len(network.state_dict())) == (parameters, tensors)


# What is refused


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"_class_name": "UNet2DConditionModel"}, "a ControlNetModel is expected"),
        ({"up_block_types": ["UpBlock2D"]}, "no way up"),
        ({"controlnet_conditioning_channel_order": "gbr"}, "rgb, bgr"),
        ({"conditioning_embedding_out_channels": []}, "conditioning_embedding_out_channels"),
        ({"conditioning_channels": 0}, "conditioning_channels"),
        ({"class_embed_type": "projection"}, "class_embed_type"),
        ({"addition_embed_type": "text"}, "text_time"),
        ({"down_block_types": 5}, "down_block_types"),
        ({"hint_width": 5}, "hint_width"),
    ],
)
def test_a_configuration_that_means_another_network_is_refused(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        ControlNetConfig.from_dict({**NETS["sd1"], **changed})


def test_a_network_of_xl_says_what_it_was_not_told() -> None:
    ours, _ = nets(NETS["sdxl"])
    asked = {name: value for name, value in unet_inputs(SDXL).items() if name != "pooled"}
    with pytest.raises(RequestError, match="pooled text"):
        say(ours, asked, hint(NETS["sdxl"]))


# Mistakes that ports make


def error(config: dict[str, Any] = NETS["sd1"]) -> float:
    ours, theirs = nets(config)
    asked, shown = unet_inputs(config), hint(config)
    with torch.no_grad():
        return apart(say(ours, asked, shown), say_reference(theirs, asked, shown))


def hint_before_conv(net: ControlNet, x: Tensor, t: Tensor, context: Tensor, seen: Tensor, *, added: Any) -> Residuals:
    return net.descend(net.conv_in(x), model.embed(net, x, t, added or Added()), context)


def one_zero_convolution_for_all(net: ControlNet, x: Tensor, time: Tensor, context: Tensor) -> Residuals:
    said = net_descend(net, x, time, context)
    return Residuals((*said.skips[:1], said.skips[2], said.skips[1], *said.skips[3:]), said.middle)


net_descend = ControlNet.descend


@pytest.mark.parametrize(
    ("where", "wrong"),
    [
        ("forward", hint_before_conv),
        ("descend", one_zero_convolution_for_all),
        ("look", lambda net, shown: net.controlnet_cond_embedding(shown.flip(1))),
        ("look", lambda net, shown: net.controlnet_cond_embedding(2 * shown - 1)),
    ],
    ids=["the hint forgotten", "two skips swapped", "channels turned round", "hint in -1 to 1"],
)
def test_a_mistake_turns_the_comparison_red(
    monkeypatch: pytest.MonkeyPatch, where: str, wrong: Callable[..., Any]
) -> None:
    assert error() <= 1e-9
    monkeypatch.setattr(ControlNet, where, wrong)
    assert error() > 1e-6
