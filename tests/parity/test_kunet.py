"""The U-Net of the x2 latent upscaler equals diffusers' on tiny random weights, and the comparison has teeth."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import diffusers
import pytest
import torch
from torch import Tensor, nn

from safelight.errors import ConfigError
from safelight.families.sd import kunet
from safelight.families.sd.kunet import KUNet, KUNetConfig
from safelight.weights.moves import to_ours, to_theirs
from safelight.weights.variants import tables_of
from tests.parity import kdiffusion
from tests.parity.networks import BARS, difference, random, randomise

K: dict[str, Any] = {
    "act_fn": "gelu",
    "attention_head_dim": 16,
    "norm_num_groups": None,
    "block_out_channels": (32, 32, 64, 64),
    "time_cond_proj_dim": 20,
    "conv_in_kernel": 1,
    "conv_out_kernel": 1,
    "cross_attention_dim": 24,
    "down_block_types": ("KDownBlock2D", *("KCrossAttnDownBlock2D",) * 3),
    "in_channels": 8,
    "layers_per_block": 2,
    "mid_block_type": None,
    "only_cross_attention": False,
    "out_channels": 5,
    "resnet_time_scale_shift": "scale_shift",
    "time_embedding_type": "fourier",
    "timestep_post_act": "gelu",
    "up_block_types": (*("KCrossAttnUpBlock2D",) * 3, "KUpBlock2D"),
}
KINDS = {
    "four levels": K,
    "two levels, three layers": {
        **K,
        "block_out_channels": (32, 64, 64),
        "down_block_types": K["down_block_types"][:3],
        "up_block_types": K["up_block_types"][1:],
        "layers_per_block": 3,
    },
}
Patch = pytest.MonkeyPatch


def both(config: dict[str, Any], dtype: torch.dtype = torch.float64) -> tuple[KUNet, nn.Module]:
    theirs = diffusers.UNet2DConditionModel(**config)
    randomise(theirs)
    ours = KUNet(KUNetConfig.from_dict(dict(theirs.config)))
    ours.load_state_dict(theirs.state_dict())
    return ours.to(dtype).eval(), theirs.to(dtype).eval()


def asked(dtype: torch.dtype = torch.float64) -> tuple[Tensor, ...]:
    """Two rows of latents and picture, times, text, and what is told beside them."""
    t = torch.tensor([-0.6, 0.9], dtype=dtype)
    return (
        random(2, 8, 16, 32, dtype=dtype),
        t,
        random(2, 7, 24, seed=2, dtype=dtype),
        random(2, 20, seed=3, dtype=dtype),
    )


@torch.no_grad()
def error(config: dict[str, Any] = K, dtype: torch.dtype = torch.float64) -> float:
    ours, theirs = both(config, dtype)
    x, t, context, told = asked(dtype)
    return difference(ours(x, t, context, told), theirs(x, t, context, timestep_cond=told).sample)


@pytest.mark.parametrize("dtype", BARS, ids=str)
@pytest.mark.parametrize("name", KINDS)
def test_prediction_equals_the_reference(name: str, dtype: torch.dtype) -> None:
    assert error(KINDS[name], dtype) <= BARS[dtype]


@pytest.mark.parametrize("name", KINDS)
def test_names_and_shapes_are_the_released_ones_both_ways(name: str) -> None:
    ours, theirs = both(KINDS[name])
    assert {k: v.shape for k, v in ours.state_dict().items()} == {k: v.shape for k, v in theirs.state_dict().items()}


def test_rows_do_not_see_each_other() -> None:
    ours, _ = both(K)
    with torch.no_grad():
        swapped = ours(*(each.flip(0) for each in asked()))
        assert difference(swapped.flip(0), ours(*asked())) <= 1e-12


def _gain_for_shift(norm: Any, x: Tensor, time: Tensor) -> Tensor:
    shift, gain = norm.linear(time)[:, :, None, None].chunk(2, dim=1)
    return kunet.F.group_norm(x, norm.groups, eps=1e-5) * (1 + gain) + shift


def _sines_first(fourier: Any, t: Tensor) -> Tensor:
    angles = 2 * torch.pi * t[:, None] * fourier.weight
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


def _text_as_it_is(layer: Any, x: Tensor, context: Tensor | None = None, beside: Any = None) -> Tensor:
    return kunet.Attention.forward(layer, x, context)


def _no_last_gelu(layer: Any, x: Tensor, told: Tensor) -> Tensor:
    return layer.linear_2(kunet.gelu(layer.linear_1(x + layer.cond_proj(told))))


MUTATIONS: dict[str, Callable[[Patch], None]] = {
    "gain and shift swapped": lambda p: p.setattr(kunet.AdaGroupNorm, "forward", _gain_for_shift),
    "sines before cosines": lambda p: p.setattr(kunet.Fourier, "forward", _sines_first),
    "text not normalised": lambda p: p.setattr(kunet.TextAttention, "forward", _text_as_it_is),
    "no activation after the time": lambda p: p.setattr(kunet.TimeEmbedding, "forward", _no_last_gelu),
    "a box for the filter": lambda p: p.setattr(kunet, "TAPS", (0.0, 0.5, 0.5, 0.0)),
    "edges repeated, not mirrored": lambda p: p.setattr(
        kunet,
        "halved",
        lambda x: kunet.F.conv2d(
            kunet.F.pad(x, (1,) * 4, "replicate"), kunet._filter(x, 1.0), stride=2, groups=x.shape[1]
        ),
    ),
    "tanh for the exact GELU": lambda p: p.setattr(kunet, "gelu", lambda x: kunet.F.gelu(x, approximate="tanh")),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_mistake_turns_the_comparison_red(name: str, monkeypatch: Patch) -> None:
    MUTATIONS[name](monkeypatch)
    assert error() > 1e3 * BARS[torch.float64]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"act_fn": "silu"}, "act_fn"),
        ({"mid_block_type": "UNetMidBlock2DCrossAttn"}, "mid_block_type"),
        ({"time_embedding_type": "positional"}, "time_embedding_type"),
        ({"block_out_channels": (32, 32, 64, 96)}, "twice as wide"),
        ({"attention_head_dim": 24}, "multiples of 32"),
        ({"up_block_types": ("KUpBlock2D",) * 4}, "up_block_types"),
    ],
)
def test_a_configuration_of_another_network_is_refused_by_name(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        KUNetConfig.from_dict({**K, **change})


@pytest.mark.parametrize("name", KINDS)
def test_the_names_of_k_diffusion_are_translated_to_the_same_network(name: str) -> None:
    """The published file holds the network of k-diffusion, which runs here with the same numbers."""
    config = KUNetConfig.from_dict(KINDS[name])
    levels = len(config.block_out_channels)
    theirs = kdiffusion.image().ImageDenoiserModelV1(
        config.in_channels // 2,
        2 * config.block_out_channels[0],
        [config.layers_per_block] * levels,
        config.block_out_channels,
        [False] * (levels - 1) + [True],
        [False] + [True] * (levels - 1),
        mapping_cond_dim=config.time_cond_proj_dim,
        unet_cond_dim=config.in_channels // 2,
        cross_cond_dim=config.cross_attention_dim,
        has_variance=True,
    )
    randomise(theirs)
    torch.nn.init.normal_(theirs.timestep_embed.weight)
    for layer in theirs.modules():  # the class fixes 64 for the width of a head
        if hasattr(layer, "n_head"):
            layer.n_head = layer.out_proj.out_channels // config.attention_head_dim
    theirs.double().eval()
    rows = dict(theirs.state_dict())
    table = tables_of("sd").keys.parts["kunet"]
    plan = table.to_ours(rows)
    assert not plan.left and all(each.endswith(".kernel") for each in plan.unread)
    with torch.device("meta"):
        ours = KUNet(config)
    made = to_ours(rows, plan.moves)
    ours.load_state_dict(made, assign=True)
    x, t, context, told = asked()
    with torch.no_grad():
        said = ours(x, t, context, told)[:, :-1]
        padding = torch.zeros(context.shape[:2], dtype=torch.float64)
        half = config.in_channels // 2
        wanted = theirs(x[:, :half], (4 * t).exp(), told, x[:, half:], context, padding)
    assert difference(said, wanted) < 1e-9
    again = to_theirs(made, table.to_theirs(made).moves)
    assert again.keys() == rows.keys() - set(plan.unread)
    assert all(torch.equal(again[key], rows[key]) for key in again)
