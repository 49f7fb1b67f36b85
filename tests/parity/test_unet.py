"""The U-Net equals diffusers' on tiny random weights, and its ports do what adapters need of them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from safelight.errors import ConfigError, RequestError
from safelight.families.sd.model import Added, UNet, UNetConfig
from safelight.nn.attention import Attention
from safelight.nn.ports import Ports
from tests.parity.networks import (
    BARS,
    SD1,
    SDXL,
    UNETS,
    difference,
    predict,
    predict_reference,
    random,
    unet_inputs,
    unets,
)


@pytest.mark.parametrize("dtype", BARS, ids=str)
@pytest.mark.parametrize("name", UNETS)
def test_prediction_equals_the_reference(name: str, dtype: torch.dtype) -> None:
    ours, theirs = unets(UNETS[name], dtype)
    asked = unet_inputs(UNETS[name], dtype)
    with torch.no_grad():
        assert difference(predict(ours, asked), predict_reference(theirs, asked)) <= BARS[dtype]


@pytest.mark.parametrize("name", UNETS)
def test_names_and_shapes_are_the_released_ones_both_ways(name: str) -> None:
    ours, theirs = unets(UNETS[name])
    assert {k: v.shape for k, v in ours.state_dict().items()} == {k: v.shape for k, v in theirs.state_dict().items()}


def test_an_odd_grid_comes_back_in_its_own_size() -> None:
    ours, theirs = unets(SD1)
    asked = {**unet_inputs(SD1), "x": random(2, 4, 9, 13)}
    with torch.no_grad():
        assert difference(predict(ours, asked), predict_reference(theirs, asked)) <= 1e-9


def test_rows_do_not_see_each_other() -> None:
    ours, _ = unets(SDXL)
    asked = unet_inputs(SDXL)
    swapped = {name: value.flip(0) for name, value in asked.items()}
    with torch.no_grad():
        assert difference(predict(ours, swapped).flip(0), predict(ours, asked)) <= 1e-12


def test_every_parameter_learns_on_a_fresh_network() -> None:
    torch.manual_seed(0)
    network = UNet(UNetConfig.from_dict(SDXL))
    asked = unet_inputs(SDXL, torch.float32)
    predict(network, asked).square().mean().backward()
    dead = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    # A key's bias-free projection learns even here; nothing may be left out.
    assert not dead


def test_half_precision_attends_in_float32_when_the_configuration_asks() -> None:
    layer = Attention(32, 2, upcast=True).bfloat16()
    plain = Attention(32, 2).bfloat16()
    plain.load_state_dict(layer.state_dict())
    x = random(1, 5, 32, dtype=torch.bfloat16)
    exact = layer.float()(x.float())
    layer.bfloat16()
    with torch.no_grad():
        assert layer(x).dtype == torch.bfloat16
        assert difference(layer(x).float(), exact) <= 0.02


# Ports


def skip_residuals() -> list[Tensor]:
    """Random tensors in the shapes of the skip connections of ``SD1`` at 16 x 16."""
    shapes = [(32, 16)] * 3 + [(32, 8)] + [(64, 8)] * 2
    return [random(2, c, s, s, seed=20 + i) for i, (c, s) in enumerate(shapes)]


def test_residuals_enter_where_the_reference_adds_a_controlnet() -> None:
    ours, theirs = unets(SD1)
    asked = unet_inputs(SD1)
    residuals, middle = skip_residuals(), random(2, 64, 8, 8, seed=40)
    x, t, context = asked["x"], asked["t"], asked["context"]
    with torch.no_grad():
        got = ours(x, t, context, ports=Ports(residuals=residuals, mid_residual=middle))
        wanted = theirs(
            x, t, context, down_block_additional_residuals=residuals, mid_block_additional_residual=middle
        ).sample
        plain = ours(x, t, context)
    assert difference(got, wanted) <= 1e-9
    assert difference(plain, wanted) > 1e-3


@pytest.mark.parametrize("config", [SD1, SDXL], ids=["attention first", "attention last"])
def test_block_residuals_enter_where_the_reference_adds_a_t2i_adapter(config: dict[str, Any]) -> None:
    ours, theirs = unets(config)
    asked = unet_inputs(config)
    sides = (16, 8) if config is SD1 else (8, 8)
    given = [random(2, c, s, s, seed=50) for c, s in zip((32, 64), sides, strict=True)]
    told = {"text_embeds": asked["pooled"], "time_ids": asked["times"]} if "pooled" in asked else None
    added = Added(asked["pooled"], asked["times"]) if told else None
    x, t, context = asked["x"], asked["t"], asked["context"]
    with torch.no_grad():
        got = ours(x, t, context, added=added, ports=Ports(block_residuals=given))
        wanted = theirs(
            x, t, context, added_cond_kwargs=told, down_intrablock_additional_residuals=[g.clone() for g in given]
        ).sample
    assert difference(got, wanted) <= 1e-9


def test_a_wrong_number_of_residuals_is_refused() -> None:
    ours, _ = unets(SD1)
    asked = unet_inputs(SD1)
    x, t, context = asked["x"], asked["t"], asked["context"]
    with pytest.raises(RequestError, match="6 skips"):
        ours(x, t, context, ports=Ports(residuals=[x]))
    with pytest.raises(RequestError, match="2 blocks"):
        ours(x, t, context, ports=Ports(block_residuals=[x] * 3))


def test_an_override_stands_in_for_every_self_attention_by_name() -> None:
    ours, theirs = unets(SD1)
    asked = unet_inputs(SD1)
    seen: list[str] = []

    def same(name: str, layer: Attention, x: Tensor) -> Tensor:
        seen.append(name)
        return layer(x)

    def skip_middle(name: str, layer: Attention, x: Tensor) -> Tensor:
        return torch.zeros_like(x) if name.startswith("mid_block") else layer(x)

    x, t, context = asked["x"], asked["t"], asked["context"]
    with torch.no_grad():
        plain = ours(x, t, context)
        assert torch.equal(ours(x, t, context, ports=Ports(override=same)), plain)
        assert difference(ours(x, t, context, ports=Ports(override=skip_middle)), plain) > 1e-4
    wanted = [name.removesuffix(".processor") for name in theirs.attn_processors if ".attn1" in name]
    assert sorted(seen) == sorted(wanted)


def test_an_override_that_perturbs_gives_what_the_reference_gives_with_its_processor() -> None:
    """Perturbed-attention guidance: each pixel looks at itself only, so attention returns its values."""
    ours, theirs = unets(SD1)
    asked = unet_inputs(SD1)

    class Perturbed:
        def __call__(self, attn: Any, hidden_states: Tensor, **_: Any) -> Tensor:
            return attn.to_out[0](attn.to_v(hidden_states))

    where = "down_blocks.0.attentions.1.transformer_blocks.0.attn1"
    theirs.get_submodule(where).set_processor(Perturbed())
    x, t, context = asked["x"], asked["t"], asked["context"]
    with torch.no_grad():
        got = ours(x, t, context, ports=Ports(override=lambda n, l, y: l.to_out[0](l.to_v(y)) if n == where else l(y)))
        assert difference(got, theirs(x, t, context).sample) <= 1e-9


def test_what_is_read_beside_the_text_reaches_every_cross_attention_before_its_projection() -> None:
    ours, _ = unets(SD1)
    asked = unet_inputs(SD1)
    x, t, context = asked["x"], asked["t"], asked["context"]
    reached: list[str] = []

    def beside(name: str, layer: Attention, q: Tensor, y: Tensor) -> Tensor:
        assert q.shape == y.shape == (2, layer.heads, q.shape[2], layer.to_q.weight.shape[0] // layer.heads)
        reached.append(name)
        return y

    with torch.no_grad():
        assert torch.equal(ours(x, t, context, ports=Ports(beside=beside)), ours(x, t, context))
        nothing = ours(x, t, context, ports=Ports(beside=lambda name, layer, q, y: 0 * y))
        for layer in ours.modules():
            if isinstance(layer, Attention) and layer.name.endswith("attn2"):
                layer.to_v.weight.zero_()
        assert torch.equal(nothing, ours(x, t, context))
    assert len(reached) == 6
    assert all(name.endswith("attn2") for name in reached)


def test_layers_are_replaced_by_name() -> None:
    ours, _ = unets(SD1)
    asked = unet_inputs(SD1)
    with torch.no_grad():
        plain = predict(ours, asked)
        parent = ours.get_submodule("mid_block.attentions.0.transformer_blocks.0")
        parent.ff = torch.nn.Identity()
        assert difference(predict(ours, asked), plain) > 1e-4


# Configurations


def test_what_a_network_needs_is_asked_for() -> None:
    for name, missing in (("sdxl", "pooled"), ("upscaler", "labels"), ("latent consistency", "guidance")):
        ours, _ = unets(UNETS[name])
        asked = unet_inputs(UNETS[name])
        del asked[missing]
        with pytest.raises(RequestError, match=r"need|told"):
            predict(ours, asked)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"resnet_time_scale_shift": "scale_shift"}, "resnet_time_scale_shift"),
        ({"center_input_sample": True}, "center_input_sample"),
        ({"act_fn": "gelu"}, "act_fn"),
        ({"num_attention_heads": 8}, "num_attention_heads"),
        ({"attention_head_dims": 8}, "did you mean 'attention_head_dim'"),
        ({"_class_name": "FluxTransformer2DModel"}, "FluxTransformer2DModel"),
        ({"attention_head_dim": (8, 8, 8)}, "3 entries"),
        ({"attention_head_dim": 7}, "multiple of its 7 heads"),
        ({"attention_head_dim": "8"}, "attention_head_dim = '8'"),
        ({"block_out_channels": ()}, "positive whole numbers"),
        ({"down_block_types": ("AttnDownBlock2D", "DownBlock2D")}, "AttnDownBlock2D"),
        ({"addition_embed_type": "image"}, "addition_embed_type"),
        ({"addition_embed_type": "text_time"}, "addition_time_embed_dim"),
        ({"norm_num_groups": 7}, "norm_num_groups"),
    ],
)
def test_a_configuration_of_another_network_is_refused_by_name(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        UNetConfig.from_dict({**SD1, **change})
