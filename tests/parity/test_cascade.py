"""The networks of Stable Cascade equal diffusers' on tiny random weights, and the comparisons have teeth."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import diffusers
import pytest
import torch
from torch import Tensor, nn

from safelight.errors import ConfigError, RequestError
from safelight.families.cascade import model
from safelight.families.cascade.model import ATTENTION, RES, TIME, CascadeConfig, CascadeUNet
from safelight.vae import stage_a
from safelight.vae.stage_a import StageA, StageAConfig
from tests.parity.networks import BARS, difference, random, randomise

PAELLA = "diffusers.pipelines.deprecated.wuerstchen.modeling_paella_vq_model"
PRIOR: dict[str, Any] = {
    "timestep_ratio_embedding_dim": 16,
    "conditioning_dim": 32,
    "block_out_channels": (32, 48),
    "num_attention_heads": (4, 4),
    "down_num_layers_per_block": (1, 2),
    "up_num_layers_per_block": (2, 1),
    "clip_text_in_channels": 24,
    "clip_text_pooled_in_channels": 20,
    "clip_image_in_channels": 12,
    "switch_level": (False,),
    "timestep_conditioning_type": ("sca", "crp"),
}
DECODER: dict[str, Any] = {
    "in_channels": 4,
    "out_channels": 4,
    "timestep_ratio_embedding_dim": 16,
    "patch_size": 2,
    "conditioning_dim": 32,
    "block_out_channels": (16, 24, 32, 32),
    "num_attention_heads": (0, 0, 4, 4),
    "down_num_layers_per_block": (1, 1, 2, 1),
    "up_num_layers_per_block": (1, 2, 1, 1),
    "down_blocks_repeat_mappers": (1, 1, 1, 2),
    "up_blocks_repeat_mappers": (2, 2, 1, 1),
    "block_types_per_layer": ((RES, TIME), (RES, TIME), (RES, TIME, ATTENTION), (RES, TIME, ATTENTION)),
    "clip_text_pooled_in_channels": 20,
    "effnet_in_channels": 16,
    "pixel_mapper_in_channels": 3,
    "dropout": (0.0, 0.0, 0.1, 0.1),
    "timestep_conditioning_type": ("sca",),
}
KINDS = {
    "prior": PRIOR,
    "prior that halves": {**PRIOR, "switch_level": (True,), "self_attn": (True, False), "kernel_size": 5},
    "odd time": {**PRIOR, "timestep_ratio_embedding_dim": 17},
    "decoder": DECODER,
}
STAGE_A: dict[str, Any] = {"bottleneck_blocks": 2, "embed_dim": 32, "num_vq_embeddings": 16}
Patch = pytest.MonkeyPatch


def both(config: dict[str, Any], dtype: torch.dtype = torch.float64) -> tuple[CascadeUNet, nn.Module]:
    theirs = diffusers.models.StableCascadeUNet(**config)
    randomise(theirs)
    with torch.no_grad():
        for name, p in theirs.named_parameters():
            if name.endswith("gamma"):
                p.add_(1.0)
    ours = CascadeUNet(CascadeConfig.from_dict(dict(theirs.config)))
    ours.load_state_dict(theirs.state_dict())
    return ours.to(dtype).eval(), theirs.to(dtype).eval()


def asked(config: dict[str, Any], dtype: torch.dtype = torch.float64, side: int = 16) -> dict[str, Tensor]:
    """Two rows of everything that a network of this configuration is asked."""
    told = {
        "x": random(2, config.get("in_channels", 16), side, side + 8, dtype=dtype),
        "t": torch.tensor([0.13, 0.95], dtype=dtype),
        "pooled": random(2, 20, seed=2, dtype=dtype),
    }
    if "effnet_in_channels" in config:
        return {**told, "effnet": random(2, 16, 5, 6, seed=3, dtype=dtype)}
    return {**told, "text": random(2, 7, 24, seed=4, dtype=dtype), "image": random(2, 12, seed=5, dtype=dtype)}


def reference(theirs: nn.Module, told: dict[str, Tensor]) -> Tensor:
    image = told["image"][:, None] if "image" in told else None
    return theirs(
        told["x"],
        told["t"],
        told["pooled"][:, None],
        clip_text=told.get("text"),
        clip_img=image,
        effnet=told.get("effnet"),
    ).sample


@torch.no_grad()
def error(config: dict[str, Any], dtype: torch.dtype = torch.float64, side: int = 16) -> float:
    ours, theirs = both(config, dtype)
    told = asked(config, dtype, side)
    return difference(ours(**told), reference(theirs, told))


def stages(dtype: torch.dtype = torch.float64) -> tuple[StageA, nn.Module]:
    theirs = importlib.import_module(PAELLA).PaellaVQModel(**STAGE_A)
    randomise(theirs)
    with torch.no_grad():
        theirs.down_blocks[-1][1].running_mean.copy_(random(4))
        theirs.down_blocks[-1][1].running_var.copy_(random(4, seed=2).square() + 0.5)
    ours = StageA(StageAConfig.from_dict(dict(theirs.config)))
    ours.load_state_dict(theirs.state_dict())
    return ours.to(dtype).eval(), theirs.to(dtype).eval()


@torch.no_grad()
def stage_error(dtype: torch.dtype = torch.float64) -> float:
    ours, theirs = stages(dtype)
    picture, latents = random(2, 3, 16, 24, dtype=dtype), random(2, 4, 4, 6, dtype=dtype)
    encoded = difference(ours.encode(2 * picture - 1).mode(), theirs.encode(picture).latents)
    return max(encoded, difference((ours.decode(latents) + 1) / 2, theirs.decode(latents).sample))


@pytest.mark.parametrize("dtype", BARS, ids=str)
@pytest.mark.parametrize("name", KINDS)
def test_prediction_equals_the_reference(name: str, dtype: torch.dtype) -> None:
    assert error(KINDS[name], dtype) <= BARS[dtype]


def test_an_odd_grid_comes_back_in_its_own_size() -> None:
    assert error(DECODER, side=18) <= BARS[torch.float64]


@pytest.mark.parametrize("dtype", BARS, ids=str)
def test_stage_a_equals_the_reference(dtype: torch.dtype) -> None:
    assert stage_error(dtype) <= BARS[dtype]


@pytest.mark.parametrize("name", KINDS)
def test_names_and_shapes_are_the_released_ones_both_ways(name: str) -> None:
    ours, theirs = both(KINDS[name])
    assert {k: v.shape for k, v in ours.state_dict().items()} == {k: v.shape for k, v in theirs.state_dict().items()}


def test_the_names_of_stage_a_are_the_released_ones_both_ways() -> None:
    ours, theirs = stages()
    assert {k: v.shape for k, v in ours.state_dict().items()} == {k: v.shape for k, v in theirs.state_dict().items()}


@pytest.mark.parametrize("config", [PRIOR, DECODER], ids=["prior", "decoder"])
def test_rows_do_not_see_each_other(config: dict[str, Any]) -> None:
    ours, _ = both(config)
    told = asked(config)
    with torch.no_grad():
        swapped = ours(**{name: each.flip(0) for name, each in told.items()})
        assert difference(swapped.flip(0), ours(**told)) <= 1e-12


def _gain_for_shift(block: Any, x: Tensor, time: tuple[Tensor, ...], told: Tensor, kept: Any) -> Tensor:
    parts = [getattr(block, name)(each) for name, each in zip(block.names, time)]
    shift, gain = torch.stack(parts).sum(0)[:, :, None, None].chunk(2, dim=1)
    return x * (1 + gain) + shift


def _first_time_only(block: Any, x: Tensor, time: tuple[Tensor, ...], told: Tensor, kept: Any) -> Tensor:
    gain, shift = block.mapper(time[0])[:, :, None, None].chunk(2, dim=1)
    return x * (1 + gain) + shift


def _over_channels(norm: Any, x: Tensor) -> Tensor:
    strength = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return norm.gamma * (x * (strength / (strength.mean() + 1e-6))) + norm.beta + x


def _text_first(right: Any) -> Any:
    return lambda network, pooled, text, image: right(network, pooled, text, image).flip(1)[:, 1:]


MUTATIONS: dict[str, tuple[dict[str, Any], Callable[[Patch], None]]] = {
    "gain and shift swapped": (PRIOR, lambda p: p.setattr(model.TimeBlock, "forward", _gain_for_shift)),
    "further times left out": (PRIOR, lambda p: p.setattr(model.TimeBlock, "forward", _first_time_only)),
    "response over the wrong axis": (PRIOR, lambda p: p.setattr(model.ResponseNorm, "forward", _over_channels)),
    "another period": (PRIOR, lambda p: p.setattr(model, "PERIOD", 1000.0)),
    "a token forgotten": (PRIOR, lambda p: p.setattr(CascadeUNet, "tell", _text_first(CascadeUNet.tell))),
    "another epsilon": (DECODER, lambda p: p.setattr(model, "EPS", 1e-5)),
    "features not normalised": (
        DECODER,
        lambda p: p.setattr(model, "_mapped", lambda mapper, x: mapper[2](model.F.gelu(mapper[0](x)))),
    ),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_mistake_turns_the_comparison_red(name: str, monkeypatch: Patch) -> None:
    config, mutate = MUTATIONS[name]
    mutate(monkeypatch)
    assert error(config) > 1e2 * BARS[torch.float64]


def test_mistakes_in_stage_a_turn_it_red(monkeypatch: Patch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(stage_a, "EPS", 1e-5)
        assert stage_error() > 1e2 * BARS[torch.float64]
    ours, theirs = stages()
    with torch.no_grad():
        for block in ours.modules():
            if isinstance(block, stage_a.MixingBlock):
                block.gammas.copy_(block.gammas.roll(1))
        z = random(2, 4, 4, 6)
        assert difference((ours.decode(z) + 1) / 2, theirs.decode(z).sample) > 1e-3


def test_what_a_network_needs_is_asked_for() -> None:
    for config, missing in ((PRIOR, "text"), (PRIOR, "image"), (DECODER, "effnet")):
        ours, _ = both(config)
        told = asked(config)
        del told[missing]
        with pytest.raises(RequestError, match="was not given"):
            ours(**told)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"block_types_per_layer": ((TIME, RES), (RES, TIME))}, "begins with"),
        ({"num_attention_heads": (4, 7)}, "multiple of their 7 heads"),
        ({"clip_image_in_channels": None}, "both there"),
        ({"timestep_conditioning_type": ("sca", "x")}, "not supported"),
        ({"switch_level": (True, True)}, "2 entries"),
        ({"up_num_layers_per_block": (1, 1, 1)}, "3 entries"),
        ({"kernel_size": 4}, "odd"),
        ({"_class_name": "UNet2DConditionModel"}, "UNet2DConditionModel"),
    ],
)
def test_a_configuration_of_another_network_is_refused_by_name(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        CascadeConfig.from_dict({**PRIOR, **change})


def test_a_configuration_of_another_autoencoder_is_refused() -> None:
    with pytest.raises(ConfigError, match="halve once"):
        StageAConfig.from_dict({**STAGE_A, "embed_dim": 33})
    with pytest.raises(ConfigError, match="AutoencoderKL"):
        StageAConfig.from_dict({**STAGE_A, "_class_name": "AutoencoderKL"})
